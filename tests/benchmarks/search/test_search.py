"""The search for the rule of the learned radius: its replicas train as the library does."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

import letsam
from benchmarks.search.batched import (
    LearnedRadii,
    Moment,
    Pass,
    Radii,
    ReplayedRadii,
    Samples,
    cross_entropy,
    network,
    train,
)
from benchmarks.search.ideas import (
    RADII,
    GapAndLoss,
    PartlyInvariant,
    QuadraticPrior,
    Ramped,
    RelativeAscent,
    RisingPrior,
    WholePrior,
    best_scale,
    calibrated,
    expected_error,
)
from learned_radius import learned_radius
from letsam.radius import Radius, excess_noise
from letsam.tasks import Task
from letsam.training.sampling import make_splits, training_order, validation_batch

SIZES, SEEDS, STARTS, EPOCHS, BATCH = (3, 5, 4), (0, 1, 0), (0.01, 0.3, 1.0), 12, 8


def splits() -> dict[int, Any]:
    generator = torch.Generator().manual_seed(3)
    inputs = torch.randn(60, 3, generator=generator, dtype=torch.float64)
    targets = (inputs @ torch.randn(3, 4, generator=generator, dtype=torch.float64)).argmax(1)
    train_set, test_set = TensorDataset(inputs[:30], targets[:30]), TensorDataset(inputs[30:], targets[30:])
    task = Task(name="tiny", model=lambda: network(SIZES, 0), train=train_set, test=test_set)
    return {s: make_splits(task, s, label_noise=0.2, validation_share=0.2, hold_out=True) for s in (0, 1)}


def plainly(seed: int, radius: Radius | float) -> tuple[list[float], nn.Module, float]:
    """The same training with the optimizer itself, one network at a time."""
    split = splits()[seed]
    model = network(SIZES, seed).double()
    base = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    opt = letsam.SAM(base, rho=radius)
    batches = [indices for epoch in range(EPOCHS) for indices in training_order(split.order, BATCH, seed, epoch)]
    cosine = torch.optim.lr_scheduler.LambdaLR(opt, lambda s: 0.5 * (1 + math.cos(math.pi * s / len(batches))))

    def closure_on(dataset: TensorDataset, indices: list[int]) -> Callable[[], Tensor]:
        def closure() -> Tensor:
            opt.zero_grad()
            loss = nn.functional.cross_entropy(model(dataset.tensors[0][indices]), dataset.tensors[1][indices])
            loss.backward()
            return loss

        return closure

    used = []
    for step, indices in enumerate(batches):
        held_out = validation_batch(len(split.validation), BATCH, seed, step)
        opt.step(closure_on(split.train, indices), closure_on(split.validation, held_out))
        used.append(opt.metrics["rho"].item())
        cosine.step()
    inputs, targets = split.test.tensors
    return used, model, (model(inputs).argmax(1) == targets).double().mean().item() * 100


def assert_same(radii: Radii, plain: Callable[[float], Radius | float]) -> Tensor:
    """All replicas, every step's radius and every weight; returns the radii."""
    found = train(Samples(splits(), BATCH), SIZES, SEEDS, radii, epochs=EPOCHS)
    assert len(found.rho) == 36
    for replica, (seed, start) in enumerate(zip(SEEDS, STARTS, strict=True)):
        used, model, accuracy = plainly(seed, plain(start))
        torch.testing.assert_close(found.rho[:, replica], torch.tensor(used, dtype=torch.float64), rtol=1e-8, atol=1e-8)
        for mine, theirs in zip(found.weights, model.parameters(), strict=True):
            mine = mine[replica].t() if theirs.ndim == 2 else mine[replica, 0]
            torch.testing.assert_close(mine.detach(), theirs.detach(), rtol=1e-8, atol=1e-8)
        assert found.accuracy[replica].item() == pytest.approx(accuracy, abs=1e-4)
    return found.rho


def starts() -> Tensor:
    return torch.tensor(STARTS, dtype=torch.float64)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"burn_in": 10},
        {"burn_in": 10, "interval": 3},
        {"prior_rise": 1e-3, "prior_weight": (0.9, 0.2)},
        {"prior": None, "follow_lr": False, "length_invariant": False},
        {"normalize": False, "interval": 1, "burn_in": 0},
        {"length_invariant": False, "lr": 0.06, "prior_weight": 0.4},
        {"objective": "squared_gap", "interval": 2},
        {"objective": "squared_gap", "normalize": False, "prior": None},
    ],
    ids=str,
)
def test_the_harness_trains_as_the_library_does(options: dict[str, Any]) -> None:
    radii = LearnedRadii(starts(), learned_radius(0.1, **options))
    rho = assert_same(radii, lambda start: learned_radius(start, **options))
    assert ((rho[-1] - starts()).abs() > 1e-3).all()  # the radii have moved


def test_fixed_and_replayed_radii_are_the_libraries() -> None:
    assert_same(Radii(starts()), lambda start: start)
    curve = torch.linspace(0.5, 1.5, 7)[:, None].double() * starts()
    schedules = {start: curve[:, i].tolist() for i, start in enumerate(STARTS)}
    for burn_in in (0, 4):
        assert_same(
            ReplayedRadii(curve, 36, burn_in),
            lambda start, burn_in=burn_in: letsam.ReplayedRadius(schedules[start], 36, burn_in=burn_in),
        )


def started(radius: letsam.LearnedRadius, start: float) -> letsam.LearnedRadius:
    """The same parts from another start."""
    parts = {"objective": radius.objective, "hypergradient": radius.hypergradient, "rule": radius.rule}
    return type(radius)(start, interval=radius.interval, **parts)


APART = ("prior by relative ascent", "invariant by 80%", "ramp instead of burn-in")
IN_THE_OPTIMIZER_TOO = [name for name in RADII if name not in APART]


@pytest.mark.slow
@pytest.mark.parametrize("name", IN_THE_OPTIMIZER_TOO)
def test_the_ideas_are_parts_that_the_optimizer_takes_as_well(name: str) -> None:
    assert_same(LearnedRadii(starts(), RADII[name]), lambda start: started(RADII[name], start))


def test_the_partly_invariant_takes_off_four_fifths_of_the_component_along_the_gradient() -> None:
    ones = torch.ones(2, dtype=torch.float64)
    first, second = vectors([0.0, 0.0], [1.0, 0.0]), vectors([2.0, 0.0], [1.0, 3.0])
    rule = letsam.LogAdam(burn_in=0)
    radii = LearnedRadii(ones, letsam.LearnedRadius(0.1, hypergradient=PartlyInvariant(), rule=rule, interval=1))
    radii.see(0, 1.0, ones, Pass(ones, first), Pass(ones, second))
    change = vectors([2.0, 0.0], [0.0, 3.0])[0]  # its share along the gradient: all of it, and 0.9 of (1, 3)
    along = torch.stack([change[0], 0.9 * second[0][1]])
    torch.testing.assert_close(radii.z[0], -(change - 0.8 * along))


def test_what_the_harness_does_not_imitate_is_refused() -> None:
    for radius in (letsam.LearnedRadius(0.1, hypergradient=letsam.Diagonal()), letsam.LearnedRadius.paper(0.1)):
        with pytest.raises(ValueError, match="`radius` must have the secant and the next batch, got"):
            LearnedRadii(starts(), radius)


# --- the ideas that are not in the library ----------------------------------------------------------------------------


def vectors(*rows: list[float]) -> list[Tensor]:
    return [torch.tensor(rows, dtype=torch.float64)]


def plain(ends: Tensor, prior: letsam.Prior | None = None, objective: letsam.Objective | None = None) -> LearnedRadii:
    """Without burn-in and projection, at a rate of 0.1."""
    parts = {
        "rule": letsam.LogAdam(0.1, prior=prior, burn_in=0),
        "hypergradient": letsam.Secant(length_invariant=False),
    }
    return LearnedRadii(ends, letsam.LearnedRadius(0.1, objective=objective, interval=1, **parts))


def moved(radii: LearnedRadii, validation: list[Tensor], training: list[Tensor], rise: float = 0.0) -> Tensor:
    """The change of nu in one update of two replicas, with Z = (1, 0)."""
    ones = torch.ones(2, dtype=torch.float64)
    before = radii.radius.rho.log()
    first = Pass(ones, vectors([0.0, 0.0], [0.0, 0.0]))
    radii.see(0, 1.0, ones, first, Pass(ones + rise, vectors([-1.0, 0.0], [-1.0, 0.0])))
    return radii.at(Moment(1, 1.0, Pass(ones, training), Pass(ones, validation))).log() - before


ASIDE = vectors([0.0, 1.0], [0.0, 1.0])  # orthogonal to Z: no evidence, so that only the prior moves nu


def test_the_pull_of_the_quadratic_prior_has_no_bound() -> None:
    ends = torch.tensor([0.001, 1.0], dtype=torch.float64)
    distance = (ends / 0.1).log()
    quadratic = moved(plain(ends, QuadraticPrior(0.1, weight=0.5, rise=None)), ASIDE, ASIDE)
    torch.testing.assert_close(quadratic, -0.1 * 0.5 * distance)
    huber = moved(plain(ends, letsam.Prior(0.1, weight=0.5, rise=None)), ASIDE, ASIDE)
    torch.testing.assert_close(huber, -0.1 * 0.5 * distance.sign())


def test_the_prior_by_relative_ascent_pulls_down_by_the_rise_of_the_loss_and_up_as_ever() -> None:
    ends = torch.tensor([0.001, 1.0], dtype=torch.float64)
    for rise, share in ((0.2, 0.2), (3.0, 1.0), (-1.0, 0.0)):
        change = moved(plain(ends, RelativeAscent()), ASIDE, ASIDE, rise)
        torch.testing.assert_close(change, torch.tensor([0.1 * 0.7, -0.1 * 0.1 * share]).double())


def test_the_rising_prior_is_half_at_first_the_prior_midway_and_half_as_much_again_in_the_end() -> None:
    rule, ones = RisingPrior(prior=letsam.Prior(0.1, rise=None), burn_in=0), torch.ones(3).double()
    rule.start(starts())
    for share, factor in ((1.0, 0.5), (0.5, 1.0), (0.0, 1.5)):
        rule.propose(starts(), 0 * ones, letsam.radius.Update(5, 1, share, ones, ones.bool()))
        log_radius, _ = rule.log_highest(ones, 5, True)
        assert log_radius is not None
        torch.testing.assert_close(log_radius.exp(), torch.full((3,), 0.1 * factor).double())


def test_the_prior_is_a_tenth_at_first_and_whole_after_the_burn_in_or_at_once() -> None:
    for step, share in ((0, 0.1), (50, 0.55), (100, 1.0), (900, 1.0)):
        assert letsam.Prior().share(step, 100) == pytest.approx(share)
        assert WholePrior().share(step, 100) == 1.0


def test_gap_and_loss_takes_half_of_the_training_slope_away() -> None:
    radii = plain(torch.full((2,), 0.1, dtype=torch.float64), objective=GapAndLoss())
    validation, training = vectors([3.0, 4.0], [3.0, 4.0]), vectors([4.0, 3.0], [-4.0, 3.0])
    moved(radii, validation, training)  # cosines 0.6, and 0.8 and -0.8
    radii.radius.commit(radii.finite)
    expected = torch.tensor([1.5 * 0.6 - 0.5 * 0.8, 1.5 * 0.6 + 0.5 * 0.8]).double()
    torch.testing.assert_close(radii.radius.state_dict()["exp_avg"], 0.1 * expected, rtol=1e-6, atol=0)


def test_the_ramp_starts_at_a_hundredth_and_ends_at_what_is_learned() -> None:
    first = Pass(torch.ones(3).double(), [torch.ones(3, 1).double()])
    radii = LearnedRadii(starts(), Ramped(0.1, rule=letsam.LogAdam(burn_in=0)))
    for step, share in ((0, 0.01), (49, 0.5), (99, 1.0), (500, 1.0)):
        torch.testing.assert_close(radii.at(Moment(step, 1.0, first, None)), share * starts())


def test_the_expected_error_is_the_probability_of_the_other_classes() -> None:
    outputs = torch.tensor([[[0.25, 0.75], [0.5, 0.5]], [[0.9, 0.1], [0.2, 0.8]]], dtype=torch.float64).log()
    error = expected_error(outputs, torch.tensor([[1, 0], [1, 1]]))
    torch.testing.assert_close(error, torch.tensor([(0.25 + 0.5) / 2, (0.9 + 0.2) / 2], dtype=torch.float64))


def test_the_calibrated_loss_is_the_least_over_all_scales() -> None:
    generator = torch.Generator().manual_seed(0)
    outputs = 5 * torch.randn(2, 200, 4, generator=generator, dtype=torch.float64)
    noisy = torch.rand(2, 200, generator=generator) < 0.4
    targets = torch.where(noisy, torch.randint(4, (2, 200), generator=generator), outputs.argmax(-1))
    found = calibrated(outputs, targets)
    for scale in torch.logspace(-2, 1, 100):
        assert (found <= cross_entropy(scale * outputs, targets) + 1e-9).all()
    assert (found < cross_entropy(outputs, targets) - 0.1).all()  # sure of what is wrong in 3 of 10
    torch.testing.assert_close(best_scale(3 * outputs, targets), best_scale(outputs, targets) / 3, rtol=1e-5, atol=0)


def test_the_validation_pass_has_the_loss_of_the_idea() -> None:
    samples = Samples(splits(), BATCH)
    plainly, otherwise = (
        train(
            samples,
            SIZES,
            SEEDS,
            LearnedRadii(starts(), letsam.LearnedRadius(0.1, objective=letsam.ValidationLoss()), loss),
            epochs=2,
        )
        for loss in (cross_entropy, expected_error)
    )
    torch.testing.assert_close(plainly.rho[0], otherwise.rho[0])
    assert not torch.equal(plainly.rho[-1], otherwise.rho[-1])


@pytest.mark.parametrize("objective", [letsam.CalibratedLoss, letsam.OneSidedGap])
def test_label_noise_is_told_and_used_as_by_the_optimizer(objective: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """These runs are short, so it is told earlier than it should be."""
    for name, value in (("FIRST", 5), ("ERROR", 10.0), ("LOWEST", 0.0)):
        monkeypatch.setattr(excess_noise, name, value)
    radii = LearnedRadii(starts(), letsam.LearnedRadius(0.1, objective=objective()))
    assert_same(radii, lambda start: letsam.LearnedRadius(start, objective=objective()))
    shares = radii.radius.rule.guard.label_noise.share  # type: ignore[attr-defined]
    assert (shares > 0.01).any()
    assert shares.unique().numel() > 1
