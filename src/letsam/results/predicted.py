"""The outputs of a finished run on the test set, and the file that holds them beside `results.json`."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

from letsam.results.files import replacing

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["FOLDER", "Kind", "Predictions", "load_predictions", "predictions_file"]

FOLDER = "predictions"
"""The folder of these files within the folder of a trial."""

Kind = Literal["classification", "multilabel", "regression"]
KINDS = ("classification", "multilabel", "regression")


@dataclass(frozen=True)
class Predictions:
    """What one run gives for each sample of the test set, in the order of the test set.

    Args:
        method: of the run.
        seed: of the run.
        kind: "classification", "multilabel" or "regression".
        outputs: of the model, float32, shape ``(samples, outputs)``: a score for each class, or predicted numbers.
        targets: classes, int64, shape ``(samples,)``; for the other kinds float32, shape ``(samples, outputs)``.
        classes: their names, in the order of the outputs; empty where they have none.
        samples: names of the samples, such as their files; empty where they have none.

    Raises:
        ValueError: shapes or types that do not belong together.
    """

    method: str
    seed: int
    kind: Kind
    outputs: NDArray[np.float32]
    targets: NDArray[np.generic]
    classes: tuple[str, ...] = ()
    samples: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"`kind` must be one of {', '.join(KINDS)}, got {self.kind!r}")
        samples, width = self.outputs.shape if self.outputs.ndim == 2 else (0, 0)
        if not samples or not width:
            raise ValueError(f"`outputs` must have the shape (samples, outputs), got {self.outputs.shape}")
        expected = (samples,) if self.kind == "classification" else (samples, width)
        if self.targets.shape != expected:
            raise ValueError(f"`targets` must have the shape {expected}, got {self.targets.shape}")
        if self.kind == "classification" and not (
            self.targets.dtype.kind in "iu" and 0 <= int(self.targets.min()) <= int(self.targets.max()) < width
        ):
            raise ValueError(f"`targets` must be classes from 0 to {width - 1}")
        if self.classes and len(self.classes) != width:
            raise ValueError(f"`classes` must name {width} outputs, got {len(self.classes)} names")
        if self.samples and len(self.samples) != samples:
            raise ValueError(f"`samples` must name {samples} samples, got {len(self.samples)} names")

    @property
    def key(self) -> tuple[str, int]:
        """The method and the seed, as `Run.key` has them."""
        return self.method, self.seed

    @property
    def names(self) -> tuple[str, ...]:
        """A name for each output: that of the class, or its number."""
        return self.classes or tuple(map(str, range(self.outputs.shape[1])))

    def save(self, folder: Path) -> Path:
        """Write the file of this run into the folder of a trial, in one atomic step."""
        import numpy as np
        from safetensors.numpy import save_file

        path = folder / FOLDER / predictions_file(self.method, self.seed)
        about = {"method": self.method, "seed": self.seed, "kind": self.kind, "classes": self.classes}
        about |= {"samples": self.samples}
        tensors = {"outputs": np.ascontiguousarray(self.outputs), "targets": np.ascontiguousarray(self.targets)}
        with replacing(path) as temporary:
            save_file(tensors, temporary, metadata={"run": json.dumps(about)})  # of many entries the order is random
        return path

    @classmethod
    def load(cls, path: Path) -> Predictions:
        """Read a file that `save` has written.

        Raises:
            ValueError: it is another kind of file, or damaged; one line that names it.
        """
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="numpy") as file:
                about = json.loads((file.metadata() or {})["run"])
                outputs, targets = file.get_tensor("outputs"), file.get_tensor("targets")
            names = [tuple(map(str, about.get(name, ()))) for name in ("classes", "samples")]
            return cls(about["method"], int(about["seed"]), cast(Kind, about["kind"]), outputs, targets, *names)
        except (SafetensorError, OSError, KeyError, ValueError, TypeError) as error:
            reason = " ".join(str(error).split())
            raise ValueError(f"{path}: expected the predictions of a run, got another file: {reason}") from None


def predictions_file(method: str, seed: int) -> str:
    """The name of the file of a run.

    Example:
        >>> predictions_file("lets-sam:0.1+refit", 2)
        'lets-sam-0.1+refit-2.safetensors'
    """
    safe = "".join(c if c.isalnum() or c in "+-._" else "-" for c in method)
    return f"{safe}-{seed}.safetensors"


def load_predictions(folder: Path, runs: Iterable[tuple[str, int]]) -> tuple[Predictions, ...]:
    """Read the predictions of these runs, as far as they are there.

    Args:
        folder: of the trial.
        runs: method and seed of each.

    Returns:
        Those of the runs that have a file, in their order. Runs of a task whose outputs are not one row for each sample
        have none, and neither have those of an older letsam.

    Raises:
        ValueError: a file is damaged.
    """
    found: list[Predictions] = []
    for method, seed in runs:
        path = folder / FOLDER / predictions_file(method, seed)
        if path.is_file():
            read = Predictions.load(path)
            if read.key == (method, seed):  # two names may give one file
                found.append(read)
    return tuple(found)
