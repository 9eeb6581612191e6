"""What a model predicts for data: classes with probabilities, labels, or numbers."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from letsam.results import replacing


@dataclass(frozen=True)
class PredictionTable:
    """The predictions for a file, folder or batch.

    Args:
        kind: "classification", "multilabel" or "regression".
        outputs: of the model: logits, or numbers; float, shape ``(samples, outputs)``.
        names: of the classes, labels or predicted columns; empty where they have none.
        samples: names of the samples, such as files; empty: they are numbered from 0, in the order of the data.

    Example:
        >>> import torch
        >>> table = PredictionTable("classification", torch.tensor([[0.0, 2.0]]), ("cat", "dog"))
        >>> table.labels, [round(p, 2) for p in table.probabilities[0].tolist()]
        (['dog'], [0.12, 0.88])
    """

    kind: str
    outputs: Tensor
    names: tuple[str, ...] = ()
    samples: tuple[str, ...] = ()

    def __len__(self) -> int:
        """The number of samples."""
        return len(self.outputs)

    @property
    def probabilities(self) -> Tensor:
        """Of the classes (they sum to 1) or of each label; float64, shape ``(samples, outputs)``.

        Raises:
            ValueError: the model predicts numbers.
        """
        if self.kind == "regression":
            raise ValueError("`probabilities` need a model of classes, got one that predicts numbers; see `outputs`")
        logits = self.outputs.double()
        return logits.softmax(dim=1) if self.kind == "classification" else logits.sigmoid()

    @property
    def labels(self) -> list[str]:
        """The most probable class of each sample; of a multi-label model the labels above one half, joined by ``;``.

        Raises:
            ValueError: the model predicts numbers.
        """
        probabilities, names = self.probabilities, self._columns
        if self.kind == "classification":
            return [names[index] for index in probabilities.argmax(dim=1).tolist()]
        rows = (probabilities >= 0.5).tolist()
        return [";".join(name for name, present in zip(names, row, strict=True) if present) for row in rows]

    def rows(self) -> Iterator[list[str]]:
        """The rows of the CSV file, with its heading: sample, prediction and probabilities, or sample and numbers."""
        samples = self.samples or tuple(map(str, range(len(self))))
        if self.kind == "regression":
            yield ["sample", *(self._columns if len(self._columns) > 1 or self.names else ["prediction"])]
            for sample, values in zip(samples, self.outputs.tolist(), strict=True):
                yield [sample, *map(_number, values)]
            return
        yield ["sample", "prediction", *(f"probability of {name}" for name in self._columns)]
        for sample, label, values in zip(samples, self.labels, self.probabilities.tolist(), strict=True):
            yield [sample, label, *map(_number, values)]

    def save(self, path: str | Path) -> None:
        """Write the rows as CSV (UTF-8), so that a reader sees the old file or the new one."""
        with replacing(Path(path)) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows(self.rows())

    @property
    def _columns(self) -> list[str]:
        return list(self.names) or [str(index) for index in range(self.outputs.shape[1])]


def _number(value: float) -> str:
    return f"{value:.7g}"
