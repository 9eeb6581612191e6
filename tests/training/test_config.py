"""The options of a trial: what is refused, the defaults, the record."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

import training_cases
from letsam.tasks import Task
from letsam.training.config import TrialConfig
from letsam.training.methods import Method
from training_cases import config


@pytest.fixture
def task() -> Task:
    return training_cases.task(epochs=2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"methods": ()}, "^`methods` must name at least one, got none$"),
        ({"methods": ("sgd", "sam", "sgd")}, "^`methods` must not repeat, got sgd, sam, sgd$"),
        ({"methods": ("sgd", "samm")}, "^`methods` must be of .*, got 'samm', did you mean 'sam'"),
        ({"seeds": ()}, "^`seeds` must name at least one, got none$"),
        ({"seeds": (3, 3)}, "^`seeds` must not repeat, got 3, 3$"),
        ({"seeds": (0, -1)}, "^`seeds` must be a whole number >= 0, got -1$"),
        ({"seeds": (2**63,)}, r"^`seeds` must be a whole number below 2\*\*63, got 9223372036854775808$"),
        ({"epochs": 0}, "^`epochs` must be a whole number >= 1, got 0$"),
        ({"batch_size": -8}, "^`batch_size` must be a whole number >= 1, got -8$"),
        ({"train_size": 0}, "^`train_size` must be a whole number >= 1, got 0$"),
        ({"rho": 0.0}, "^`rho` must be > 0, got 0.0$"),
        ({"rho": -1.0}, "^`rho` must be > 0, got -1.0$"),
        ({"rho": math.nan}, "^`rho` must be > 0, got nan$"),
        ({"rho": math.inf}, "^`rho` must be > 0, got inf$"),
        ({"max_grad_norm": 0.0}, "^`max_grad_norm` must be > 0, got 0.0$"),
        ({"label_noise": 1.0}, "^`label_noise` must be at least 0 and below 1, got 1.0$"),
        ({"label_noise": -0.1}, "^`label_noise` must be at least 0 and below 1, got -0.1$"),
        ({"label_noise": math.nan}, "^`label_noise` must be at least 0 and below 1, got nan$"),
        ({"validation_share": 0.0}, "^`validation_share` must be between 0 and 1, got 0.0$"),
        ({"validation_share": 1.0}, "^`validation_share` must be between 0 and 1, got 1.0$"),
        ({"validation_share": math.nan}, "^`validation_share` must be between 0 and 1, got nan$"),
    ],
)
def test_options_out_of_range(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        config(**change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seeds": (1.5,)}, "`seeds` must be a whole number >= 0, got 1.5"),
        ({"seeds": (True,)}, "`seeds` must be a whole number >= 0, got True"),
        ({"epochs": "3"}, "`epochs` must be a whole number >= 1, got '3'"),
        ({"rho": "0.1"}, "`rho` must be a number, got '0.1'"),
        ({"max_grad_norm": "1"}, "`max_grad_norm` must be a number, got '1'"),
        ({"label_noise": None}, "`label_noise` must be a number, got None"),
    ],
)
def test_options_of_the_wrong_type(change: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        config(**change)


def test_the_defaults_of_the_issue() -> None:
    options = TrialConfig(task="digits")
    grid = ["sam:0.05", "sam:0.1", "sam:0.2", "sam:0.5", "asam:0.2", "asam:1", "asam:2", "asam:5"]
    assert options.as_json()["methods"] == ["sgd", *grid, "lets-sam", "lets-asam"]
    assert all(type(method) is Method for method in options.methods)
    assert options.seeds == (0, 1, 2)
    assert options.validation_share == 0.1
    assert options.refit
    assert json.loads(json.dumps(options.as_json())) == options.as_json()


def test_the_tasks_defaults_are_on_record(task: Task) -> None:
    filled = config(batch_size=5).for_task(task)
    assert (filled.epochs, filled.batch_size, filled.refit) == (2, 5, True)


def test_methods_are_objects() -> None:
    with pytest.raises(TypeError, match=r"^`methods` must be of `Method` objects \(see `Method.parse`\), got 'sgd'$"):
        TrialConfig(task="digits", methods=("sgd",))  # type: ignore[arg-type]
