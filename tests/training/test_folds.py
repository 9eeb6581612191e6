"""Runs whose held-out fold changes."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from letsam.tasks import load_task
from letsam.training.config import TrialConfig
from letsam.training.devices import make_fabric
from letsam.training.loop import Training
from letsam.training.methods import Method


def training(**options: object) -> Training:
    task = load_task("digits", train_size=100)
    values = {"task": "digits", "epochs": 6, "batch_size": 20, "folds": 4} | options
    config = TrialConfig(**values).for_task(task)  # pyright: ignore[reportArgumentType]
    return Training(task, Method.parse("lets-sam"), 0, config, make_fabric("cpu"))


def test_each_third_of_the_epochs_has_a_fold_that_it_does_not_train_on() -> None:
    run = training()
    folds = run.feed.folds
    assert folds is not None
    assert run.steps_per_epoch == 3
    for epoch in range(6):
        held = set(folds.at(epoch).validation.tolist())
        assert held == set(folds.parts[epoch // 2].tolist())
        assert not held & {index for batch in run.feed.order(epoch) for index in batch}
        for step in range(3 * epoch, 3 * epoch + 3):
            assert set(run.feed._validation_share(step)) <= held
            assert set(run.feed.fold(step) or ()) == held


def test_training_and_validation_batches_are_those_of_the_data() -> None:
    """The batch that the radius sees, against the data themselves."""
    run = training()
    data = load_task("digits", train_size=100).train
    indices = run.feed._validation_share(0)
    inputs, targets = run.feed.held_out(0)
    assert torch.equal(inputs, torch.stack([data[i][0] for i in indices]))
    assert targets.tolist() == [int(data[i][1]) for i in indices]


def test_the_validation_loss_is_that_of_the_fold_of_the_last_epoch() -> None:
    run = training(epochs=3)
    while not run.finished:
        run.advance()
    folds = run.feed.folds
    assert folds is not None
    data = load_task("digits", train_size=100).train
    held = folds.at(2).validation.tolist()
    with torch.no_grad():
        outputs = run.model(torch.stack([data[i][0] for i in held]))
        targets = torch.tensor([int(data[i][1]) for i in held])
        loss = torch.nn.functional.cross_entropy(outputs, targets)
    assert run.history["validation_loss"][-1] == pytest.approx(float(loss), rel=1e-5)


def test_a_run_continues_in_its_fold() -> None:
    whole, first, rest = training(), training(), training()
    for run in (whole, whole, whole, first, first):
        run.advance()
    rest.load_state_dict(first.state_dict())
    rest.advance()
    assert rest.rho_schedule == whole.rho_schedule
    for a, b in zip(rest.model.parameters(), whole.model.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_run_in_order_of_time_trains_on_what_is_earlier() -> None:
    """The last three of ten periods, all with equally many steps; `folds` does not keep groups apart besides."""
    times = torch.randperm(100, generator=torch.Generator().manual_seed(0))
    task = dataclasses.replace(load_task("digits", train_size=100), times=times)
    config = TrialConfig(task="digits", epochs=6, batch_size=20, folds=10).for_task(task)
    run = Training(task, Method.parse("lets-sam"), 0, config, make_fabric("cpu"))
    assert run.steps_per_epoch == 3  # of 70 samples
    for epoch in range(6):
        trained = {index for batch in run.feed.order(epoch) for index in batch}
        held = {index for step in range(3 * epoch, 3 * epoch + 3) for index in run.feed._validation_share(step)}
        first = 70 + 10 * (epoch // 2)
        assert max(int(times[index]) for index in trained) < first
        assert {int(times[index]) // 10 for index in held} == {first // 10}
    while not run.finished:
        run.advance()
    assert run.rho_schedule[-1] != 0.05
    both = dataclasses.replace(task, groups=torch.arange(100) // 2)
    with pytest.raises(ValueError, match="`folds` must not be given with both groups and times"):
        TrialConfig(task="digits", folds=10).for_task(both)


def test_folds_that_cannot_be_made_are_refused() -> None:
    with pytest.raises(ValueError, match="`folds` must be a whole number >= 2, got 1"):
        training(folds=1)
    with pytest.raises(ValueError, match="`folds` must be at most the number of samples, 100, got 101"):
        training(folds=101)
    task = load_task("digits", train_size=100)
    config = TrialConfig(task="digits", folds=4)
    with pytest.raises(ValueError, match="`folds` must not be given"):
        config.for_task(dataclasses.replace(task, validation=task.test))
