"""A finished run goes on with more epochs than were planned."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch

import training_cases
from letsam.training.checkpoint_file import load_checkpoint, save_checkpoint
from letsam.training.loop import Training
from training_cases import finish, same, start, weights, without_seconds

IDENTITY = {"task": "blobs", "epochs": 2}


def learning_rates(run: Training, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Those of all steps to the end of the run."""
    rates: list[float] = []
    step = run._step
    monkeypatch.setattr(
        run, "_step", lambda batch: (rates.append(float(run.optimizer.param_groups[0]["lr"])), step(batch))[1]
    )
    finish(run)
    return rates


@pytest.mark.parametrize("method", ["sgd", "sam", "lets-sam", "sam-rising"])
def test_a_run_of_two_epochs_becomes_one_of_four(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    task = training_cases.task(dropout=0.3)
    short = finish(start(task, method, epochs=2))
    state = copy.deepcopy(short.state_dict())
    longer = start(task, method, epochs=4)
    longer.load_state_dict(state)
    assert torch.equal(weights(longer), weights(short))
    assert (longer.epoch, longer.finished) == (2, False)

    steps = longer.steps_per_epoch
    rates = learning_rates(longer, monkeypatch)
    first = 0.05  # of the task
    expected = [first * 0.5 * (1 + math.cos(math.pi * step / (4 * steps))) for step in range(2 * steps, 4 * steps)]
    assert rates == pytest.approx(expected, rel=1e-12)

    run = longer.result()
    assert run.continued_at == (2,)
    assert (run.steps, run.history["epoch"][-1]) == (4 * steps, 4)
    assert run.gradient_passes > short.result().gradient_passes
    for name, column in short.result().history.items():
        assert list(run.history[name][: len(column)]) == list(column), name
    seen: list[Any] = longer.model.module.seen
    whole: list[Any] = finish(start(task, method, epochs=4)).model.module.seen
    assert seen == whole[-len(seen) :], "the batches are those of a run of four epochs"


def test_a_run_that_was_continued_can_be_interrupted() -> None:
    task, method = training_cases.task(dropout=0.3), "lets-sam"
    state = copy.deepcopy(finish(start(task, method, epochs=1)).state_dict())
    whole = start(task, method, epochs=3)
    whole.load_state_dict(copy.deepcopy(state))
    finish(whole)
    cut = start(task, method, epochs=3)
    cut.load_state_dict(copy.deepcopy(state))
    cut.advance()
    state = copy.deepcopy(cut.state_dict())
    again = start(task, method, epochs=3)
    again.load_state_dict(state)
    finish(again)
    assert torch.equal(weights(again), weights(whole))
    assert same(without_seconds(again.result()), without_seconds(whole.result()))
    assert again.result().continued_at == (1,)


def test_learning_rates_that_are_tensors() -> None:
    task = training_cases.task(optimizer=lambda p: torch.optim.SGD(p, lr=torch.tensor(0.1), foreach=False))
    state = copy.deepcopy(finish(start(task, epochs=1)).state_dict())
    run = start(task, epochs=2)
    rate = run.optimizer.param_groups[0]["lr"]
    run.load_state_dict(state)
    now = run.optimizer.param_groups[0]["lr"]
    assert isinstance(rate, torch.Tensor)
    assert isinstance(now, torch.Tensor)
    assert now.item() == pytest.approx(0.05)


def test_a_checkpoint_of_fewer_epochs_is_read_where_it_may_be(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, {"epoch": 2}, IDENTITY)
    more, fewer = IDENTITY | {"epochs": 3}, IDENTITY | {"epochs": 1}
    assert load_checkpoint(path, more, more_epochs=True) == {"epoch": 2}
    for identity, allowed in ((more, False), (fewer, False), (fewer, True)):
        with pytest.raises(ValueError, match=r"expected a checkpoint with epochs \d, got 2"):
            load_checkpoint(path, identity, more_epochs=allowed)
    with pytest.raises(ValueError, match="expected a checkpoint with task 'other'"):
        load_checkpoint(path, more | {"task": "other"}, more_epochs=True)
