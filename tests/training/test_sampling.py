"""Splits, label noise and batch order: functions of the seed and of nothing else, the same for every method."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import Dataset, TensorDataset

import training_cases
from letsam.tasks import Task, targets_of
from letsam.training.feed import Batches
from letsam.training.sampling import Splits, generator, make_splits, training_order, validation_batch
from training_cases import TRAIN, VALIDATION, blobs

CPU = torch.device("cpu")


def split(task: Task, seed: int = 0, *, noise: float = 0.0, share: float = 0.2, hold_out: bool = True) -> Splits:
    return make_splits(task, seed, label_noise=noise, validation_share=share, hold_out=hold_out)


def ids(dataset: Dataset[Any] | None) -> list[int]:
    assert dataset is not None
    return [int(dataset[i][0][0]) for i in range(len(dataset))]  # type: ignore[arg-type]


def labels(dataset: Dataset[Any] | None) -> dict[int, int]:
    assert dataset is not None
    return dict(zip(ids(dataset), targets_of(dataset).tolist(), strict=True))


def order_by_id(splits: Splits, batch_size: int, seed: int = 0, epoch: int = 0) -> list[list[int]]:
    named = ids(splits.train)
    return [[named[i] for i in batch] for batch in training_order(splits.order, batch_size, seed, epoch)]


# Splits


@pytest.mark.parametrize("items", [False, True])
@pytest.mark.parametrize("noise", [0.0, 0.4])
def test_train_validation_and_test_are_disjoint_and_complete(items: bool, noise: float) -> None:
    task = training_cases.task(items=items)
    splits = split(task, noise=noise)
    train, validation, test = ids(splits.train), ids(splits.validation), ids(splits.test)

    assert len(validation) == 12
    assert sorted(train + validation) == ids(TRAIN)
    assert splits.test is task.test
    assert not set(test) & set(train + validation)


@pytest.mark.parametrize("share", [0.1, 0.2, 0.5])
def test_validation_is_stratified(share: float) -> None:
    splits = split(training_cases.task(), share=share)
    whole = torch.bincount(TRAIN.tensors[1])
    held_out = torch.bincount(targets_of(splits.validation), minlength=3)  # type: ignore[arg-type]

    assert (held_out - share * whole).abs().max() < 1
    assert held_out.sum() == round(share * 60)


@pytest.mark.parametrize("validation", [None, VALIDATION])
def test_a_fixed_method_trains_on_everything(validation: Dataset[Any] | None) -> None:
    splits = split(training_cases.task(validation=validation), hold_out=False)

    assert ids(splits.train) == ids(TRAIN)
    assert splits.validation is validation  # which is measured on, and held out of nothing


def test_a_task_with_validation_data_of_its_own_gives_nothing_away() -> None:
    splits = split(training_cases.task(validation=VALIDATION), noise=0.4)

    assert ids(splits.train) == ids(TRAIN)
    assert splits.validation is VALIDATION  # and its labels stay clean


@pytest.mark.parametrize("items", [False, True])
def test_the_same_labels_are_wrong_for_every_method(items: bool) -> None:
    task = training_cases.task(items=items)
    clean = labels(TRAIN)
    everything = labels(split(task, noise=0.4, hold_out=False).train)
    learned = split(task, noise=0.4)

    assert sum(everything[i] != clean[i] for i in clean) == 24
    assert labels(learned.train) | labels(learned.validation) == everything
    assert labels(task.train) == clean
    assert labels(learned.test) == labels(training_cases.TEST)


def test_the_kind_of_dataset_changes_nothing() -> None:
    tensors, items = (split(training_cases.task(items=kind), noise=0.4) for kind in (False, True))

    assert labels(tensors.train) == labels(items.train)
    assert labels(tensors.validation) == labels(items.validation)
    assert order_by_id(tensors, 8) == order_by_id(items, 8)


def fingerprint(seed: int) -> list[Any]:
    """Label noise, split, order of the training samples and of the validation samples, each without the others."""
    task = training_cases.task()
    everything = split(task, seed, hold_out=False)
    return [
        labels(split(task, seed, noise=0.3, hold_out=False).train),
        ids(split(task, seed).validation),
        [training_order(everything.order, 8, seed, epoch) for epoch in range(3)],
        [validation_batch(12, 5, seed, step) for step in range(6)],
    ]


def test_the_seed_alone_decides_and_no_global_generator_is_touched() -> None:
    seen = []
    for state in (1, 2):
        torch.manual_seed(state)
        np.random.seed(state)  # noqa: NPY002 - the global generator is the point
        random.seed(state)
        before = (torch.get_rng_state(), random.getstate())
        seen.append(fingerprint(7))
        assert torch.equal(before[0], torch.get_rng_state())
        assert before[1] == random.getstate()
    assert seen[0] == seen[1]


def test_everything_differs_between_seeds() -> None:
    for one, other in zip(fingerprint(7), fingerprint(8), strict=True):
        assert one != other


def test_no_two_purposes_share_a_generator() -> None:
    indices = range(40)
    seeds = [generator(s, stream, i).initial_seed() for s in range(40) for stream in range(4) for i in indices]
    assert len(set(seeds)) == len(seeds)


@pytest.mark.parametrize("seed", [20240101, 2**31, 2**63 - 1])
def test_large_seeds(seed: int) -> None:
    assert fingerprint(seed) != fingerprint(seed - 1)


@pytest.mark.parametrize(
    ("samples", "share", "message"),
    [
        (3, 0.1, r"`validation_share` = 0.1 of 3 samples must leave at least 1 .* got 3 and 0"),
        (3, 0.9, r"`validation_share` = 0.9 of 3 samples must leave at least 1 .* got 0 and 3"),
    ],
)
def test_too_few_samples_to_split(samples: int, share: float, message: str) -> None:
    task = training_cases.task(train=blobs(samples, 1))
    with pytest.raises(ValueError, match=message):
        split(task, share=share)
    assert len(ids(split(task, share=share, hold_out=False).train)) == samples


def test_label_noise_needs_classes() -> None:
    task = training_cases.task(train=TensorDataset(torch.zeros(8, 5), torch.zeros(8)))
    with pytest.raises(ValueError, match=r"`label_noise` needs one whole-number class"):
        split(task, noise=0.1)


# Batch order


@pytest.mark.parametrize("epoch", [0, 1])
@pytest.mark.parametrize("seed", [0, 5])
def test_the_learned_methods_order_is_the_full_order_without_the_held_out(seed: int, epoch: int) -> None:
    task = training_cases.task()
    full, learned = split(task, seed, hold_out=False), split(task, seed)
    held_out = set(ids(learned.validation))
    everything = [i for (i,) in order_by_id(full, 1, seed, epoch)]
    kept = [i for i in everything if i not in held_out]

    assert sorted(everything) == ids(TRAIN)
    assert everything != ids(TRAIN)
    assert [i for (i,) in order_by_id(learned, 1, seed, epoch)] == kept
    assert order_by_id(learned, 8, seed, epoch) == [kept[i : i + 8] for i in range(0, 48, 8)]
    assert order_by_id(full, 8, seed, epoch) == [everything[i : i + 8] for i in range(0, 56, 8)]


def test_every_epoch_has_an_order_of_its_own() -> None:
    everything = (torch.arange(20), 20)
    orders = [training_order(everything, 20, 0, epoch) for epoch in range(5)]
    assert len({tuple(order[0]) for order in orders}) == 5


@pytest.mark.parametrize(
    ("samples", "batch_size", "sizes"),
    [(20, 8, [8, 8]), (16, 8, [8, 8]), (5, 8, [5]), (1, 1, [1]), (9, 8, [8])],
)
def test_batches_are_full(samples: int, batch_size: int, sizes: list[int]) -> None:
    batches = training_order((torch.arange(samples), samples), batch_size, 0, 0)
    assert [len(batch) for batch in batches] == sizes


@pytest.mark.parametrize(("count", "batch_size"), [(12, 4), (10, 4), (7, 7), (5, 8), (9, 1), (3, 2)])
def test_validation_batches_cover_every_sample_once_a_pass(count: int, batch_size: int) -> None:
    size = min(batch_size, count)
    batches = [validation_batch(count, batch_size, 3, step) for step in range(6 * count)]
    drawn = [index for batch in batches for index in batch]
    passes = [drawn[i : i + count] for i in range(0, 6 * count, count)]

    assert {len(batch) for batch in batches} == {size}
    assert all(sorted(one) == list(range(count)) for one in passes)
    assert len({tuple(one) for one in passes}) > 1
    assert validation_batch(count, batch_size, 3, 5) == batches[5]  # whatever was asked for before


# Batches


@pytest.mark.parametrize("items", [False, True])
def test_batches_hold_the_samples_asked_for(items: bool) -> None:
    batches = Batches(training_cases.task(items=items).train, CPU)
    wanted = [[5, 0, 7], [59], [3, 3]]
    taken: list[tuple[Tensor, Tensor]] = list(batches.take(wanted))

    assert len(batches) == 60
    for indices, (inputs, targets) in zip(wanted, taken, strict=True):
        assert torch.equal(inputs, TRAIN.tensors[0][indices])
        assert torch.equal(targets, TRAIN.tensors[1][indices])
    assert torch.equal(batches.one([4, 2])[1], TRAIN.tensors[1][[4, 2]])


class Augmented(TensorDataset):
    """The usual way to add a transform: inputs are moved, and classes renamed."""

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        inputs, target = super().__getitem__(index)
        return inputs + torch.tensor([0, 1.0, 1.0, 1.0, 1.0]), 2 - target


@pytest.mark.parametrize("noise", [0.0, 0.4])
def test_a_subclass_of_tensor_dataset_reads_its_samples_itself(noise: float) -> None:
    data = Augmented(*TRAIN.tensors)
    splits = split(training_cases.task(train=data), noise=noise)
    read = labels(splits.train) | labels(splits.validation)

    assert targets_of(data).tolist() == (2 - TRAIN.tensors[1]).tolist()
    assert sum(read[i] != 2 - int(target) for i, target in enumerate(TRAIN.tensors[1])) == round(noise * 60)
    for part in (splits.train, splits.validation):
        assert part is not None
        inputs, targets = Batches(part, CPU).one([3, 0])
        numbers = inputs[:, 0].long()
        assert torch.equal(inputs[:, 1:], TRAIN.tensors[0][numbers, 1:] + 1)
        assert targets.tolist() == [read[i] for i in numbers.tolist()]
