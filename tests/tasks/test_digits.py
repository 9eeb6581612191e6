"""The digits of scikit-learn."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from letsam.tasks import TaskError, load_task


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# Digits


def test_digits_division_and_scale() -> None:
    task = load_task("digits")
    assert isinstance(task.train, TensorDataset)
    assert isinstance(task.test, TensorDataset)
    inputs, targets = task.train.tensors

    assert inputs.shape == (1000, 1, 8, 8)
    assert task.test.tensors[0].shape == (797, 1, 8, 8)
    assert (inputs.dtype, targets.dtype) == (torch.float32, torch.int64)
    assert inputs.mean().item() == pytest.approx(0, abs=1e-5)
    assert inputs.std().item() == pytest.approx(1, abs=1e-5)
    both = torch.cat([targets, task.test.tensors[1]])
    for label in range(10):
        expected = 1000 * int((both == label).sum()) / 1797
        assert abs(int((targets == label).sum()) - expected) <= 1


def test_digits_train_and_test_are_all_images_once() -> None:
    from sklearn.datasets import load_digits

    task = load_task("digits")
    loaded = torch.cat([torch.stack([x for x, _ in part]).flatten(1) for part in (task.train, task.test)])  # type: ignore[misc]
    raw = torch.tensor(load_digits(return_X_y=True)[0], dtype=torch.float32)
    low, high = loaded.min(), loaded.max()
    pixels = ((loaded - low) / (high - low) * 16).round()

    assert sorted(pixels.tolist()) == sorted(raw.tolist())


def test_digits_do_not_depend_on_the_seed() -> None:
    torch.manual_seed(1)
    first = load_task("digits")
    torch.manual_seed(2)
    state = torch.get_rng_state()
    second = load_task("digits")

    assert torch.equal(first.train[:][0], second.train[:][0])
    assert torch.equal(first.test[:][1], second.test[:][1])
    assert torch.equal(state, torch.get_rng_state())


def test_digits_model_is_fresh_and_seeded_by_the_caller() -> None:
    task = load_task("digits")
    weights = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        weights.append(nn.utils.parameters_to_vector(task.model().parameters()))
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert task.model()(task.train[:5][0]).shape == (5, 10)


def test_digits_train_size_is_stratified_and_nested() -> None:
    small = load_task("digits", train_size=100)
    large = load_task("digits", train_size=600)

    assert len(small.train) == 100  # type: ignore[arg-type]
    assert torch.equal(small.train[:][0], large.train[:100][0])
    assert torch.equal(small.test[:][0], large.test[:][0])
    counts = torch.bincount(small.train[:][1])
    assert counts.min() >= 9
    assert counts.max() <= 11
    assert torch.bincount(load_task("digits", train_size=10).train[:][1]).tolist() == [1] * 10


@pytest.mark.parametrize("size", [0, 9, 1001, -5, 20.0, True])
def test_digits_train_size_out_of_range(size: Any) -> None:
    with pytest.raises(TaskError, match=rf"`train_size` must be a whole number from 10 to 1000, got {size}"):
        load_task("digits", train_size=size)


def test_options_a_built_in_task_does_not_take(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=r"task 'digits' takes no `data_dir`"):
        load_task("digits", data_dir=tmp_path)


def test_digits_without_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(TaskError, match=r"`digits` needs scikit-learn; install it with `pip install"):
        load_task("digits")


@pytest.fixture
def _one_thread() -> Iterator[None]:
    """On layers as small as these, threads only get in each other's way."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("_one_thread")
def test_digits_learns() -> None:
    task = load_task("digits")
    torch.manual_seed(0)
    model = task.model()
    optimizer = task.optimizer(model.parameters())
    order = generator()
    for _ in range(10):
        for inputs, targets in DataLoader(task.train, task.batch_size, shuffle=True, generator=order):
            optimizer.zero_grad()
            task.loss(model(inputs), targets).backward()
            optimizer.step()
    inputs, targets = task.test[:]
    assert task.metric(model(inputs), targets).item() > 0.93
