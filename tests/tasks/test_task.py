"""The record of a task and its checks."""

import dataclasses
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import IterableDataset, TensorDataset

from letsam.tasks import Task, accuracy


def dataset(samples: int = 6) -> TensorDataset:
    return TensorDataset(torch.zeros(samples, 4), torch.arange(samples) % 3)


def make(**fields: Any) -> Task:
    defaults: dict[str, Any] = {
        "name": "tiny",
        "model": lambda: nn.Linear(4, 3),
        "train": dataset(),
        "test": dataset(),
    }
    return Task(**{**defaults, **fields})


class Stream(IterableDataset[Any]):
    def __len__(self) -> int:
        return 3

    def __iter__(self) -> Any:
        return iter(())


def test_defaults_train_a_classifier() -> None:
    task = make()
    outputs = task.model()(task.train[0][0].unsqueeze(0))

    assert task.loss(outputs, torch.tensor([1])).ndim == 0
    assert task.metric(torch.tensor([[0.0, 1.0], [0.0, 1.0]]), torch.tensor([1, 0])).item() == 0.5
    group = task.optimizer(task.model().parameters()).param_groups[0]
    assert (group["lr"], group["momentum"], group["weight_decay"]) == (0.05, 0.9, 5e-4)
    assert (task.sam_rho, task.asam_rho, task.validation) == (0.05, 0.5, None)


def test_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        make().epochs = 3  # type: ignore[misc]


def test_accuracy_of_dense_outputs() -> None:
    outputs = torch.tensor([[[1.0, 0.0], [0.0, 2.0]]])  # (batch 1, classes 2, positions 2): predicts 0, 1
    assert accuracy(outputs, torch.tensor([[0, 0]])).item() == 0.5


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"name": 3}, TypeError, r"`name` must be a string, got 3"),
        ({"name": " "}, ValueError, r"`name` must be a non-empty string"),
        ({"description": None}, TypeError, r"`description` must be a string, got None"),
        ({"model": nn.Linear(4, 3)}, TypeError, r"`model` must be a function .* got an object of type Linear"),
        ({"model": None}, TypeError, r"`model` must be a function .* got None"),
        ({"loss": "mse"}, TypeError, r"`loss` must be a function, got 'mse'"),
        ({"metric": 1}, TypeError, r"`metric` must be a function, got 1"),
        ({"optimizer": 0.1}, TypeError, r"`optimizer` must be a function, got 0\.1"),
        (
            {"optimizer": torch.optim.SGD([torch.zeros(1)], lr=0.1)},
            TypeError,
            r"`optimizer` must be a function, got an object of type SGD",
        ),
        ({"epochs": 0}, ValueError, r"`epochs` must be a whole number >= 1, got 0"),
        ({"epochs": 1.5}, TypeError, r"`epochs` must be a whole number >= 1, got 1\.5"),
        ({"epochs": True}, TypeError, r"`epochs` must be a whole number >= 1, got True"),
        ({"batch_size": -2}, ValueError, r"`batch_size` must be a whole number >= 1, got -2"),
        ({"sam_rho": 0.0}, ValueError, r"`sam_rho` must be > 0, got 0\.0"),
        ({"asam_rho": float("nan")}, ValueError, r"`asam_rho` must be > 0, got nan"),
        ({"asam_rho": "big"}, TypeError, r"`asam_rho` must be a number, got 'big'"),
        (
            {"kind": "ranking"},
            ValueError,
            r"`kind` must be one of classification, multilabel, regression, got 'ranking'",
        ),
        ({"lower_is_better": 1}, TypeError, r"`lower_is_better` must be"),
        ({"metrics": [1]}, TypeError, r"`metrics` must be a tuple of `Metric` objects, got a list of 1"),
        ({"metrics": (len,)}, TypeError, r"`metrics` must be a tuple of `Metric` objects, got a tuple of 1"),
        ({"groups": torch.zeros(2)}, ValueError, r"`groups` must be a tensor with one number for each training sample"),
        ({"times": [1, 2]}, ValueError, r"`times` must be a tensor with one number for each training sample"),
        ({"train": None}, TypeError, r"`train` must be a map-style dataset with at least 1 sample, got None"),
        ({"train": dataset(0)}, ValueError, r"`train` must be a map-style dataset .*, got 0 samples"),
        ({"test": Stream()}, TypeError, r"`test` must be a map-style dataset .*, got an object of type Stream"),
        ({"test": {0: (1, 2)}}, TypeError, r"`test` must be a map-style dataset .*, got an object of type dict"),
        ({"validation": dataset(0)}, ValueError, r"`validation` must be a map-style dataset"),
        (
            {"train": TensorDataset(torch.zeros(3, 4))},
            ValueError,
            r"`train` must hold \(input, target\) pairs, got a tuple of 1 as its first sample",
        ),
        (
            {"test": [torch.zeros(2)]},
            ValueError,
            r"`test` must hold \(input, target\) pairs, got an object of type Tensor",
        ),
    ],
)
def test_fields_are_checked(fields: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        make(**fields)
    assert "\n" not in str(caught.value)
