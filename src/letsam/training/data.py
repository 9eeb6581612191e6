"""Which samples each step sees. Everything here is a pure function of the seed and the step, so nothing needs saving.

All methods see the same order: in each epoch the samples are permuted once, from the seed; a method that holds some
out passes over these.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset

from letsam.tasks import Task, targets_of, with_label_noise
from letsam.validation import stratified_split

# Streams of random numbers that a seed is spread into; the numbers themselves only have to differ.
NOISE, SPLIT, ORDER, VALIDATION_ORDER = range(4)


@dataclass(frozen=True)
class Splits:
    """Three disjoint sets: `train` moves the weights, `validation` the radius, `test` is reported."""

    train: Dataset[Any]
    validation: Dataset[Any] | None
    test: Dataset[Any]
    order: tuple[Tensor, int]
    """Indices of `train` among all the training samples, and how many these are."""


def generator(seed: int, stream: int, index: int = 0) -> torch.Generator:
    """A generator of its own for each purpose, so that one more draw in one place shifts nothing in another."""
    return torch.Generator().manual_seed(((seed * 1_000_003 + stream) * 1_000_003 + index) % 2**63)


def make_splits(task: Task, seed: int, *, label_noise: float, validation_share: float, hold_out: bool) -> Splits:
    """The data of one run.

    Args:
        task: its training data get the label noise (the share held out of them too); test data stay as they are.
        seed: of the noise and the split.
        label_noise: share of wrong training labels, 0 to below 1.
        validation_share: share held out where the task has no validation data of its own.
        hold_out: whether the method needs validation data.

    Returns:
        The splits; without `hold_out` everything is trained on.

    Raises:
        ValueError: too few samples to split, or targets that label noise cannot be put on.
    """
    train = task.train
    if label_noise:
        train = with_label_noise(train, label_noise, generator=generator(seed, NOISE))
    total = len(train)  # pyright: ignore[reportArgumentType]
    everything = torch.arange(total)
    if not hold_out:
        return Splits(train, None, task.test, (everything, total))
    if task.validation is not None:
        return Splits(train, task.validation, task.test, (everything, total))
    kept, held_out = stratified_split(targets_of(train), validation_share, generator(seed, SPLIT))
    kept = kept.sort().values
    return Splits(subset(train, kept), subset(train, held_out), task.test, (kept, total))


def subset(dataset: Dataset[Any], indices: Tensor) -> Dataset[Any]:
    """Part of a dataset; tensors stay tensors, so that batches of them are one indexing."""
    if isinstance(dataset, TensorDataset):
        return TensorDataset(*(tensor[indices] for tensor in dataset.tensors))
    return Subset(dataset, indices.tolist())


class Batches:
    """Batches of a dataset by their indices, on a device.

    Args:
        dataset: (input, target) pairs; a `TensorDataset` is moved to the device once and indexed there.
        device: where the batches go.
    """

    def __init__(self, dataset: Dataset[Any], device: torch.device) -> None:
        self.dataset = dataset
        self.device = device
        self.tensors = [t.to(device) for t in dataset.tensors] if isinstance(dataset, TensorDataset) else None

    def __len__(self) -> int:
        """The number of samples."""
        return len(self.dataset)  # pyright: ignore[reportArgumentType]

    def take(self, batches: list[list[int]]) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches with these indices, in order."""
        if self.tensors is not None:
            for indices in batches:
                index = torch.tensor(indices, device=self.device)
                yield self.tensors[0][index], self.tensors[1][index]
            return
        for inputs, targets in DataLoader(self.dataset, batch_sampler=batches):
            yield inputs.to(self.device), targets.to(self.device)

    def one(self, indices: list[int]) -> tuple[Tensor, Tensor]:
        """A single batch."""
        return next(self.take([indices]))


def training_order(order: tuple[Tensor, int], batch_size: int, seed: int, epoch: int) -> list[list[int]]:
    """The batches of one epoch: full ones only, unless there are fewer samples than one batch holds.

    Args:
        order: `Splits.order`.
        batch_size: samples a batch.
        seed: of the permutation.
        epoch: from 0.

    Returns:
        Indices into the training split.
    """
    kept, total = order
    position = torch.full((total,), -1)
    position[kept] = torch.arange(len(kept))
    permuted = position[torch.randperm(total, generator=generator(seed, ORDER, epoch))]
    indices: list[int] = permuted[permuted >= 0].tolist()
    size = min(batch_size, len(indices))
    return [indices[start : start + size] for start in range(0, len(indices) - size + 1, size)]


def validation_batch(count: int, batch_size: int, seed: int, step: int) -> list[int]:
    """The validation batch of a step: the next ones of an endless chain of permutations."""
    size = min(batch_size, count)
    indices: list[int] = []
    position = step * size
    while len(indices) < size:
        permuted = torch.randperm(count, generator=generator(seed, VALIDATION_ORDER, position // count))
        taken = permuted[position % count :][: size - len(indices)]
        indices += taken.tolist()
        position += len(taken)
    return indices
