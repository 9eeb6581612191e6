"""One run: evaluation, its record, its refit."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import training_cases
from training_cases import (
    LEARNED,
    TEST,
    finish,
    passes,
    search,
    start,
    weights,
)

# Evaluation and record


@pytest.mark.parametrize("items", [False, True])
def test_evaluation_weighs_by_the_size_of_the_batches(items: bool) -> None:
    task = training_cases.task(items=items, dropout=0.9)
    # 44 of 45: a last batch of 1, which a plain mean would overrate
    run = start(dataclasses.replace(task, evaluation_batch=44), "sgd")
    run.advance()
    before = weights(run)
    inputs, targets = TEST.tensors
    run.model.eval()
    with torch.no_grad():
        outputs = run.model(inputs)
    run.model.train()
    loss, accuracy = run.evaluate(run.test)

    assert loss == pytest.approx(nn.functional.cross_entropy(outputs, targets).item(), rel=1e-6)
    assert accuracy == pytest.approx((outputs.argmax(1) == targets).double().mean().item(), rel=1e-6)
    assert run.model.training
    assert torch.equal(weights(run), before)


@pytest.mark.parametrize("epochs", [1, 2, 10, 11, 25, 60])
def test_the_history_ends_with_the_last_epoch(epochs: int) -> None:
    record = search(training_cases.task(train=training_cases.blobs(20, 1), epochs=epochs, batch_size=16))
    points = record.history["epoch"]

    assert points[-1] == epochs
    assert points == sorted(set(points))  # type: ignore[type-var]
    assert min(epochs, 5) <= len(points) <= 11
    assert {len(column) for name, column in record.history.items() if name != "rho_schedule"} == {len(points)}


@pytest.mark.parametrize("method", ["sgd", "sam", "asam:0.3", "lets-sam", "lets-asam"])
def test_the_record(method: str) -> None:
    run = finish(start(training_cases.task(), method, label_noise=0.3))
    record, history = run.result(), run.result().history
    learned = method in LEARNED

    assert (record.method, record.seed) == (method, 0)
    assert record.train_loss == run.evaluate(run.train)[0]  # on the noisy labels it was trained on
    assert (record.test_loss, record.test_accuracy) == run.evaluate(run.test)
    assert record.generalization_gap == record.test_loss - record.train_loss
    assert record.seconds > 0
    for name in ("test_loss", "train_loss", "test_accuracy", "generalization_gap", "validation_loss"):
        assert history[name][-1] == getattr(record, name)
    assert ("rho_schedule" in history) == learned
    assert (record.validation_loss is not None) == learned
    assert all((value is not None) == learned for value in history["hypergradient"])
    if method == "sgd":
        assert record.rho_initial is None
        assert record.rho_final is None
        assert history["rho"] == [None] * 3
    elif learned:
        assert history["rho"] == [history["rho_schedule"][step] for step in (5, 11, 17)]
        assert len(history["rho_schedule"]) == 18
    else:
        assert record.rho_final == pytest.approx(record.rho_initial)
        assert history["rho"] == pytest.approx([record.rho_initial] * 3)


@pytest.mark.parametrize("option", ["epochs", "batch_size"])
def test_options_come_before_the_tasks_defaults(option: str) -> None:
    run = finish(start(training_cases.task(), "sgd", **{option: 5}))
    assert run.step == {"epochs": 5 * 7, "batch_size": 3 * 12}[option]


# The refit


def begun(schedule: Any) -> Any:
    """What is replayed of a run that ends within the burn-in: at most a share of its end, from a tenth to the whole."""
    recorded = np.array(schedule, dtype=float)
    return np.minimum(recorded.T, np.multiply.outer(recorded[-1], np.linspace(0.1, 1, len(recorded)))).T


@pytest.mark.parametrize("method", ["lets-sam", "lets-asam:0.2"])
def test_a_refit_replays_the_schedule_on_everything(method: str) -> None:
    task = training_cases.task()
    searched = search(task, method)
    run = start(task, method, searched=searched)
    used: list[float] = []
    run.optimizer.register_step_post_hook(lambda optimizer, *_: used.append(float(optimizer.rho)))  # type: ignore[attr-defined]
    record = finish(run).result()

    schedule = begun(searched.history["rho_schedule"])
    stretched = np.interp(np.linspace(0, len(schedule) - 1, 21), np.arange(len(schedule)), schedule)
    assert used == pytest.approx(list(stretched), rel=1e-6)
    assert (used[0], used[-1]) == pytest.approx((schedule[0], searched.rho_final))
    assert {i for batch in run.model.seen for i in batch} == set(range(60))  # type: ignore[union-attr]
    assert record.method == f"{method}+refit"
    assert record.rho_initial == searched.rho_initial
    assert record.rho_final == pytest.approx(searched.rho_final)
    assert record.validation_loss is None
    assert record.history["hypergradient"] == [None] * 3
    assert "rho_schedule" not in record.history
    assert record.gradient_passes == searched.gradient_passes + 2 * 21 == passes(method.split(":")[0], 18) + 2 * 21
    assert record.seconds > searched.seconds


def test_many_radii_are_on_record() -> None:
    """One for each weight tensor at every step; `rho` is their mean."""
    run = start(training_cases.task(), "lets-sam-per-layer:0.2")
    used: list[list[float]] = []
    run.optimizer.register_step_post_hook(lambda optimizer, *_: used.append(optimizer.metrics["rho"].tolist()))  # type: ignore[attr-defined]
    record = finish(run).result()

    assert record.history["rho_schedule"] == used
    assert {len(radii) for radii in used} == {4}
    assert len({*used[-1]}) == 4
    means = [sum(radii) / 4 for radii in used]
    assert record.mean_radii == pytest.approx(means)
    assert record.history["rho"] == pytest.approx([means[step] for step in (5, 11, 17)])
    assert record.rho_final == record.history["rho"][-1]


def test_a_refit_replays_each_of_many_radii() -> None:
    task = training_cases.task()
    searched = search(task, "lets-sam-per-layer:0.2")
    run = start(task, "lets-sam-per-layer:0.2", searched=searched)
    used: list[list[float]] = []
    run.optimizer.register_step_post_hook(lambda optimizer, *_: used.append(optimizer.rho.tolist()))  # type: ignore[attr-defined]
    record = finish(run).result()

    schedule = begun(searched.history["rho_schedule"])
    at = np.linspace(0, len(schedule) - 1, 21)
    stretched = np.stack([np.interp(at, np.arange(len(schedule)), column) for column in schedule.T], axis=1)
    np.testing.assert_allclose(used, stretched, rtol=1e-6)
    assert record.method == "lets-sam-per-layer:0.2+refit"
    assert record.rho_initial == searched.rho_initial
    assert record.rho_final == pytest.approx(searched.rho_final)
    assert "rho_schedule" not in record.history
    assert record.gradient_passes == searched.gradient_passes + 2 * 21
    means = dataclasses.replace(searched, history={**searched.history, "rho_schedule": searched.mean_radii})
    assert not torch.equal(weights(run), weights(finish(start(task, "lets-sam:0.2", searched=means))))


def test_a_refit_is_no_run_at_the_initial_radius() -> None:
    task = training_cases.task()
    searched = search(task, "lets-sam:0.2")
    assert searched.rho_final != pytest.approx(0.2, rel=1e-3)
    refit = finish(start(task, "lets-sam:0.2", searched=searched))
    assert not torch.equal(weights(refit), weights(finish(start(task, "sam:0.2"))))
