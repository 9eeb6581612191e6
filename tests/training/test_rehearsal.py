"""One batch of each method before the first epoch: what it finds, and that it changes nothing."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import training_cases
from letsam.tasks import Task, TaskError
from letsam.tasks.metrics import Metric
from letsam.training.executors import Here
from letsam.training.loop import Training
from letsam.training.methods import Method, PlannedRun
from letsam.training.rehearsal import rehearse
from letsam.training.sampling import SplitCache
from letsam.training.trial import open_results, planned, run_trial_on
from training_cases import CLASSES, config, fabric, finish, same, start

METHODS = ("sgd", "sam:0.1", "lets-sam")


def rehearsed(task: Task, methods: tuple[str, ...] = METHODS, **options: Any) -> None:
    chosen = config(methods=methods, **options)
    rehearse(chosen, fabric(), SplitCache(task, **chosen.split_options), planned(chosen))


def fails(*_: Any) -> Any:
    return {}["nothing here"]


class FailsInEvaluation(nn.Linear):
    def forward(self, inputs: Tensor) -> Tensor:
        return super().forward(inputs) if self.training else fails()


class FailingStep(torch.optim.SGD):
    def step(self, closure: Any = None) -> Any:
        raise RuntimeError("no step")


@pytest.mark.parametrize(
    ("field", "value", "error", "message"),
    [
        ("loss", fails, TaskError, "^`loss` raised KeyError"),
        ("metric", fails, TaskError, "^`metric` raised KeyError"),
        ("metric", lambda outputs, targets: outputs, ValueError, "^`metric` must return a scalar tensor"),
        ("score", fails, TaskError, "^`score` raised KeyError"),
        ("metrics", (Metric(name="odd", function=fails),), TaskError, "^`metrics: odd` raised KeyError"),
        ("model", lambda: FailsInEvaluation(5, CLASSES), TaskError, "^`model` raised KeyError"),
        ("optimizer", lambda p: FailingStep(p, lr=0.1), RuntimeError, "^no step$"),
    ],
)
def test_an_error_of_the_first_epoch_or_of_its_evaluation_comes_before_it(
    field: str, value: Any, error: type[Exception], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Training, "advance", lambda *_: pytest.fail("an epoch was trained"))
    with pytest.raises(error, match=message):
        rehearsed(training_cases.task(**{field: value}))


def test_each_methods_own_optimizer_is_tried() -> None:
    """The second method alone fails: only it asks the optimizer for a closure's passes."""
    calls: list[str] = []

    class Twice(nn.Linear):
        def forward(self, inputs: Tensor) -> Tensor:
            calls.append("training" if self.training else "evaluation")
            return super().forward(inputs)

    rehearsed(training_cases.task(model=lambda: Twice(5, CLASSES)))
    # Training passes of SGD, SAM and a learned radius with its validation pass; data sets without and with held-out.
    evaluations = [2, 2, 3]
    expected = [n for passes, parts in zip([1, 2, 3], evaluations, strict=True) for n in (passes, parts)]
    found = [len(list(group)) for group in _runs_of(calls)]
    assert found == expected


def _runs_of(values: list[str]) -> list[list[str]]:
    groups: list[list[str]] = []
    for value in values:
        if groups and groups[-1][0] == value:
            groups[-1].append(value)
        else:
            groups.append([value])
    return groups


def test_a_metric_that_needs_the_whole_set_gets_it() -> None:
    """Such as one that needs samples of each class; an error on a part of the samples is no error."""
    seen: list[int] = []

    def needs_all(outputs: Tensor, targets: Tensor) -> float:
        seen.append(len(targets))
        if len(targets) < 45:
            raise ValueError("a class is missing")
        return 1.0

    def score(model: nn.Module, dataset: Any) -> float:
        return needs_all(torch.zeros(len(dataset), CLASSES), torch.zeros(len(dataset)))

    task = training_cases.task(metrics=(Metric(name="whole", function=needs_all),), score=score, evaluation_batch=20)
    rehearsed(task, ("sgd",))
    assert seen == [20, 45, 20, 45]

    cheap = training_cases.task(score=lambda model, dataset: seen.append(len(dataset)) or 1.0, evaluation_batch=20)
    rehearsed(cheap, ("sgd",))
    assert seen[4:] == [20], "a score that does not fail sees a few samples only"


@pytest.mark.parametrize("method", METHODS)
def test_it_changes_nothing(method: str) -> None:
    """Nor the random numbers, with dropout and a data set that draws some."""

    class Noisy(training_cases.Items):
        def __getitem__(self, index: int) -> tuple[Tensor, int]:
            inputs, target = super().__getitem__(index)
            noise = torch.randn(()) + random.random() + float(np.random.rand())  # noqa: NPY002
            return torch.cat([inputs[:1], inputs[1:] + 0.1 * noise]), target

    task = training_cases.task(dropout=0.3, train=Noisy(training_cases.TRAIN))

    def trained(before: Callable[[], None]) -> dict[str, Any]:
        random.seed(1)
        np.random.seed(2)  # noqa: NPY002
        torch.manual_seed(3)
        before()
        drawn = torch.rand(3)
        run = finish(start(task, method, epochs=2))
        return {"drawn": drawn, "record": training_cases.without_seconds(run.result()), "state": run.model.state_dict()}

    plain, other = trained(lambda: None), trained(lambda: rehearsed(task, (method,)))
    assert same(plain["drawn"], other["drawn"])
    assert plain["record"] == other["record"]
    assert same(dict(plain["state"]), dict(other["state"]))


def test_a_cluster_rehearses_on_one_of_its_workers(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whose environment is recorded; nothing is rehearsed where nothing is missing."""
    from letsam.training import trial

    task = training_cases.task(epochs=1)
    options = config(methods=("sgd", "sam"), seeds=(0,), epochs=1, refit=False).for_task(task)
    tried: list[list[PlannedRun]] = []
    monkeypatch.setattr(trial, "_loaded", lambda config, device: (fabric(), SplitCache(task, **config.split_options)))
    monkeypatch.setattr(trial, "rehearse", lambda config, fabric, splits, runs: tried.append(list(runs)))
    monkeypatch.setattr(trial, "environment", lambda fabric: {"device": "theirs", "command": "worker"})
    results = open_results(tmp_path, options, {"device": "ours", "command": "letsam trial"}, resume=False)
    for _ in range(2):
        *_, results = results, *run_trial_on(Here(), options, "cpu", results, tmp_path, rehearsed=True)
    assert tried == [[PlannedRun(Method.parse(name), 0) for name in ("sgd", "sam")]]
    assert results.environment == {"device": "theirs", "command": "letsam trial"}
    assert [run.method for run in results.runs] == ["sgd", "sam"]
