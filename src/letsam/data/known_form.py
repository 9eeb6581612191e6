"""The form of data that a model knows: new data with targets are prepared as its training data were."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

from letsam.data.labels import Labels
from letsam.data.preparation import Preparation
from letsam.data.problems import DataError
from letsam.data.table_files import Frame
from letsam.data.targets import TargetPlan, known_plan

P = TypeVar("P", bound=Preparation)


@dataclass(frozen=True)
class KnownForm:
    """How inputs and targets are made of new data, as `read_data` takes it.

    New data may lack some of the classes; one that is not known is an error.

    Args:
        preparation: of the inputs, fitted on earlier data.
        kind: "classification", "multilabel" or "regression".
        classes: names of the classes or labels; empty for regression.
    """

    preparation: Preparation
    kind: str
    classes: tuple[str, ...] = ()

    def prepared_by(self, kind: type[P], path: str) -> P:
        """The preparation, if data at this path are of its modality.

        Raises:
            DataError: they are of another one.
        """
        if not isinstance(self.preparation, kind):
            raise DataError(
                f"{path}: expected data of the kind {self.preparation.modality}, which the model was trained on, got "
                f"{kind.modality}"
            )
        return self.preparation

    @property
    def labels(self) -> Labels:
        """How labels of files and arrays are made targets."""
        return Labels(self.kind, self.classes)

    def plan(self, frame: Frame, columns: tuple[str, ...], path: str) -> TargetPlan:
        """How the target of a table is encoded."""
        return known_plan(frame, columns, self.kind, self.classes, path)
