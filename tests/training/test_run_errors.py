"""One run: divergence, and tasks that return something unexpected."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import training_cases
from letsam.results import Results
from letsam.tasks import Task, TaskError
from training_cases import (
    CLASSES,
    LEARNED,
    finish,
    same,
    search,
    start,
    weights,
)

# What goes wrong


def deep(task: Task) -> Task:
    """A network that overflows when its learning rate is far too high."""
    return dataclasses.replace(
        task,
        model=lambda: nn.Sequential(*[layer for _ in range(4) for layer in (nn.Linear(5, 5), nn.ReLU())]),
        optimizer=lambda p: torch.optim.SGD(p, lr=1e18),
    )


def test_a_run_that_diverges_is_recorded(tmp_path: Path) -> None:
    record = finish(start(deep(training_cases.task()), "sgd")).result()
    assert math.isnan(record.test_loss)
    assert math.isnan(record.generalization_gap)
    assert record.diverged

    results = Results("blobs", {}, {}, (record,))
    results.save(tmp_path / "results.json")
    saved = json.loads((tmp_path / "results.json").read_text())["runs"][0]
    assert saved["test_loss"] is None
    assert saved["history"]["test_loss"][-1] is None
    assert same(vars(Results.load(tmp_path / "results.json").runs[0])["history"]["test_loss"][-1], math.nan)


@pytest.mark.parametrize("method", ["sam", *LEARNED, "lets-sam-per-layer"])
@pytest.mark.parametrize("rate", [1e18, 1e30])
def test_no_method_crashes_when_it_diverges(method: str, rate: float, tmp_path: Path) -> None:
    for task in (training_cases.task(), deep(training_cases.task())):
        wild = dataclasses.replace(task, optimizer=lambda p: torch.optim.SGD(p, lr=rate))
        record = finish(start(wild, method)).result()
        Results("blobs", {}, {}, (record,)).save(tmp_path / "results.json")
        if method != "sam":
            again = Results.load(tmp_path / "results.json").runs[0]
            assert finish(start(wild, method, searched=again)).result().method == f"{method}+refit"


def test_a_search_without_one_finite_radius_is_refitted_at_its_initial_one() -> None:
    task = training_cases.task()
    searched = search(task)
    lost = dataclasses.replace(searched, history={**searched.history, "rho_schedule": [math.nan, None]})
    assert finish(start(task, "lets-sam", searched=lost)).result().rho_final == pytest.approx(searched.rho_initial)

    steps = [[0.1, None, 0.1, 0.1], [0.3, 0.1, 0.5, 0.1], [math.nan] * 4]
    for schedule, mean in ((steps, 0.25), (steps[::2], searched.rho_initial)):
        many = dataclasses.replace(searched, history={**searched.history, "rho_schedule": schedule})
        assert finish(start(task, "lets-sam-per-layer", searched=many)).result().rho_final == pytest.approx(mean)


# What comes after the message is in notes.
END = r"(\nThis was raised in a step of the letsam optimizer, by `(validation_)?closure`\.)?(\nexplained by: .*)?$"
SHAPES: list[tuple[Callable[[Tensor, Tensor], Any], str]] = [
    (lambda outputs, targets: outputs.sum(1), r"must return a scalar tensor, got \(\d+,\)" + END),
    (lambda outputs, targets: 1.0, "must return a scalar tensor, got float" + END),
    (lambda outputs, targets: None, "must return a scalar tensor, got NoneType" + END),
]


@pytest.mark.parametrize("method", ["sgd", "sam", "lets-sam"])
@pytest.mark.parametrize(("function", "message"), SHAPES)
@pytest.mark.parametrize("name", ["loss", "metric"])
def test_a_loss_or_metric_that_is_no_scalar(
    name: str, method: str, function: Callable[[Tensor, Tensor], Any], message: str
) -> None:
    run = start(training_cases.task(**{name: function}), method)
    with pytest.raises(ValueError, match=f"^`{name}` {message}"):
        run.advance()


def fails(*_: Any) -> Any:
    return {}["nothing\nhere"]


class Failing(nn.Module):
    """A model that fails in training mode, or in evaluation mode."""

    def __init__(self, training: bool) -> None:
        super().__init__()
        self.layer, self.fails_in = nn.Linear(5, CLASSES), training

    def forward(self, inputs: Tensor) -> Tensor:
        return fails() if self.training == self.fails_in else self.layer(inputs)


class Unreadable(training_cases.Items):
    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return fails() if index == 3 else super().__getitem__(index)


FAILURES: dict[str, dict[str, Any]] = {
    "loss": {"loss": fails},
    "metric": {"metric": fails},
    "score": {"score": fails},
    "model": {"model": functools.partial(Failing, True)},
    "model in evaluation": {"model": functools.partial(Failing, False)},
    "model function": {"model": fails},
    "optimizer": {"optimizer": fails},
    "collate": {"collate": fails},
    "dataset": {"train": Unreadable(training_cases.TRAIN)},
}


@pytest.mark.parametrize("method", ["sgd", "lets-sam"])
@pytest.mark.parametrize("what", FAILURES)
def test_an_exception_of_the_users_code_says_whose_it_is(what: str, method: str) -> None:
    """And where it was raised; the exception itself is its cause."""
    where = r"\(test_run_errors\.py, line \d+\)" + END
    with pytest.raises(TaskError, match=rf"^`{what.split()[0]}` raised KeyError: 'nothing\\nhere' {where}") as raised:
        finish(start(training_cases.task(**FAILURES[what]), method))
    assert isinstance(raised.value.__cause__, KeyError)


def test_an_exception_of_the_function_that_cuts_batches() -> None:
    run = start(training_cases.task(first_samples=fails), "sam-quick")
    with pytest.raises(TaskError, match=r"^`first_samples` raised KeyError"):
        run.advance()


def test_an_exception_in_the_backward_pass_is_that_of_the_loss() -> None:
    class Broken(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, loss: Tensor) -> Tensor:
            return loss.clone()

        @staticmethod
        def backward(ctx: Any, *gradients: Tensor) -> Any:
            raise RuntimeError("no backward")

    task = training_cases.task(loss=lambda outputs, targets: Broken.apply(outputs.mean()))
    with pytest.raises(TaskError, match=r"^`loss` raised RuntimeError: no backward"):
        start(task, "sam").advance()


@pytest.mark.parametrize("method", ["sgd", "sam", "lets-sam"])
def test_a_loss_that_leaves_no_gradients(method: str) -> None:
    run = start(training_cases.task(loss=lambda outputs, targets: outputs.detach().mean()), method)
    with pytest.raises(
        ValueError, match=r"^`loss` must depend on the model's outputs, got .* leaves no gradients" + END
    ):
        run.advance()


def test_a_scalar_with_an_axis_will_do() -> None:
    task = training_cases.task(loss=lambda outputs, targets: nn.functional.cross_entropy(outputs, targets).view(1))
    plain = finish(start(training_cases.task(), "lets-sam"))
    assert torch.equal(weights(finish(start(task, "lets-sam"))), weights(plain))


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ("model", r"^`model` must return a torch.nn.Module, got int$"),
        ("optimizer", r"^`optimizer` must return a torch.optim.Optimizer, got int$"),
    ],
)
@pytest.mark.parametrize("method", ["sgd", "lets-sam"])
def test_factories_that_make_something_else(field: str, message: str, method: str) -> None:
    with pytest.raises(ValueError, match=message):
        start(training_cases.task(**{field: lambda *_: 3}), method)


def test_too_few_samples_for_a_learned_radius_only() -> None:
    task = training_cases.task(train=training_cases.blobs(3, 1))
    with pytest.raises(ValueError, match=r"`validation_share` = 0.1 of 3 samples"):
        start(task, "lets-sam")
    assert finish(start(task, "sam")).step == 3  # one batch of 3 an epoch
