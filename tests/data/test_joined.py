"""Old and new data as one: every sample once, in order, read as before, and none of the test samples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
import torch
from torch import Tensor
from torch.utils.data import ConcatDataset, TensorDataset

from data_cases import loaded
from letsam.data import DataError, DataOptions, KnownForm, LoadedData, read_data
from letsam.data.joined import joined_data, joined_sets, places_not_in, some_of
from letsam.data.pictures import Pictures
from letsam.tasks import targets_of
from letsam.tasks.weighted import WeightedRows
from letsam.training.feed import Batches
from picture_files import folder as pictures


def again(path: Path, of: LoadedData, **options: Any) -> LoadedData:
    return read_data(DataOptions(path=str(path), **options), KnownForm(of.preparation, of.kind, of.classes))


def inputs(dataset: Any) -> list[Any]:
    plain = dataset.without_augmentation() if hasattr(dataset, "without_augmentation") else dataset
    return [plain[i][0] for i in range(len(plain))]


def same(one: Any, other: Any) -> bool:
    return torch.equal(one["input_ids"], other["input_ids"]) if isinstance(one, dict) else torch.equal(one, other)


def check_joined(new: LoadedData, old: LoadedData) -> LoadedData:
    found = joined_data(new, old)
    expected = [*inputs(new.train), *inputs(old.train)]
    assert len(found.train) == len(expected)  # type: ignore[arg-type]
    assert all(same(a, b) for a, b in zip(inputs(found.train), expected, strict=True))
    assert torch.equal(targets_of(found.train), torch.cat([targets_of(new.train), targets_of(old.train)]))
    assert found.test is new.test
    return found


def table(folder: Path, name: str, start: int, count: int, **more: Any) -> Path:
    random = np.random.default_rng(start)
    frame = pandas.DataFrame({"a": random.normal(size=count), "b": random.normal(size=count)})
    frame["y"] = np.where(frame["a"] > 0, "yes", "no")
    frame.assign(**{key: value(count) for key, value in more.items()}).to_csv(folder / name, index=False)
    return folder / name


def test_tables(tmp_path: Path) -> None:
    old = loaded(table(tmp_path, "old.csv", 0, 40), target="y")
    found = check_joined(again(table(tmp_path, "new.csv", 1, 30), old, target="y"), old)
    assert type(found.train) is TensorDataset
    assert found.inferred[-1] == ("old data", "32 training samples")


def test_weights_and_times(tmp_path: Path) -> None:
    options = {"target": "y", "weight": "w", "time": "t"}
    columns = {"w": lambda n: np.arange(1, n + 1), "t": np.arange}
    old = loaded(table(tmp_path, "old.csv", 0, 40, **columns), **options)
    new = again(table(tmp_path, "new.csv", 1, 30, **columns), old, **options)
    found = joined_data(new, old)
    assert isinstance(found.train, WeightedRows)
    assert found.weights is not None
    assert new.weights is not None
    assert old.weights is not None
    assert torch.equal(found.weights, torch.cat([new.weights, old.weights]))
    expected = found.weights / found.weights.mean()
    torch.testing.assert_close(found.train.weights.double(), expected.double())
    assert found.times is not None
    assert len(found.times) == len(found.weights) == len(found.train) == 24 + 32


def test_groups_are_refused(tmp_path: Path) -> None:
    options = {"target": "y", "group": "g"}
    old = loaded(table(tmp_path, "old.csv", 0, 40, g=lambda n: np.arange(n) // 2), **options)
    new = again(table(tmp_path, "new.csv", 1, 30, g=lambda n: np.arange(n) // 2), old, **options)
    with pytest.raises(DataError, match="old and new data with a column `group` cannot be joined"):
        joined_data(new, old)


def test_texts(tmp_path: Path) -> None:
    for name, word, count in (("old.csv", "film", 40), ("new.csv", "plot", 20)):
        texts = [f"{word} {i} {'good' if i % 2 else 'bad'}" for i in range(count)]
        pandas.DataFrame({"text": texts, "y": ["no", "yes"] * (count // 2)}).to_csv(tmp_path / name, index=False)
    old = loaded(tmp_path / "old.csv", target="y", text="text")
    new = again(tmp_path / "new.csv", old, target="y", text="text")
    found = check_joined(new, old)
    assert type(found.train) is type(new.train)


@pytest.mark.parametrize("memory", [2.0, 0.0])
def test_images_in_memory_and_in_files(memory: float, tmp_path: Path) -> None:
    old = loaded(pictures(tmp_path / "old"), memory=memory)
    new = again(pictures(tmp_path / "new", first=50), old)  # in memory
    found = check_joined(new, old)
    assert isinstance(found.train, Pictures)
    assert isinstance(found.train.pixels, Tensor) == (memory > 0)
    assert found.train.augmented
    batch = Batches(found.train, torch.device("cpu"))
    batch.numbers = torch.arange(len(found.train))
    first, last = batch.one([0])[0], batch.one([len(found.train) - 1])[0]
    mine, theirs = Batches(new.train, torch.device("cpu")), Batches(old.train, torch.device("cpu"))
    mine.numbers = torch.arange(len(found.train))
    theirs.numbers = torch.arange(len(found.train)).flip(0)[: len(old.train)].flip(0)  # type: ignore[arg-type]
    assert torch.equal(first, mine.one([0])[0])
    assert torch.equal(last, theirs.one([len(old.train) - 1])[0])  # type: ignore[arg-type]


def test_old_samples_that_are_test_samples_are_left_out(tmp_path: Path) -> None:
    old = loaded(table(tmp_path, "old.csv", 0, 40), target="y")
    new = again(tmp_path / "old.csv", old, target="y", test_share=0.5)  # the same rows, divided otherwise
    held_out = {tuple(row.tolist()) for row in inputs(new.test)}
    assert any(tuple(row.tolist()) in held_out for row in inputs(old.train))
    found = joined_data(new, old)
    assert not any(tuple(row.tolist()) in held_out for row in inputs(found.train))
    count = sum(tuple(row.tolist()) in held_out for row in inputs(old.train))
    assert found.inferred[-1] == ("old data", f"{32 - count} training samples, without {count} test samples")


def test_other_data_sets(tmp_path: Path) -> None:
    class Own(TensorDataset):
        pass

    tensors = torch.arange(8.0).reshape(4, 2), torch.tensor([0, 1, 0, 1])
    found = joined_sets(Own(*tensors), TensorDataset(*tensors))
    assert isinstance(found, ConcatDataset)
    assert len(found) == 8
    assert torch.equal(targets_of(found), torch.cat([tensors[1], tensors[1]]))
    assert places_not_in(Own(*tensors), TensorDataset(*tensors)) == [0, 1, 2, 3]
    assert places_not_in(TensorDataset(*tensors), TensorDataset(tensors[0][1:2], tensors[1][:1])) == [0, 2, 3]
    part = some_of(Own(*tensors), [2, 0])
    assert torch.equal(part[0][0], tensors[0][2])
    assert len(part) == 2  # type: ignore[arg-type]
