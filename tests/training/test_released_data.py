"""`release`: from a share of the epochs on, the held-out samples are trained on and the radius stays."""

from __future__ import annotations

import dataclasses
import itertools

import pytest
import torch

from letsam import SAM, LearnedRadius
from letsam.tasks import load_task
from letsam.training.config import TrialConfig
from letsam.training.devices import make_fabric
from letsam.training.loop import Training
from letsam.training.methods import KINDS, Kind, Method
from letsam.training.trial import planned


def training(method: str = "lets-sam", **options: object) -> Training:
    task = load_task("digits", train_size=100)
    values = {"task": "digits", "epochs": 6, "batch_size": 20, "release": 0.5, "validation_share": 0.2} | options
    config = TrialConfig(**values).for_task(task)  # pyright: ignore[reportArgumentType]
    return Training(task, Method.parse(method), 0, config, make_fabric("cpu"))


def test_the_held_out_samples_are_trained_on_after_the_release() -> None:
    run, alone = training(), training(release=None)
    held = set(range(100)) - set(alone.order[0].tolist())
    assert len(held) == 20
    assert run.steps_per_epoch == alone.steps_per_epoch == 4
    seen = [[index for batch in run.feed.order(epoch) for index in batch] for epoch in range(6)]
    assert [len(epoch) for epoch in seen] == [80] * 6
    assert all(len(set(epoch)) == 80 for epoch in seen)
    for epoch in range(3):
        assert not held & set(seen[epoch])
        kept = alone.order[0]
        assert seen[epoch] == [int(kept[index]) for batch in alone.feed.order(epoch) for index in batch]
    assert all(held & set(epoch) for epoch in seen[3:])
    assert len(held - set().union(*seen[3:])) <= 3  # each epoch leaves out a fifth of all samples
    data = load_task("digits", train_size=100).train
    inputs, targets = run.train.one(sorted(held))
    assert torch.equal(inputs, torch.stack([data[i][0] for i in sorted(held)]))
    assert targets.tolist() == [int(data[i][1]) for i in sorted(held)]


def test_it_is_the_same_run_until_the_release_and_the_radius_stays_after_it() -> None:
    run, alone = training(label_noise=0.4), training(label_noise=0.4, release=None)
    passes = []
    for one in (run, alone):
        while not one.finished:
            one.advance()
            passes.append(one.passes)
    assert run.rho_schedule[:12] == alone.rho_schedule[:12]
    assert len(set(run.rho_schedule[11:])) == 1
    assert len(set(alone.rho_schedule[11:])) > 1
    # no validation passes, and no ascent in the last tenth of the 24 steps
    assert [b - a for a, b in itertools.pairwise(passes[2:6])] == [8, 8, 6]
    assert run.history["validation_loss"][2] == alone.history["validation_loss"][2]
    assert run.history["validation_loss"][3:] == [None] * 3
    assert run.result().test_accuracy != alone.result().test_accuracy


@pytest.mark.parametrize("at", [2, 3, 4])
def test_it_is_resumed_on_either_side(at: int) -> None:
    whole, first, rest = training(), training(), training()
    for _ in range(at + 1):
        whole.advance()
    for _ in range(at):
        first.advance()
    rest.load_state_dict(first.state_dict())
    rest.advance()
    assert rest.rho_schedule == whole.rho_schedule
    for a, b in zip(rest.model.parameters(), whole.model.parameters(), strict=True):
        assert torch.equal(a, b)


LEARNED = sorted(  # those of letsam: benchmarks add ideas of their own
    name
    for name, kind in KINDS.items()
    if str(getattr(kind.learned, "__module__", "")).startswith("letsam.") and name != "lets-samon"
)


@pytest.mark.parametrize("method", LEARNED)
def test_every_learned_method_has_it(method: str) -> None:
    run = training(method, epochs=2)
    run.advance()
    first = run.rho_schedule[-1]
    run.advance()
    assert run.rho_schedule[-3:] == [run.rho_schedule[-1]] * 3
    assert run.rho_schedule[-1] == first or "paper" in method  # its last update is used in the step after it


def test_a_radius_that_takes_no_until_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(KINDS, "lets-plain", Kind("", SAM, lambda rho: LearnedRadius(rho)))
    with pytest.raises(ValueError, match="`release` needs a radius that takes `until`, got lets-plain"):
        training("lets-plain")


def test_others_are_as_without_it() -> None:
    for method in ("sgd", "sam"):
        run, alone = training(method), training(method, release=None)
        assert run.feed.order(4) == alone.feed.order(4)
        assert run.release is None


def test_there_is_no_refit_then() -> None:
    task = load_task("digits", train_size=100)
    config = TrialConfig(task="digits", methods=(Method.parse("lets-sam"),), seeds=(0,))
    assert [run.name for run in planned(config.for_task(task))] == ["lets-sam", "lets-sam+refit"]
    released = dataclasses.replace(config, release=0.5)
    assert [run.name for run in planned(released.for_task(task))] == ["lets-sam"]


def test_a_task_with_validation_data_has_a_refit_but_nothing_to_release() -> None:
    task = load_task("digits", train_size=100)
    own = dataclasses.replace(task, validation=task.test)
    config = TrialConfig(task="digits", methods=(Method.parse("lets-sam"),), seeds=(0,))
    assert [run.name for run in planned(config.for_task(own))] == ["lets-sam", "lets-sam+refit"]
    with pytest.raises(ValueError, match=r"`release` must not be given for a task with validation data of its own"):
        dataclasses.replace(config, release=0.5).for_task(own)


def test_bad_values() -> None:
    for value in (0, 1, 1.5, -0.1):
        with pytest.raises(ValueError, match="`release` must be between 0 and 1"):
            TrialConfig(task="digits", release=value)
    with pytest.raises(ValueError, match=r"`release` must not be given with `folds`, got 0\.5 and 3 folds"):
        TrialConfig(task="digits", release=0.5, folds=3)
    with pytest.raises(ValueError, match=r"`release` must leave an epoch after it, got 0\.9 of 2 epochs"):
        training(epochs=2, release=0.9)
