"""Reading by worker processes: the same batches whoever reads them, in memory or from files, from any step on."""

from __future__ import annotations

import os
import random
import re
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import Dataset, Subset

import training_cases
from letsam.data.numbered import NumberedDataset, Source, StoredBatches
from letsam.tasks import Task, TaskError, with_label_noise
from letsam.training.batches_ahead import worker_count
from letsam.training.feed import Batches
from letsam.training.loop import Training
from training_cases import TEST, TRAIN, finish, same, start, weights, without_seconds

CPU = torch.device("cpu")


def moved(inputs: Tensor, numbers: Tensor) -> Tensor:
    """The inputs but for their ids, shifted by what the numbers say."""
    shift = (numbers % 1000).to(inputs)[:, None] / 1000
    return torch.cat([inputs[:, :1], inputs[:, 1:] + shift], dim=1)


class Files(NumberedDataset):
    """Stands for samples in files. A sample remembers nothing: it is a function of its index and its number."""

    reads_files = True

    def __init__(self, *, augmented: bool = True) -> None:
        self.inputs, self.targets = TRAIN.tensors
        self.augmented = augmented

    def raw(self, index: int, number: int) -> Tensor:
        given = self.inputs[index][None]
        return moved(given, torch.tensor([number]))[0] if self.augmented else given[0]

    def finish(self, inputs: Tensor) -> Tensor:
        return torch.cat([inputs[:, :1], inputs[:, 1:] * 0.5], dim=1)


class Stored(Files):
    """The same samples in memory."""

    reads_files = False

    def on_device(self, device: torch.device) -> StoredBatches:
        return OnDevice(self)


class OnDevice(StoredBatches):
    def __init__(self, data: Stored) -> None:
        self.data = data

    def batch(self, indices: Tensor, numbers: Tensor | None) -> Tensor:
        given = self.data.inputs[indices]
        return self.data.finish(given if numbers is None else moved(given, numbers))


class Drawing(Dataset[tuple[Tensor, int]]):
    """A data set of a user, which draws from the global generators of torch, numpy and Python."""

    def __len__(self) -> int:
        return 60

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        inputs, target = TRAIN[index]
        drawn = float(torch.rand(())) + float(np.random.rand()) + random.random()  # noqa: NPY002
        return torch.cat([inputs[:1], inputs[1:] + drawn]), int(target)


def task(train: Dataset[Any], **changes: Any) -> Task:
    return training_cases.task(train=train, test=TEST, **changes)


def run(of: Dataset[Any], method: str = "lets-sam", **options: Any) -> Training:
    """A finished run over 3 epochs of 7 steps, 6 for the learned radius."""
    return finish(start(task(of), method, 1, **options))


@pytest.fixture(scope="module")
def expected() -> Training:
    return run(Files(), workers=0)


def equal(one: Training, other: Training) -> bool:
    records = without_seconds(one.result()), without_seconds(other.result())
    return torch.equal(weights(one), weights(other)) and same(*records)


@pytest.mark.filterwarnings("ignore:This DataLoader will create 3 worker processes")  # on machines with 2 cores
@pytest.mark.parametrize("workers", [1, 2, 3])
def test_the_number_of_workers_changes_nothing(workers: int, expected: Training) -> None:
    assert equal(run(Files(), workers=workers), expected)


def test_what_is_in_memory_gives_the_same_as_files(expected: Training) -> None:
    stored = run(Stored())
    assert stored.train.in_memory
    assert stored.train.ahead is None
    assert equal(stored, expected)


def test_without_augmentation_the_result_is_another(expected: Training) -> None:
    assert not equal(run(Files(augmented=False), workers=0), expected)


@pytest.mark.parametrize("method", ["sgd", "lets-sam", "lets-paper-sam"])
def test_a_run_goes_on_in_the_middle_of_an_epoch(method: str) -> None:
    whole = run(Files(), method, workers=2)
    first = start(task(Files()), method, 1, workers=2)
    for steps in (4, 5, 1):  # 4, the rest of the epoch, 1
        first.advance(steps)
    assert (first.epoch, first.step) == (1, first.steps_per_epoch + 1)
    state = first.state_dict()
    second = start(task(Files()), method, 1, workers=0)
    second.load_state_dict(state)
    assert equal(finish(second), whole)
    assert len(second.rho_schedule) in (0, second.step)


@pytest.mark.parametrize("method", ["sam", "lets-sam"])
def test_stops_within_epochs_change_nothing_for_data_in_memory(method: str) -> None:
    plain = training_cases.task()
    whole, parts = finish(start(plain, method)), start(plain, method)
    while not parts.finished:
        parts.advance(2)
    assert equal(parts, whole)


@pytest.mark.parametrize("kind", [Files, Stored])
def test_batches_without_numbers_are_augmented_from_the_global_generator(kind: type[Files]) -> None:
    torch.manual_seed(2)
    inputs = [Batches(kind(), CPU).one([3, 4])[0] for _ in range(2)]
    torch.manual_seed(2)
    expected = [moved(TRAIN.tensors[0][[3, 4]], torch.randint(2**62, (2,))) for _ in range(2)]
    assert all(torch.equal(one[:, 1:], 0.5 * other[:, 1:]) for one, other in zip(inputs, expected, strict=True))
    assert not torch.equal(*inputs)


def test_every_epoch_and_every_sample_has_numbers_of_its_own() -> None:
    training = start(task(Stored()), "sgd", 1)
    seen = []
    for epoch in (0, 1):
        training.feed.begin(epoch)
        assert training.train.numbers is not None
        seen += training.train.numbers.tolist()
    assert len(set(seen)) == 120


def test_a_sample_has_the_same_number_in_all_methods() -> None:
    full, learned = start(task(Stored()), "sgd", 1), start(task(Stored()), "lets-sam", 1)
    rows: list[dict[int, Tensor]] = []
    for training in (full, learned):
        training.feed.begin(2)
        inputs, _ = training.train.one(list(range(len(training.train))))
        rows.append({int(row[0]): row for row in inputs})
    assert len(rows[1]) == 54
    assert all(torch.equal(row, rows[0][name]) for name, row in rows[1].items())


@pytest.mark.parametrize("kind", [Files, Stored])
def test_subsets_and_label_noise_read_the_samples_they_name(kind: type[Files]) -> None:
    data = with_label_noise(kind(augmented=False), 0.5, generator=torch.Generator().manual_seed(3))
    part = Subset(data, [7, 59, 3])
    inputs, targets = Batches(part, CPU).one([2, 0])
    assert inputs[:, 0].tolist() == [3, 7]
    assert targets.tolist() == [data[3][1], data[7][1]]
    assert Source.of(part).indices is not None
    assert any(data[i][1] != int(TRAIN.tensors[1][i]) for i in range(60))


@pytest.mark.parametrize("workers", [1, 2])
def test_data_sets_of_users_read_the_same_with_any_workers(workers: int) -> None:
    assert equal(run(Drawing(), "sam", workers=workers), run(Drawing(), "sam", workers=0))


def test_reading_with_numbers_leaves_the_global_generators_alone() -> None:
    batches = Batches(Drawing(), CPU)
    batches.numbers = torch.arange(60) * 1_000_003
    torch.manual_seed(4)
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # type: ignore[index] # noqa: NPY002
    one, again = batches.one([3, 4]), batches.one([4, 3])
    assert torch.equal(one[0], again[0].flip(0))
    assert torch.equal(states[0], torch.get_rng_state())
    assert states[1:] == (random.getstate(), np.random.get_state()[1].tolist())  # type: ignore[index] # noqa: NPY002


def test_without_the_option_a_data_set_draws_from_the_global_generator_as_before() -> None:
    """What built-in tasks with augmentation do: their results must stay as they were."""
    training = start(task(Drawing()), "sgd", 1)
    assert training.train.ahead is None
    training.feed.begin(0)
    assert training.train.numbers is None
    torch.manual_seed(4)
    random.seed(4)
    np.random.seed(4)  # noqa: NPY002
    found = training.train.one([3])[0][0]
    torch.manual_seed(4)
    random.seed(4)
    np.random.seed(4)  # noqa: NPY002
    assert torch.equal(found, Drawing()[3][0])


class Broken(Files):
    def raw(self, index: int, number: int) -> Tensor:
        if index == 11:
            raise OSError("picture 11\nis cut off")
        return super().raw(index, number)


class Ending(Files):
    def raw(self, index: int, number: int) -> Tensor:
        if index == 11 and torch.utils.data.get_worker_info() is not None:
            os._exit(3)
        return super().raw(index, number)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_sample_that_cannot_be_read_is_one_line(workers: int) -> None:
    with pytest.raises(TaskError, match=r"^`dataset` raised OSError: picture 11 is cut off") as caught:
        run(Broken(), "sgd", workers=workers)
    assert "\n" not in str(caught.value)


def test_a_worker_that_ends_is_one_line() -> None:
    with pytest.raises(TaskError, match=r"^one of the worker processes .* \(--workers\)") as caught:
        run(Ending(), "sgd", workers=2)
    assert not re.search("\n", str(caught.value))


@pytest.mark.parametrize("error", [ConnectionResetError, ConnectionRefusedError, EOFError, FileNotFoundError])
def test_a_worker_that_ends_while_it_hands_over_a_batch(
    error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut(*_: object, **__: object) -> None:
        raise error("cut")

    monkeypatch.setattr(torch.utils.data.dataloader._MultiProcessingDataLoaderIter, "_try_get_data", cut)
    with pytest.raises(TaskError, match=r"^one of the worker processes .* \(--workers\)"):
        run(Files(), "sgd", workers=1)


def test_workers_are_chosen_for_files_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(32)))
    assert [worker_count(given, reads_files=files) for given in (None, 0, 12) for files in (True, False)] == [
        *(8, 0),
        *(0, 0),
        *(12, 12),
    ]
    for cores, workers in ((1, 1), (2, 1), (4, 3)):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, cores=cores: set(range(cores)))
        assert worker_count(None, reads_files=True) == workers


class AtOnce(Dataset[tuple[Tensor, int]]):
    """Reads several samples at once, and remembers how many."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def __len__(self) -> int:
        return len(TRAIN)

    def __getitem__(self, index: int) -> Any:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: list[int]) -> list[Any]:
        self.sizes.append(len(indices))
        return [TRAIN[index] for index in indices]


class OneAnew(AtOnce):
    """Replaces the reading of a sample alone: what it inherits would pass it by."""

    def __getitem__(self, index: int) -> Any:
        inputs, target = TRAIN[index]
        return inputs + 1, target


def test_a_batch_is_read_at_once_where_a_data_set_can() -> None:
    data, expected = AtOnce(), Batches(TRAIN, CPU).one([5, 3, 8])
    for source, places in ((data, [5, 3, 8]), (Subset(data, [8, 5, 3]), [1, 2, 0])):
        inputs, targets = Batches(source, CPU).one(places)
        assert torch.equal(inputs, expected[0])
        assert torch.equal(targets, expected[1])
    assert data.sizes == [3, 3]
    inputs, _ = Batches(OneAnew(), CPU).one([5, 3, 8])
    assert torch.equal(inputs, expected[0] + 1)
