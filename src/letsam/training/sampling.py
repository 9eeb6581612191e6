"""Which samples each step sees: a pure function of the seed and the step, so a checkpoint need not hold it.

All methods see the samples in the same order: each epoch permutes all of them once, from the seed. A method that holds
samples out leaves them out of this order.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, Subset, TensorDataset

from letsam.tasks import Task, targets_of, with_label_noise
from letsam.tasks.images import without_augmentation
from letsam.training.drifted import with_drift
from letsam.validation import RotatingFolds, held_out_split

TURNS = 3  # of rotating folds in a run; with many, the network remembers what is held out (measured on digits)

# The streams of random numbers that come from one seed; their numbers only have to differ.
NOISE, SPLIT, ORDER, VALIDATION_ORDER, RANKS, NUMBERS, SEARCH = range(7)


@dataclass(frozen=True)
class Splits:
    """Three disjoint sets: `train` for the weights, `validation` for the learned radius, `test` for the results."""

    train: Dataset[Any]
    validation: Dataset[Any] | None
    test: Dataset[Any]
    order: tuple[Tensor, int]
    """The indices of `train` among all the training samples, and the number of all."""
    folds: RotatingFolds | None = None
    """What is held out in each epoch; `train` and `validation` then have all the samples."""
    released: tuple[int, Tensor] | None = None
    """The epoch from which `train` has all the samples, and the indices of those that it has before."""

    @property
    def measured(self) -> Dataset[Any]:
        """`train` without augmentation, on which the training loss is measured; `train` itself where it has none."""
        return without_augmentation(self.train)


def generator(seed: int, stream: int, index: int = 0) -> torch.Generator:
    """A generator for one purpose, so that another draw for one purpose does not change the numbers of another."""
    return torch.Generator().manual_seed(((seed * 1_000_003 + stream) * 1_000_003 + index) % 2**63)


def make_splits(
    task: Task,
    seed: int,
    *,
    label_noise: float,
    validation_share: float,
    hold_out: bool,
    folds: int | None = None,
    epochs: int | None = None,
    validation_shift: str | None = None,
    release: float | None = None,
) -> Splits:
    """Make the splits for one seed.

    Args:
        task: its training data get the label noise, those held out as well; test data stay as they are.
        seed: of the noise and the split.
        label_noise: fraction of wrong training labels, at least 0 and below 1.
        validation_share: fraction held out where the task has no validation data of its own.
        hold_out: whether the method needs validation data.
        folds: hold out one of so many folds, another one in each third of the epochs, instead of a fixed share. With
            times, these are the last three periods, and what is earlier is trained on.
        epochs: of the run; None: the task's.
        validation_shift: simulated drift of the validation data, see `letsam.validation.shifted`; None: none.
        release: fraction of the epochs after which what is held out is trained on, too; None: never.

    Returns:
        The splits; without `hold_out`, all training data are trained on. Samples that are held out are not augmented.

    Raises:
        ValueError: too few samples to split, or label noise for targets that are not classes.
    """
    found = _clean_splits(task, seed, label_noise, validation_share, hold_out, folds, epochs)
    if release is not None and found.validation is not None:
        return _released(task, found, validation_shift, seed, label_noise, round(release * (epochs or task.epochs)))
    return _drifted(task, found, validation_shift, seed, folds)


def _released(
    task: Task, splits: Splits, validation_shift: str | None, seed: int, label_noise: float, epoch: int
) -> Splits:
    """The splits with all samples in `train`; before an epoch, those that are held out are left out of its order."""
    kept, total = splits.order
    drifted = _drifted(task, splits, validation_shift, seed, None)
    whole = _clean_splits(task, seed, label_noise, 0.0, False, None, None)
    released = max(1, epoch), kept
    return dataclasses.replace(drifted, train=whole.train, order=(torch.arange(total), total), released=released)


def _drifted(task: Task, found: Splits, validation_shift: str | None, seed: int, folds: int | None) -> Splits:
    if validation_shift is None or found.validation is None:
        return found
    groups = None
    if task.groups is not None and task.validation is None and folds is None:
        kept, total = found.order
        held_out = torch.ones(total, dtype=torch.bool)
        held_out[kept] = False
        groups = task.groups[held_out]
    return dataclasses.replace(found, validation=with_drift(task, found.validation, validation_shift, seed, groups))


def _clean_splits(
    task: Task,
    seed: int,
    label_noise: float,
    validation_share: float,
    hold_out: bool,
    folds: int | None,
    epochs: int | None,
) -> Splits:
    train = task.train
    if label_noise:
        train = with_label_noise(train, label_noise, generator=generator(seed, NOISE))
    total = len(train)  # pyright: ignore[reportArgumentType]
    everything = torch.arange(total)
    if not hold_out or task.validation is not None:
        # Validation data of the task's own are measured on by all methods, so that they can be compared by them.
        return Splits(train, task.validation, task.test, (everything, total))
    if folds is not None:
        length = epochs or task.epochs
        # Of periods the last ones, which leave the most to train on.
        turns = None if task.times is None else min(TURNS, length, folds - 1)
        rotation = RotatingFolds(
            targets_of(train),
            folds,
            every=math.ceil(length / (turns or TURNS)),
            groups=task.groups,
            times=task.times,
            turns=turns,
            kind=task.kind,
            seed=seed,
        )
        return Splits(train, without_augmentation(train), task.test, (everything, total), rotation)
    kept, held_out = held_out_split(
        targets_of(train),
        validation_share,
        generator(seed, SPLIT),
        kind=task.kind,
        groups=task.groups,
        times=task.times,
        name="validation_share",
    )
    return Splits(select(train, kept), without_augmentation(select(train, held_out)), task.test, (kept, total))


class SplitCache:
    """The splits of a task by seed. Each is made once; those of the last seed are kept.

    Args:
        task: the task.
        options: `label_noise`, `validation_share` and so on, as `make_splits` takes them.
    """

    def __init__(self, task: Task, **options: Any) -> None:
        self.task, self._options = task, options
        self._seed: int | None = None
        self._made: dict[bool, Splits] = {}

    def get(self, seed: int, *, hold_out: bool) -> Splits:
        """The splits of this seed, see `make_splits`."""
        if seed != self._seed:
            self._seed, self._made = seed, {}
        if hold_out not in self._made:
            self._made[hold_out] = make_splits(self.task, seed, hold_out=hold_out, **self._options)
        return self._made[hold_out]


def select(dataset: Dataset[Any], indices: Tensor) -> Dataset[Any]:
    """These samples of a dataset; a `TensorDataset` stays one, so that a batch is one indexing operation."""
    if type(dataset) is TensorDataset:  # not a subclass, which may augment what it reads
        return TensorDataset(*(tensor[indices] for tensor in dataset.tensors))
    return Subset(dataset, indices.tolist())


def training_order(order: tuple[Tensor, int], batch_size: int, seed: int, epoch: int) -> list[list[int]]:
    """The batches of one epoch. All are full, unless there are fewer samples than one batch holds.

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
    """The validation batch of a step: the next samples of an endless sequence of permutations."""
    size = min(batch_size, count)
    indices: list[int] = []
    position = step * size
    while len(indices) < size:
        permuted = torch.randperm(count, generator=generator(seed, VALIDATION_ORDER, position // count))
        taken = permuted[position % count :][: size - len(indices)]
        indices += taken.tolist()
        position += len(taken)
    return indices
