"""What identifies the data of a trial, for data sets that are not tensors: a sample of their items."""

from __future__ import annotations

import json
import random
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import Dataset, Subset

import training_cases
from letsam.training.data_record import ITEMS, DataRecord
from training_cases import TEST, TRAIN, Items


class Changed(Items):
    """The samples with one of them changed."""

    def __init__(self, tensors: Any, index: int, *, target: bool) -> None:
        super().__init__(tensors)
        self.index, self.target = index, target

    def __getitem__(self, index: int) -> Any:
        inputs, target = super().__getitem__(index)
        if index == self.index:
            return (inputs, target + 1) if self.target else (inputs + 0.5, target)
        return inputs, target


def record(train: Dataset[Any], **changes: Any) -> DataRecord:
    return DataRecord.of(training_cases.task(train=train, test=Items(TEST), **changes))


def stored(one: DataRecord) -> Any:
    return json.loads(json.dumps(one.as_json()))


class Untold(Items):
    """Without the tensor `targets`, so that only the items tell."""

    def __init__(self, tensors: Any) -> None:
        self.inputs, self.hidden = tensors.tensors

    def __len__(self) -> int:
        return len(self.hidden)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.inputs[index], int(self.hidden[index])


def test_items_of_other_data_differ() -> None:
    ours = record(Untold(TRAIN))
    assert (len(ours.items[0]), ours.items[1], len(ours.items[2])) == (ITEMS, (), ITEMS)
    assert ours.difference(stored(ours)) is None
    other = record(Untold(training_cases.blobs(60, 9)))
    assert other.difference(stored(ours)) == "other samples for training"
    reversed_order = record(Subset(Untold(TRAIN), range(59, -1, -1)))
    assert reversed_order.difference(stored(ours)) is not None


@pytest.mark.parametrize("target", [False, True])
def test_one_changed_sample_among_those_that_are_read(target: bool) -> None:
    ours = record(Items(TRAIN))
    changed = record(Changed(TRAIN, 0, target=target))
    assert changed.difference(stored(ours)) == "other samples for training"


def test_a_rounding_of_a_decoder_is_no_difference() -> None:
    class Rounded(Untold):
        def __getitem__(self, index: int) -> tuple[Tensor, int]:
            inputs, target = super().__getitem__(index)
            return inputs * (1 + 1e-5), target

    ours = record(Untold(TRAIN))
    assert record(Rounded(TRAIN)).difference(stored(ours)) is None


def test_samples_that_are_others_each_time_are_left_out_and_random_states_stay() -> None:
    class Noisy(Untold):
        def __getitem__(self, index: int) -> tuple[Tensor, int]:
            inputs, target = super().__getitem__(index)
            noise = torch.randn(()) + random.random() + float(np.random.rand())  # noqa: NPY002
            return (inputs + noise if index else inputs), target

    task = training_cases.task(train=Noisy(TRAIN), test=Items(TEST))
    torch.manual_seed(1)
    random.seed(2)
    np.random.seed(3)  # noqa: NPY002
    expected = [float(torch.rand(())), random.random(), float(np.random.rand())]  # noqa: NPY002
    torch.manual_seed(1)
    random.seed(2)
    np.random.seed(3)  # noqa: NPY002
    ours = DataRecord.of(task)
    assert [float(torch.rand(())), random.random(), float(np.random.rand())] == expected  # noqa: NPY002
    assert ours.items[0][1:] == (None,) * (ITEMS - 1)
    assert ours.items[0][0] is not None
    assert ours.difference(stored(ours)) is None


def test_items_of_many_kinds() -> None:
    class Rows(list[Any]):
        pass

    rows = [({"text": f"line {i}", "image": np.full((2, 2), i, dtype=np.uint8)}, [i, 0.5]) for i in range(3)]
    ours = record(Rows(rows))
    assert len(ours.items[0]) == 3
    other = [*rows[:2], ({**rows[2][0], "text": "another"}, [2, 0.5])]
    assert record(Rows(other)).difference(stored(ours)) == "other samples for training"


def test_tensors_and_older_files_are_as_before() -> None:
    held = DataRecord.of(training_cases.task())
    assert held.items == ((), (), ())
    assert stored(held).keys() == {"samples", "checksums"}
    ours = record(Untold(TRAIN))
    older = {name: value for name, value in stored(ours).items() if name != "items"}
    assert record(Untold(training_cases.blobs(60, 9))).difference(older) is None
