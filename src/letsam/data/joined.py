"""Data of two files as one: a model that is trained on new data must not forget the old ones."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterator
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.data import ConcatDataset, Dataset, Subset, TensorDataset

from letsam.data.loaded import LoadedData
from letsam.data.pictures import Pictures
from letsam.data.problems import DataError
from letsam.data.recordings import Recordings
from letsam.data.text_files import TextRows
from letsam.tasks import targets_of
from letsam.tasks.weighted import WeightedRows


def joined_data(new: LoadedData, old: LoadedData) -> LoadedData:
    """New data whose training samples have those of old data behind them.

    Old samples that equal a test sample are left out, where both are in memory.

    Args:
        new: its test and validation data stay as they are.
        old: prepared in the same way; its training data are added.

    Raises:
        DataError: the data have groups, as one of the groups could be in the old and in the test data.
    """
    if new.groups is not None or old.groups is not None:
        raise DataError("old and new data with a column `group` cannot be joined: a group may be in both of them")
    kept = places_not_in(_unweighted(old.train), _unweighted(new.test))
    count = len(old.train) - len(kept)  # pyright: ignore[reportArgumentType]
    train = joined_sets(_unweighted(new.train), some_of(_unweighted(old.train), kept))
    times = weights = None
    if new.times is not None and old.times is not None:
        times = torch.cat([new.times, old.times[kept]])
    if new.weights is not None and old.weights is not None:
        weights = torch.cat([new.weights, old.weights[kept]])
        train = WeightedRows(train, torch.cat([targets_of(new.train), targets_of(old.train)[kept]]), weights)
    rows = [("old data", f"{len(kept):,} training samples{f', without {count:,} test samples' if count else ''}")]
    return dataclasses.replace(new, train=train, times=times, weights=weights, inferred=(*new.inferred, *rows))


def joined_sets(first: Dataset[Any], second: Dataset[Any]) -> Dataset[Any]:
    """Two data sets as one, of the same type where both have it, so that they are read and augmented as before."""
    if type(first) is TensorDataset and type(second) is TensorDataset:
        return TensorDataset(*(torch.cat(pair) for pair in zip(first.tensors, second.tensors, strict=True)))
    one, other = cast(Any, first), cast(Any, second)
    if isinstance(first, TextRows) and isinstance(second, TextRows):
        return TextRows([*first.ids, *second.ids], torch.cat([one.targets, other.targets]))
    if isinstance(first, Pictures) and isinstance(second, Pictures) and first.scale == second.scale:
        targets = torch.cat([first.targets, second.targets])
        if isinstance(first.pixels, Tensor) and isinstance(second.pixels, Tensor):
            pixels = torch.cat([first.pixels, second.pixels])
        else:
            pixels = _Reads(first.pixels, second.pixels, len(first))
        return Pictures(pixels, targets, first.scale, first.augmentation)
    if isinstance(first, Recordings) and isinstance(second, Recordings):
        targets = torch.cat([first.targets, second.targets])
        return Recordings(cast(Any, _Reads(first.read, second.read, len(first))), targets, first.mean, first.std)
    return ConcatDataset([first, second])


def some_of(dataset: Dataset[Any], places: list[int]) -> Dataset[Any]:
    """These samples of a data set, of the same type where it can be."""
    if len(places) == len(dataset):  # pyright: ignore[reportArgumentType]
        return dataset
    if type(dataset) is TensorDataset:
        return TensorDataset(*(tensor[places] for tensor in dataset.tensors))
    one = cast(Any, dataset)
    if isinstance(dataset, TextRows):
        return TextRows([dataset.ids[i] for i in places], one.targets[places])
    if isinstance(dataset, Pictures) and isinstance(dataset.pixels, Tensor):
        return Pictures(dataset.pixels[places], dataset.targets[places], dataset.scale, dataset.augmentation)
    return Subset(dataset, places)


def places_not_in(dataset: Dataset[Any], other: Dataset[Any]) -> list[int]:
    """The places of the samples whose inputs `other` does not have; all of them where inputs are not in memory."""
    everything = list(range(len(dataset)))  # pyright: ignore[reportArgumentType]
    mine, theirs = _digests(dataset), _digests(other)
    if mine is None or theirs is None:
        return everything
    known = set(theirs)
    return [place for place, digest in zip(everything, mine, strict=True) if digest not in known]


def _digests(dataset: Dataset[Any]) -> Iterator[bytes] | None:
    if type(dataset) is TensorDataset:
        rows: Any = dataset.tensors[0]
    elif isinstance(dataset, TextRows):
        rows = dataset.ids
    elif isinstance(dataset, Pictures) and isinstance(dataset.pixels, Tensor):
        rows = dataset.pixels
    else:
        return None
    return (hashlib.sha256(row.detach().cpu().contiguous().numpy().tobytes()).digest() for row in rows)


def _unweighted(dataset: Dataset[Any]) -> Dataset[Any]:
    return dataset.dataset if isinstance(dataset, WeightedRows) else dataset


@dataclasses.dataclass(frozen=True)
class _Reads:
    """Reads a sample of the first of two parts, or of the second."""

    first: Tensor | Callable[[int], Tensor]
    second: Tensor | Callable[[int], Tensor]
    count: int

    def __call__(self, index: int) -> Tensor:
        part, place = (self.first, index) if index < self.count else (self.second, index - self.count)
        return part[place] if isinstance(part, Tensor) else part(place)
