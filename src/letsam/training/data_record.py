"""What identifies the data of a trial, so that `--resume` does not mix runs on other data."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.data import Dataset, Subset

from letsam.tasks import Task
from letsam.tensors import lacks_float64

TOLERANCE = 1e-6  # of a checksum: another machine may round the last digits of the inputs differently


@dataclass(frozen=True)
class DataRecord:
    """The numbers of samples of a task, and checksums of the tensors that hold them.

    Args:
        samples: of the training, validation and test data; 0 without validation data.
        checksums: one for each tensor of a data set that keeps its samples, or its targets, in tensors. Other samples
            are not read.
    """

    samples: tuple[int, int, int]
    checksums: tuple[float, ...]

    @classmethod
    def of(cls, task: Task) -> DataRecord:
        """The record of a task's data.

        Example:
            >>> from letsam.tasks import load_task
            >>> DataRecord.of(load_task("digits")).samples
            (1000, 0, 797)
        """
        parts: list[Any] = [task.train, task.validation, task.test]
        sizes = [0 if part is None else len(part) for part in parts]
        tensors = (tensor for part in parts if part is not None for tensor in _tensors_of(part))
        return cls((sizes[0], sizes[1], sizes[2]), tuple(map(_checksum, tensors)))

    def as_json(self) -> dict[str, list[float]]:
        """The fields as JSON values."""
        return {"samples": list(self.samples), "checksums": list(self.checksums)}

    def difference(self, earlier: object) -> str | None:
        """How these data differ from those that `as_json` wrote; None where they do not, or an older file has none."""
        if not isinstance(earlier, Mapping):
            return None
        known = cast("Mapping[str, Any]", earlier)
        if list(self.samples) != known.get("samples"):
            return f"{known.get('samples')} samples for training, validation and test, got {list(self.samples)}"
        found = known.get("checksums")
        if not isinstance(found, list) or not _close(self.checksums, cast("list[Any]", found)):
            return f"samples with the checksums {found}, got {list(self.checksums)}"
        return None


def _close(ours: tuple[float, ...], theirs: list[Any]) -> bool:
    if len(ours) != len(theirs):
        return False
    if not all(value is None or isinstance(value, int | float) for value in theirs):
        return False
    numbers = [math.nan if value is None else value for value in theirs]
    pairs = zip(ours, numbers, strict=True)
    return all(a == b or abs(a - b) <= TOLERANCE or (math.isnan(a) and math.isnan(b)) for a, b in pairs)


def _tensors_of(dataset: Dataset[Any]) -> Iterator[Tensor]:
    """The tensors in which a data set keeps its samples or its targets."""
    if isinstance(dataset, Subset):
        yield torch.as_tensor(dataset.indices)
        yield from _tensors_of(cast("Dataset[Any]", dataset.dataset))
        return
    held: Any = getattr(dataset, "tensors", None) or [getattr(dataset, "targets", None)]
    for tensor in held:
        if isinstance(tensor, Tensor) and tensor.ndim > 0:
            yield tensor


def _checksum(tensor: Tensor) -> float:
    """A weighted mean of the samples' sums, over the mean of their sizes: it sees their order, too."""
    real = torch.view_as_real(tensor.detach()) if tensor.is_complex() else tensor.detach()
    real = real.cpu() if lacks_float64(real.device) else real
    sums = real.reshape(len(real), -1).sum(1, dtype=torch.float64).cpu()
    weights = torch.arange(1, len(sums) + 1, dtype=torch.float64).cos()
    size = float(sums.abs().sum())
    return float(weights @ sums) / size if size else 0.0
