"""The guard on the evidence: validation data that do not fit the training data are found and not learned from."""

from __future__ import annotations

import dataclasses
import logging
import math
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import TensorDataset

from letsam import SAM, CalibratedLoss, LearnedRadius, LogAdam, ValidationGuard, ValidationLoss, check, radius_warning
from letsam.radius.doubts import warn_once
from letsam.results import Results
from letsam.tasks import load_task
from letsam.training.config import TrialConfig
from letsam.training.devices import make_fabric
from letsam.training.loop import Training
from letsam.training.methods import Kind, Method
from letsam.training.sampling import make_splits
from oracle.problems import batch, closure_on, network, same_bits


def guarded(falls: float, steps: int = 300, **options: Any) -> ValidationGuard:
    """After losses that fall to a half: the training loss by 0.5, the validation loss by `falls` times as much."""
    guard = ValidationGuard(**options.pop("guard", {}))
    for step in range(steps):
        training = torch.tensor(1.0 - 0.5 * step / steps)
        trusted = guard.observe(step, training, torch.tensor(1.0 - falls * 0.5 * step / steps), **options)
        guard.commit(torch.tensor(True))
        assert trusted or step > 9
    return guard


@pytest.mark.parametrize(
    ("falls", "fault"),
    [
        (1.0, None),
        (0.6, None),
        (1.4, None),
        (0.0, "unrelated"),
        (-2.0, "unrelated"),
        (0.4, "noisier"),
        (1.8, "cleaner"),
    ],
)
def test_losses_that_fall_alike_are_trusted(falls: float, fault: str | None) -> None:
    guard = guarded(falls)
    assert guard.ratio == pytest.approx(falls, abs=1e-3)
    assert guard.fault == fault
    nothing = torch.tensor(1.0)
    trusted = fault in (None, "noisier")
    assert bool(guard.observe(300, nothing, nothing)) == trusted
    assert bool(guard.observe(5000, nothing, nothing)) == trusted


def test_with_patience_slopes_need_a_proof() -> None:
    """The training loss rises, so that no ratio is taken."""

    def trusted(patience: int | None) -> list[bool]:
        guard, loss = ValidationGuard(patience=patience), torch.tensor(1.0)
        found: list[bool] = []
        for step in (*range(30), 5000):
            found.append(bool(guard.observe(step, loss + 0.01 * step, loss)))
            guard.commit(torch.tensor(True))
        assert guard.fault == (None if patience is None else "untold")
        return found

    assert trusted(None) == [True] * 31
    assert trusted(20) == [True] * 20 + [False] * 11
    assert trusted(0) == [False] * 31
    proven = guarded(1.0, guard={"patience": 200})
    assert bool(proven.observe(300, torch.tensor(1.0), torch.tensor(1.0)))
    assert proven.fault is None
    with pytest.raises(ValueError, match="`patience` must be a whole number >= 0, got -1"):
        ValidationGuard(patience=-1)


def test_a_long_patience_ends_as_well() -> None:
    """After the last step at which a ratio may be taken, too, and in a run that goes on from a checkpoint."""
    guard, loss = ValidationGuard(patience=2500), torch.tensor(1.0)
    assert [bool(guard.observe(step, loss, loss)) for step in (2400, 2499, 2500, 2600)] == [True, True, False, False]
    resumed = ValidationGuard(patience=2500)
    resumed.load_state_dict(guard.state_dict())
    assert resumed.fault == guard.fault == "untold"
    assert not resumed.observe(2601, loss, loss)


def test_what_is_wrong_is_known_after_loading() -> None:
    for options, fault in (({"calibrated": True}, None), ({}, "cleaner")):
        guard, other = guarded(1.8, **options), ValidationGuard()
        other.load_state_dict(guard.state_dict())
        assert other.fault == guard.fault == fault
    other.load_state_dict({})  # of an older letsam
    assert other.ratio.isnan()
    assert other.fault is None


def test_an_objective_without_confidence_is_made_for_cleaner_data() -> None:
    assert guarded(1.8, calibrated=True).fault is None
    assert guarded(0.0, calibrated=True).fault == "unrelated"


def test_labels_that_are_made_as_noisy_as_in_training_are_learned_from() -> None:
    """The share of label noise is told from the losses themselves: 0.4 of what random labels would add."""
    guard = ValidationGuard()
    for step in range(300):
        fall = 0.5 * step / 300
        losses = torch.tensor(1.0 - fall), torch.tensor(1.0 - 1.8 * fall)
        trusted = guard.observe(step, *losses, gain=torch.tensor(2 * fall))
        guard.commit(torch.tensor(True))
    assert guard.label_noise.share == pytest.approx(0.4)
    assert guard.ratio == pytest.approx(1.8, abs=1e-3)
    assert bool(trusted)
    assert guard.fault is None
    guard.label_noise._share, guard.label_noise._told = torch.tensor(math.nan), None
    assert guard.fault == "cleaner"


def test_the_limits_are_options() -> None:
    assert guarded(0.4, guard={"low": 0.45}).fault == "unrelated"
    assert guarded(1.8, guard={"high": 2.0}).fault is None
    assert guarded(0.0, guard={"signal": 1e3}).fault is None  # the training loss does not fall so far
    for name, value in (("low", -1.0), ("high", 1.0), ("high", math.nan), ("low", 2.0), ("signal", 0.0)):
        with pytest.raises((ValueError, TypeError), match=f"`{name if value != 2 else 'high'}` must be"):
            ValidationGuard(**{name: value})
    with pytest.raises(TypeError, match=r"`guard` must be a letsam.ValidationGuard or None"):
        LogAdam(guard=0.5)  # type: ignore[arg-type]


def test_the_first_ratio_counts_and_a_failed_step_does_not() -> None:
    guard = ValidationGuard()
    for step in range(40):
        guard.observe(step, torch.tensor(1.0 - 0.01 * step), torch.tensor(1.0 - 0.01 * step))
        guard.commit(torch.tensor(step != 30))
    assert guard._values[0] == 39
    early = guard.ratio.clone()
    for step in range(40, 90):  # memorized from here on
        guard.observe(step, torch.tensor(0.1), torch.tensor(3.0))
        guard.commit(torch.tensor(True))
    assert guard.ratio == early
    guard.observe(90, torch.tensor(math.nan), torch.tensor(1.0))
    guard.discard()
    assert guard._proposed is None
    before = guard._values.clone()
    guard.observe(90, torch.tensor(0.1), torch.tensor(math.nan), usable=torch.tensor(False))
    guard.commit(torch.tensor(True))
    assert same_bits(guard._values, before)


@pytest.mark.parametrize(("factor", "constant"), [(1.0, 1e4), (1.0, -300.0), (1e-3, 0.0), (1e3, 7.0)])
def test_neither_a_constant_nor_a_factor_of_the_loss_matters(factor: float, constant: float) -> None:
    generator = torch.Generator().manual_seed(3)
    noise = 0.02 * torch.randn(40, 2, generator=generator, dtype=torch.float64)
    ratios = []
    for times, plus in ((1.0, 0.0), (factor, constant)):
        guard = ValidationGuard()
        for step in range(40):
            training, validation = times * (1.0 - 0.01 * step + noise[step]) + plus
            guard.observe(step, training, validation)
            guard.commit(torch.tensor(True))
        ratios.append(float(guard.ratio))
    assert ratios[0] == pytest.approx(ratios[1], rel=1e-6)
    assert 0.5 < ratios[0] < 1.6


def test_many_runs_have_a_ratio_each() -> None:
    guard = ValidationGuard()
    guard.start(torch.ones(3))
    falls = torch.tensor([1.0, 0.0, 2.0])
    for step in range(300):
        share = step / 600
        trusted = guard.observe(step, torch.full((3,), 1 - share), 1 - falls * share)
        guard.commit(torch.tensor(True))
    assert trusted.tolist() == [True, False, False]
    torch.testing.assert_close(guard.ratio, falls, atol=1e-3, rtol=0)


@pytest.mark.parametrize("per", ["all", "layer"])
def test_it_is_resumed_and_an_older_state_starts_anew(per: str) -> None:
    def optimizer() -> tuple[SAM, torch.nn.Module]:
        model = network()
        return SAM(torch.optim.SGD(model.parameters(), lr=0.1), LearnedRadius(0.05, per=per)), model

    (whole, model), (other, copied) = optimizer(), optimizer()
    for i in range(90):
        if i == 15:
            copied.load_state_dict(model.state_dict())
            other.load_state_dict(whole.state_dict())
        whole.step(closure_on(model, batch(0)), closure_on(model, batch(500)))
        if i >= 15:
            other.step(closure_on(copied, batch(0)), closure_on(copied, batch(500)))
            assert torch.equal(whole.rho, other.rho)
    guard = whole.radius.rule.guard  # type: ignore[attr-defined]
    assert not guard.ratio.isnan()
    state = whole.state_dict()
    radius = next(value for value in state.values() if isinstance(value, dict) and "radius" in value)["radius"]
    for name in [name for name in radius if name.startswith("guard_")]:
        del radius[name]
    fresh, _ = optimizer()
    fresh.load_state_dict(state)
    assert fresh.radius.rule.guard.ratio.isnan()  # type: ignore[attr-defined]


# Real data


def trained(kind: str, **options: Any) -> Training:
    """Digits with 40% wrong labels, and validation data of one kind."""
    task = load_task("digits")
    config = TrialConfig(task="digits", label_noise=0.4, epochs=20).for_task(task)
    splits = make_splits(task, 0, **config.split_options, hold_out=True)
    kept, total = splits.order
    held = torch.ones(total, dtype=torch.bool)
    held[kept] = False
    inputs, labels = task.train[held.nonzero().flatten()]  # without wrong labels
    if kind != "same":
        generator = torch.Generator().manual_seed(1)
        drawn = torch.randint(10, labels.shape, generator=generator)
        shown = torch.randn(inputs.shape, generator=generator) if kind == "other inputs" else inputs
        changed = TensorDataset(shown, drawn if kind == "random labels" else labels)
        splits = dataclasses.replace(splits, validation=changed)
    method = Method("lets-sam", Kind("", SAM, partial(LearnedRadius, **options)), 0.05)
    run = Training(task, method, 0, config, make_fabric("cpu"), splits=splits)
    while not run.finished:
        run.advance()
    return run


@pytest.mark.parametrize(
    ("kind", "fault"),
    [("same", None), ("random labels", "unrelated"), ("other inputs", "unrelated"), ("clean", "cleaner")],
)
def test_planted_validation_data_are_found(kind: str, fault: str | None, caplog: pytest.LogCaptureFixture) -> None:
    run = trained(kind, objective=ValidationLoss(matches_labels=False))
    optimizer = run.optimizer
    assert isinstance(optimizer, SAM)
    assert optimizer.radius.rule.guard.fault == fault  # type: ignore[attr-defined]
    text = radius_warning(optimizer)
    assert run.result().radius_warning == text
    if fault is None:
        assert text is None
        return
    assert text is not None
    assert text.startswith("the validation loss ")
    assert 0.05 < run.rho_schedule[-1] < 0.5  # the prior is 0.2; without the guard it ends at its bound, or far below
    with caplog.at_level(logging.WARNING, logger="letsam"):
        warn_once(optimizer)
        warn_once(optimizer)
    assert [record.message for record in caplog.records] == [text]
    x, y = run.task.train[:64]

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(run.model(x), y)
        loss.backward()
        return loss

    found = [finding for finding in check(optimizer, closure, closure) if finding.code == "doubtful-radius"]
    assert [(finding.severity, finding.message) for finding in found] == [("warning", text)]


def test_data_that_may_be_unlike_need_a_proof() -> None:
    """The network stays as it is, so no loss is seen to fall."""
    weight = torch.nn.Parameter(torch.ones(2))
    radius = LearnedRadius(0.5, rule=LogAdam(guard=ValidationGuard(patience=3)))
    optimizer = SAM(torch.optim.SGD([weight], lr=0.0), radius)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = weight.square().sum()
        loss.backward()
        return loss

    for warned in (False, False, False, False, True):  # an update judges the step before it
        assert (radius_warning(optimizer) is not None) == warned
        optimizer.step(closure, closure)
    text = str(radius_warning(optimizer))
    assert text.startswith("the validation loss has not been seen to fall with the training loss so far")


def test_a_radius_at_its_bound() -> None:
    weight = torch.nn.Parameter(torch.ones(2))
    for rho, end in ((10.0, "upper"), (1e-4, "lower"), (0.5, None)):
        text = radius_warning(SAM(torch.optim.SGD([weight], lr=0.1), LearnedRadius(rho, objective=CalibratedLoss())))
        assert (text is None) == (end is None)
        assert end is None or f"at its {end} bound" in str(text)
    assert radius_warning(SAM(torch.optim.SGD([weight], lr=0.1), 0.1)) is None


def test_a_warning_is_in_the_results(tmp_path: Any) -> None:
    run = trained("random labels").result()
    results = Results("digits", {"seeds": [0], "methods": ["lets-sam"]}, {}, (run,))
    results.save(tmp_path / "results.json")
    assert Results.load(tmp_path / "results.json").runs[0].radius_warning == run.radius_warning is not None
