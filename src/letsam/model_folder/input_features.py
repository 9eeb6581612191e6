"""How inputs of a model are compared with those of its training: as shifts see them, in numbers with names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.data import Dataset

from letsam.model_folder.reference import FeatureColumn
from letsam.training.drifted import form_options
from letsam.validation.drift.drift_features import features_of
from letsam.validation.drift.feature_names import feature_names
from letsam.validation.drift.inputs import InputForm, unlabelled_inputs

CHUNK = 250  # inputs that are looked at together


@dataclass(frozen=True)
class InputFeatures:
    """Makes features of inputs.

    Args:
        form: of the inputs.
    """

    form: InputForm

    @classmethod
    def of_training(cls, dataset: Dataset[Any], owner: Any) -> InputFeatures | None:
        """Those of training data.

        Args:
            dataset: of (input, target) pairs, without augmentation.
            owner: the task, or anything else that has the `preparation` of the data.

        Returns:
            None where it cannot be told what the inputs are.
        """
        modality, options = form_options(owner)
        try:
            form = InputForm.of(dataset, modality, **options)
        except ValueError:
            return None
        return None if form.modality is None else cls(form)

    @classmethod
    def restored(
        cls, modality: str | None, content: Mapping[str, Any], image_range: tuple[Tensor, Tensor] | None, owner: Any
    ) -> InputFeatures | None:
        """What was saved as `facts` and the range of images."""
        if modality is None:
            return None
        low, high = image_range or (None, None)
        coding = {name: value for name, value in form_options(owner)[1].items() if name in ("decode", "encode")}
        mean, deviation = content["scale"]
        first, last = content["special"]
        return cls(
            InputForm(
                modality,
                0,
                low,
                high,
                channels=content["channels"],
                scale=(mean, deviation),
                letters=content["letters"],
                special=(first, last),
                **coding,
            )
        )

    @property
    def facts(self) -> dict[str, Any]:
        """What `restored` needs, as JSON values."""
        form = self.form
        return {
            "scale": list(form.scale),
            "channels": form.channels,
            "letters": form.letters,
            "special": list(form.special),
        }

    @property
    def image_range(self) -> tuple[Tensor, Tensor] | None:
        """Black and white of images."""
        return None if self.form.low is None or self.form.high is None else (self.form.low, self.form.high)

    def __call__(self, inputs: Iterable[Any]) -> Tensor:
        """The features of inputs without targets, float32, shape ``(inputs, features)``.

        Raises:
            ValueError: inputs of another shape than those of the training.
        """
        made: list[Tensor] = []
        chunk: list[Any] = []
        for one in inputs:
            chunk.append(one)
            if len(chunk) == CHUNK:
                made.append(self._of(chunk))
                chunk = []
        if chunk:
            made.append(self._of(chunk))
        return torch.cat(made) if made else torch.empty(0, 0)

    def _of(self, inputs: list[Any]) -> Tensor:
        batch = unlabelled_inputs(inputs, self.form)
        if self.form.modality == "table":  # the classifier gets absolute values as well, see `two_sample_rows`
            return cast("Tensor", batch).float().flatten(1)
        return features_of(self.form.opened(batch), self.form.modality)


def two_sample_rows(features: Tensor, modality: str | None) -> Tensor:
    """What the classifier two-sample test sees of features."""
    return features_of(features, "table") if modality == "table" else features


def columns_of(features: Tensor, modality: str | None, preparation: Any) -> tuple[FeatureColumn, ...]:
    """The features that are tested one by one: the columns of a table, or those that have a name."""
    width = features.shape[1]
    numbers: Sequence[Any] | None = getattr(preparation, "numbers", None)
    if modality != "table" or numbers is None:
        names = feature_names(modality, 2 * width if modality == "table" else width)
        return tuple(FeatureColumn(name, place, place + 1) for place, name in enumerate(names))
    found = [FeatureColumn(column.name, place, place + 1) for place, column in enumerate(numbers)]
    place = len(found)
    for column in numbers:
        if column.missing is not None:
            found.append(FeatureColumn(f"{column.name} is missing", place, place + 1, category=True))
            place += 1
    for column in preparation.categories:
        found.append(FeatureColumn(column.name, place, place + column.width, category=True))
        place += column.width
    return tuple(found)
