"""How many more labels are wrong in training than in validation: told from the losses, and used by the radius."""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import Subset

from letsam import SAM, CalibratedLoss, LearnedRadius, OneSidedGap, ValidationLoss
from letsam.radius import Evidence, ExcessNoise
from letsam.tasks import load_task
from letsam.training.config import TrialConfig
from letsam.training.devices import make_fabric
from letsam.training.loop import Training
from letsam.training.methods import Method
from letsam.training.sampling import make_splits
from oracle import maths
from oracle.problems import batch, closure_on, flat, network, same_bits

YES = torch.tensor(True)


def seen(share: float, steps: int = 100, error: float = 0.05, first: int = 0) -> ExcessNoise:
    """After updates of losses that obey L_tr - L_vl = share * gain, up to noise."""
    generator, noise = np.random.default_rng(3), ExcessNoise()
    for step in range(first, first + steps):
        gain = 1 + generator.random()
        gap = share * gain + error * generator.standard_normal()
        noise.observe(step, torch.tensor(0.5 + gap), torch.tensor(0.5), torch.tensor(gain), YES)
        noise.commit(YES)
    return noise


@pytest.mark.parametrize(("share", "told"), [(0.4, 0.4), (0.7, 0.7), (0.05, 0.0), (-0.5, 0.0), (3.0, 0.95)])
def test_the_share_of_the_losses_is_told(share: float, told: float) -> None:
    noise = seen(share)
    assert float(noise.share) == pytest.approx(told, abs=0.02)
    assert noise.known == noise.share


def test_it_is_told_once_and_not_before_it_is_certain() -> None:
    assert seen(0.4, steps=50).share.isnan()  # up to step 49
    assert not seen(0.4, steps=51).share.isnan()
    assert seen(0.4, steps=51, error=2.0).share.isnan()
    assert seen(0.4, steps=51, first=2000).share.isnan()
    noise = seen(0.4)
    told = noise.share.clone()
    for step in range(100, 200):
        noise.observe(step, torch.tensor(0.1), torch.tensor(3.0), torch.tensor(2.0), YES)
        noise.commit(YES)
    assert noise.share == told


def told(gaps: np.ndarray, gains: np.ndarray, validation: np.ndarray | float = 0.0) -> ExcessNoise:
    """After updates with these losses."""
    noise, losses = ExcessNoise(), np.broadcast_to(validation, gaps.shape)
    for step, (gap, gain, loss) in enumerate(zip(gaps, gains, losses, strict=True)):
        noise.observe(step, torch.tensor(loss + gap), torch.tensor(loss), torch.tensor(gain), YES)
        noise.commit(YES)
    return noise


def test_it_is_two_stage_least_squares_with_the_gain_of_the_update_before() -> None:
    generator = np.random.default_rng(5)
    gains, gaps = generator.random(51) + 0.5, generator.random(51) * 0.1 + 0.3
    before = np.concatenate([[0.0], gains[:-1]])
    fitted = before * np.linalg.lstsq(before[:, None], gains, rcond=None)[0][0]  # the first stage
    expected = np.linalg.lstsq(fitted[:, None], gaps, rcond=None)[0][0]
    assert float(told(gaps, gains).share) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("factor", "is_told"), [(0.99, True), (1.01, False)])
def test_it_is_told_at_a_standard_error_that_allows_errors_of_any_size(factor: float, is_told: bool) -> None:
    """White's: the errors are in proportion to the gains, which an error of one size would not see."""
    generator = np.random.default_rng(7)
    gains = np.linspace(0.1, 2.0, 51)
    errors = gains * generator.standard_normal(51)
    before = np.concatenate([[0.0], gains[:-1]])
    errors -= before @ errors / (before @ gains) * gains  # so that the share is 0.4 whatever their size
    error = math.sqrt(np.square(before * errors).sum()) / (before @ gains)
    share = told(0.4 * gains + errors * factor * 0.05 / error, gains).share
    assert bool(share.isnan()) is not is_told
    assert not is_told or float(share) == pytest.approx(0.4, abs=1e-9)


def test_a_network_that_knows_nothing_yet_shows_no_share() -> None:
    """Its gain is the sampling error of its validation loss, with which the gap goes: least squares would find 0.6."""
    for seed in range(20):
        generator = np.random.default_rng(seed)
        training, validation = 2.3 + 0.01 * generator.standard_normal((2, 120))
        gains = 2.3 + 0.005 * generator.standard_normal(120) - validation
        gaps = training - validation
        assert 0.3 < np.linalg.lstsq(gains[:, None], gaps, rcond=None)[0][0] < 1.2
        assert told(gaps, gains, validation).known == 0


def test_what_does_not_count() -> None:
    noise = seen(0.4, steps=40)
    before = noise.state_dict()
    nan, loss = torch.tensor(math.nan), torch.tensor(1.0)
    noise.observe(40, nan, loss, loss, torch.tensor(False))  # not usable
    noise.commit(YES)
    noise.observe(41, loss, loss, loss, YES)  # a step that fails
    noise.commit(torch.tensor(False))
    noise.observe(42, loss, loss, loss, YES)
    noise.discard()
    noise.commit(YES)
    noise.observe(43, loss, loss, None, YES)  # the outputs are not known
    noise.commit(YES)
    assert same_bits(noise.state_dict(), before)
    other = ExcessNoise()
    for step in range(80):  # no cross-entropy
        other.observe(step, loss, loss / 2, torch.tensor(0.0), YES)
        other.commit(YES)
    assert other.share.isnan()
    assert other.known == 0


def test_many_runs_have_a_share_each() -> None:
    noise, shares = ExcessNoise(), torch.tensor([0.0, 0.3, 0.6])
    noise.start(torch.ones(3))
    for step in range(60):
        noise.observe(step, 0.5 + 2 * shares, torch.full((3,), 0.5), torch.full((3,), 2.0), YES)
        noise.commit(YES)
    torch.testing.assert_close(noise.share, shares, atol=1e-6, rtol=0)


@pytest.mark.parametrize("objective", [ValidationLoss, CalibratedLoss, OneSidedGap])
def test_the_hypergradient_is_that_of_labels_as_noisy_as_in_training(objective: Any) -> None:
    """The oracle: the cross-entropy with label smoothing of that size, without its confidence."""
    model = network()
    base = torch.optim.SGD(model.parameters(), lr=0.1)
    opt = SAM(base, LearnedRadius(0.1, objective=objective(), interval=1))
    guard = opt.radius.rule.guard  # type: ignore[attr-defined]
    guard.label_noise._share = torch.tensor(0.3, dtype=torch.float64)
    theta = flat(model.parameters()).requires_grad_()
    removed = maths.confidence(model, theta, batch(20), 0.3) * float(objective is not ValidationLoss)
    outputs = maths.outputs(model, theta, batch(20))
    smoothed = torch.nn.functional.cross_entropy(outputs, batch(20)[1], label_smoothing=0.3)
    (expected,) = torch.autograd.grad(smoothed - (removed * outputs).sum(), theta)
    found: list[torch.Tensor] = []
    slope = type(opt._parts).slope

    def recorded(parts: Any, params: Any, *rest: Any) -> Any:
        found.append(torch.cat([p.grad.reshape(-1) for p in params]))
        return slope(parts, params, *rest)

    type(opt._parts).slope = recorded  # type: ignore[method-assign]
    try:
        opt.step(closure_on(model, batch(0)), closure_on(model, batch(20)))
    finally:
        type(opt._parts).slope = slope  # type: ignore[method-assign]
    torch.testing.assert_close(found[0], expected, rtol=1e-9, atol=1e-12)


def test_the_matched_gap() -> None:
    losses = {"training_loss": torch.tensor(1.5), "validation_loss": torch.tensor(0.5)}
    evidence = Evidence(0, 1.0, 1.0, **losses, gain=torch.tensor(4.0), label_noise=torch.tensor(0.25))
    assert (evidence.gap, evidence.matched_gap) == (-1.0, 0.0)
    assert dataclasses.replace(evidence, gain=None).matched_gap == -1.0
    assert dataclasses.replace(evidence, label_noise=None).matched_gap == -1.0


def recorded_gains(opt: SAM) -> list[float]:
    """The gains that the optimizer's radius observes from now on."""
    noise = opt.radius.rule.guard.label_noise  # type: ignore[attr-defined]
    gains, observe = list[float](), noise.observe

    def recorded(step: int, training: Any, validation: Any, gain: Any, usable: Any) -> None:
        gains.append(float(gain))
        observe(step, training, validation, gain, usable)

    noise.observe = recorded
    return gains


def test_it_is_resumed_and_an_older_state_starts_anew() -> None:
    def optimizer() -> tuple[SAM, torch.nn.Module]:
        model = network()
        return SAM(torch.optim.SGD(model.parameters(), lr=0.1), LearnedRadius(0.05)), model

    (whole, model), (other, copied) = optimizer(), optimizer()
    gains = recorded_gains(whole)
    for i in range(60):
        if i == 15:
            copied.load_state_dict(model.state_dict())
            other.load_state_dict(whole.state_dict())
        whole.step(closure_on(model, batch(i % 3)), closure_on(model, batch(500)))
        if i >= 15:
            other.step(closure_on(copied, batch(i % 3)), closure_on(copied, batch(500)))
    ours, theirs = (opt.radius.rule.guard.label_noise for opt in (whole, other))  # type: ignore[attr-defined]
    assert len(gains) == 59
    assert float(ours._sums[1]) == pytest.approx(sum(one * two for one, two in itertools.pairwise(gains)))
    assert float(ours._gain) == gains[-1]
    assert same_bits(ours.state_dict(), theirs.state_dict())
    theirs.load_state_dict({})
    assert not theirs._sums.any()
    theirs.load_state_dict({"label_noise_sums": torch.ones(3, 3), "label_noise_share": torch.tensor(0.25)})
    assert (float(theirs.share), bool(theirs._sums.any()), float(theirs._gain)) == (0.25, False, 0.0)
    for wrong in (math.inf, 7.0, -0.1, torch.zeros(3)):
        with pytest.raises(ValueError, match="label_noise_share"):
            theirs.load_state_dict({**ours.state_dict(), "label_noise_share": torch.as_tensor(wrong)})
    for name in ("sums", "gain"):
        with pytest.raises(ValueError, match=f"label_noise_{name}"):
            theirs.load_state_dict({**ours.state_dict(), f"label_noise_{name}": torch.zeros(2)})


@pytest.mark.parametrize("mask", [-math.inf, -1e20, -1e4])
@pytest.mark.parametrize("objective", [ValidationLoss, OneSidedGap])
def test_labels_that_are_masked_out_are_not_drawn(objective: Any, mask: float) -> None:
    """The share and the gap are those of a network without the masked output, and the state can be loaded."""

    class Masked(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network()

        def forward(self, inputs: Any) -> Any:
            outputs = self.network(inputs)
            return torch.cat([outputs, torch.full_like(outputs[:, :1], mask)], dim=1)

    def after(model: torch.nn.Module) -> SAM:
        opt = SAM(torch.optim.SGD(model.parameters(), lr=0.1), LearnedRadius(0.05, objective=objective()))
        for i in range(60):
            opt.step(closure_on(model, batch(i % 3)), closure_on(model, batch(500)))
        return opt

    plain, masked = after(network()), after(Masked())
    ours, theirs = (opt.radius.rule.guard.label_noise for opt in (plain, masked))  # type: ignore[attr-defined]
    assert ours._sums[3] > 0
    torch.testing.assert_close(theirs._sums, ours._sums, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(masked.rho, plain.rho, rtol=1e-4, atol=0)
    other = Masked()
    SAM(torch.optim.SGD(other.parameters(), lr=0.1), LearnedRadius(0.05)).load_state_dict(masked.state_dict())


def test_a_state_with_infinite_sums_can_be_loaded() -> None:
    """Losses may be so large for a while that their squares are not finite."""
    noise, other = ExcessNoise(), ExcessNoise()
    for one in (noise, other):
        one.to(torch.device("cpu"), torch.float32)
    for step in range(2):
        noise.observe(step, torch.tensor(1e30), torch.tensor(0.5), torch.tensor(1.0), YES)
        noise.commit(YES)
    assert not noise._sums.isfinite().all()
    other.load_state_dict(noise.state_dict())
    assert same_bits(noise.state_dict(), other.state_dict())


# Real data


def trained(noise: float, clean: bool, epochs: int = 20) -> Training:
    """Digits with wrong training labels; validation labels are as they were, or as noisy."""
    task = load_task("digits")
    config = TrialConfig(task="digits", label_noise=noise, epochs=epochs, release=0.5).for_task(task)
    splits = make_splits(task, 0, **config.split_options, hold_out=True)
    if clean:
        assert splits.released is not None
        held_out = torch.ones(len(task.train), dtype=torch.bool)  # type: ignore[arg-type]
        held_out[splits.released[1]] = False
        splits = dataclasses.replace(splits, validation=Subset(task.train, held_out.nonzero().flatten().tolist()))
    run = Training(task, Method.parse("lets-sam:0.2"), 0, config, make_fabric("cpu"), splits=splits)
    while not run.finished:
        run.advance()
    return run


def share_of(run: Training) -> float:
    return float(run.optimizer.radius.rule.guard.label_noise.known)  # type: ignore[union-attr]


@pytest.mark.parametrize("noise", [0.2, 0.4, 0.6])
def test_wrong_training_labels_are_counted(noise: float) -> None:
    assert share_of(trained(noise, clean=True)) == pytest.approx(noise, abs=0.06)
    assert share_of(trained(noise, clean=False)) == 0


def test_clean_validation_labels_give_as_good_a_radius_as_noisy_ones() -> None:
    clean, noisy = (trained(0.4, clean, epochs=60) for clean in (True, False))
    accuracies = [run.result().test_accuracy for run in (clean, noisy)]
    assert min(accuracies) > 0.92
    assert abs(accuracies[0] - accuracies[1]) < 0.02
    radius = clean.rho_schedule[len(clean.rho_schedule) // 2]
    assert isinstance(radius, float)
    assert radius > 0.4  # twice the prior; it was 0.2 with labels that are taken as they are
