"""What identifies the data of a trial, so that `--resume` does not mix runs on other data."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.data import Dataset, Subset

from letsam.tasks import Task
from letsam.tasks.images import without_augmentation
from letsam.tasks.subset import evenly_spaced
from letsam.tensors import lacks_float64
from letsam.training.random_states import same_random_states

TOLERANCE = 1e-6  # of a checksum: another machine may round the last digits of the inputs differently
ITEM_TOLERANCE = 1e-3  # of that of a sample: decoders of images and sound differ by a rounding
ITEMS = 16
"""How many samples of a data set without tensors are read."""


@dataclass(frozen=True)
class DataRecord:
    """The numbers of samples of a task, and checksums of the tensors that hold them.

    Args:
        samples: of the training, validation and test data; 0 without validation data.
        checksums: one for each tensor of a data set that keeps its samples, or its targets, in tensors. Other samples
            are not read.
        items: for training, validation and test data that are not in tensors, the checksums of some samples with their
            targets, without augmentation; None for a sample that is not the same when it is read again.
    """

    samples: tuple[int, int, int]
    checksums: tuple[float, ...]
    items: tuple[tuple[float | None, ...], ...] = ((), (), ())

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
        items = tuple(_items(part) if part is not None else () for part in parts)
        return cls((sizes[0], sizes[1], sizes[2]), tuple(map(_checksum, tensors)), items)

    def as_json(self) -> dict[str, list[Any]]:
        """The fields as JSON values."""
        values: dict[str, list[Any]] = {"samples": list(self.samples), "checksums": list(self.checksums)}
        return values | ({"items": [list(part) for part in self.items]} if any(self.items) else {})

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
        items = known.get("items")
        if isinstance(items, list):  # older files have none
            for name, ours, theirs in zip(("training", "validation", "test"), self.items, items, strict=False):
                if not _close_items(ours, theirs):
                    return f"other samples for {name}"
        return None


def _close(ours: tuple[float, ...], theirs: list[Any]) -> bool:
    if len(ours) != len(theirs):
        return False
    if not all(value is None or isinstance(value, int | float) for value in theirs):
        return False
    numbers = [math.nan if value is None else value for value in theirs]
    pairs = zip(ours, numbers, strict=True)
    return all(a == b or abs(a - b) <= TOLERANCE or (math.isnan(a) and math.isnan(b)) for a, b in pairs)


def _close_items(ours: tuple[float | None, ...], theirs: object) -> bool:
    if not isinstance(theirs, list) or len(cast("list[Any]", theirs)) != len(ours):
        return False
    return all(
        a is None or not isinstance(b, int | float) or abs(a - b) <= ITEM_TOLERANCE
        for a, b in zip(ours, cast("list[Any]", theirs), strict=True)
    )


def _items(dataset: Dataset[Any]) -> tuple[float | None, ...]:
    """Checksums of samples that are evenly spread over a data set; none for one that is held in tensors."""
    inner: Any = dataset
    while isinstance(inner, Subset):
        inner = cast("Subset[Any]", inner).dataset
    if getattr(inner, "tensors", None) is not None:
        return ()
    plain: Any = without_augmentation(dataset)
    with same_random_states():
        return tuple(_item(plain, place) for place in evenly_spaced(len(plain), ITEMS))


def _item(dataset: Any, index: int) -> float | None:
    """The checksum of a sample; None if it is another one each time, or cannot be read: the rehearsal says why."""
    try:
        first, again = (_checksum(torch.tensor(list(_numbers(dataset[index])), dtype=torch.float64)) for _ in range(2))
    except Exception:
        return None
    return first if first == again else None


def _numbers(value: Any) -> Iterator[float]:
    """The numbers of a sample in order; text counts by its bytes."""
    if isinstance(value, Tensor):
        yield from value.detach().cpu().double().reshape(-1).tolist()
    elif isinstance(value, str | bytes):
        yield zlib.crc32(value.encode() if isinstance(value, str) else value) / 2**32
    elif isinstance(value, bool | int | float):
        yield float(value)
    elif isinstance(value, Mapping):
        for name, one in sorted(cast("Mapping[Any, Any]", value).items(), key=lambda pair: str(pair[0])):
            yield from _numbers(str(name))
            yield from _numbers(one)
    elif isinstance(value, tuple | list):
        for one in cast("list[Any]", value):
            yield from _numbers(one)
    elif hasattr(value, "__array__"):  # arrays of NumPy, images of Pillow
        import numpy

        yield from numpy.asarray(value).astype("float64").reshape(-1).tolist()


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
