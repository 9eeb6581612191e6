"""LearnedRadius: the update of nu, re-done in Python floats, and that learning makes a difference."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch

import letsam
from learned_radius import learned_radius
from letsam import (
    ASAM,
    SAM,
    Diagonal,
    LearnedRadius,
    LogAdam,
    Prior,
    Secant,
    SharpnessAware,
    SquaredGap,
    ValidationLoss,
)
from oracle import maths
from oracle.problems import BASES, batch, closure_on, flat, network

STEPS = 20
PLAIN: dict[str, Any] = {"normalize": False, "prior": None, "burn_in": 0, "interval": 1, "length_invariant": True}
"""Adam on rho * d upper / d rho and nothing else."""


def run(
    radius: LearnedRadius, variant: type[SharpnessAware] = SAM, decay: bool = True, base: str = "momentum"
) -> tuple[list[float], list[float], list[float]]:
    """Per step: hypergradient, rho in use afterwards, learning rate during the step."""
    model = network()
    opt = variant(BASES[base](model.parameters()), rho=radius)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(opt, STEPS + 5) if decay else None
    hypergradients, radii, rates = [], [], []
    for i in range(STEPS):
        rates.append(opt.param_groups[0]["lr"])
        opt.step(closure_on(model, batch(i)), closure_on(model, batch(50 + i)))
        hypergradients.append(opt.metrics["hypergradient"].item() if "hypergradient" in opt.metrics else math.nan)
        radii.append(opt.rho.item())
        if scheduler:
            scheduler.step()
    return hypergradients, radii, rates


@pytest.mark.parametrize("bounds", [(1e-4, 10.0), (0.099, 0.1005)])
@pytest.mark.parametrize("follow_lr", [False, True])
@pytest.mark.parametrize("training_batch", ["next", "same"])
@pytest.mark.parametrize("objective", ["squared_gap", "validation_loss"])
def test_nu_is_moved_by_adam(objective: str, training_batch: str, follow_lr: bool, bounds: tuple[float, float]) -> None:
    radius = learned_radius(
        0.1, objective=objective, training_batch=training_batch, lr=0.03, follow_lr=follow_lr, bounds=bounds, **PLAIN
    )
    hypergradients, radii, lrs = run(radius)
    rates = [0.03 * lr / lrs[0] if follow_lr else 0.03 for lr in lrs]
    if training_batch == "next":  # the first step has no Z behind it
        assert hypergradients[0] == 0
        assert radii[0] == 0.1
        hypergradients, radii, rates = hypergradients[1:], radii[1:], rates[1:]

    expected = maths.adam_on_log_radius(0.1, hypergradients, rates, bounds)

    assert radii == pytest.approx(expected, rel=1e-9)
    assert all(h != 0 for h in hypergradients)
    assert all(bounds[0] <= r <= bounds[1] for r in radii), "not by a rounding either"
    if bounds == (0.099, 0.1005):
        assert any(r == pytest.approx(b, rel=1e-12) for r in radii for b in bounds), "the bound must have been hit"
    else:
        assert len({round(r, 12) for r in radii}) > 3


def test_the_first_update_is_one_rate_long() -> None:
    """Adam's first step has the size of its rate: log(rho) moves by lr, whatever the hypergradient."""
    _, radii, _ = run(learned_radius(0.1, lr=0.05, follow_lr=False, **PLAIN))
    assert abs(math.log(radii[1] / radii[0])) == pytest.approx(0.05, rel=1e-6)


def test_interval_counts_its_own_updates() -> None:
    """Between updates nothing moves, Adam counts updates, not steps, and an update moves as far as 4 steps would."""
    hypergradients, radii, _ = run(learned_radius(0.1, lr=0.02, follow_lr=False, **PLAIN | {"interval": 4}))
    at = range(3, STEPS, 4)
    expected = maths.adam_on_log_radius(0.1, [hypergradients[i] for i in at], [0.08] * len(at), (1e-4, 10.0))
    assert [radii[i] for i in at] == pytest.approx(expected, rel=1e-9)
    for i in range(STEPS):
        assert i in at or radii[i] == (radii[i - 1] if i else 0.1)


def test_small_hypergradients_still_move_the_radius() -> None:
    """Far below Adam's usual epsilon of 1e-8: what counts is the sign and the consistency, not the size."""
    w = torch.nn.Parameter(torch.tensor([1.0, 2.0], dtype=torch.float64))
    opt = SAM(torch.optim.SGD([w], lr=0.1), rho=learned_radius(0.1, lr=0.02, **PLAIN | {"length_invariant": False}))

    def closure() -> torch.Tensor:
        opt.zero_grad()
        loss = 1e-6 * w.pow(4).sum()
        loss.backward()
        return loss

    for _ in range(3):
        opt.step(closure, closure)
    assert abs(opt.metrics["hypergradient"].item()) < 1e-9
    assert abs(math.log(opt.rho.item() / 0.1)) == pytest.approx(0.04, rel=0.05)


@pytest.mark.parametrize("variant", [SAM, ASAM])
@pytest.mark.parametrize("base", ["momentum", "adam"])
def test_learning_follows_the_hypergradient_downhill(base: str, variant: type[SharpnessAware]) -> None:
    """Against the slope on average: where d upper / d rho > 0, rho falls, and the other way round."""
    hypergradients, radii, _ = run(LearnedRadius(0.1, interval=1), variant, base=base)
    first = math.log(radii[1] / radii[0])
    assert first * hypergradients[1] < 0


@pytest.mark.parametrize("variant", [SAM, ASAM])
def test_a_learned_radius_is_not_a_fixed_one(variant: type[SharpnessAware]) -> None:
    weights: list[torch.Tensor] = []
    for rho in (0.3, learned_radius(0.3, lr=0.1, follow_lr=False)):
        model = network()
        opt = variant(torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9), rho=rho)
        for i in range(STEPS):
            opt.step(closure_on(model, batch(i)), closure_on(model, batch(50 + i)))
        weights.append(flat(model.parameters()))
    assert (weights[0] - weights[1]).norm() > 1e-3


FORMS: dict[str, dict[str, Any]] = {
    "default": {},
    "gap": {"objective": "squared_gap"},
    "same": {"training_batch": "same"},
    "gap, same": {"objective": "squared_gap", "training_batch": "same"},
    "finite difference": {"hypergradient": "finite_difference"},
    "diagonal": {"hypergradient": "diagonal"},
    "not projected": {"length_invariant": False},
    "constant rate": {"follow_lr": False},
    "interval": {"interval": 3},
    "not normalized": {"normalize": False},
    "no prior": {"prior": None},
    "prior": {"prior": 0.05},
    "prior_weight": {"prior_weight": 0.5},
    "prior_rise": {"prior_rise": 1e-5},
    "burn_in": {"burn_in": 3},
    "lr": {"lr": 0.01},
}


def test_every_option_makes_a_difference() -> None:
    ends = {
        name: run(learned_radius(0.1, **{"burn_in": 5, "bounds": (1e-3, 1.0)} | options))[1][-1]
        for name, options in FORMS.items()
    } | {"bounds": run(learned_radius(0.092, bounds=(0.09, 0.0921)))[1][-1]}
    ends.pop("same")  # the validation loss does not look at the training batch: only the moment of the update differs
    values = sorted(ends.values())
    gaps = [b - a for a, b in itertools.pairwise(values)]
    assert min(gaps) > 1e-9, ends


def test_the_papers_reading() -> None:
    paper = LearnedRadius.paper(0.2, interval=3, lr=0.01, bounds=(0.1, 0.4))
    assert (type(paper.objective), paper.objective.training_batch) == (SquaredGap, "same")
    assert (type(paper.hypergradient), paper.hypergradient.length_invariant) == (Diagonal, False)
    assert isinstance(paper.rule, LogAdam)
    assert (paper.interval, paper.rule.lr, paper.rule.bounds, paper.rule.follow_lr) == (3, 0.01, (0.1, 0.4), False)
    explicit = learned_radius(
        0.1,
        objective="squared_gap",
        hypergradient="diagonal",
        training_batch="same",
        length_invariant=False,
        follow_lr=False,
        interval=1,
        lr=0.02,
        normalize=False,
        prior=None,
        burn_in=0,
    )
    assert run(LearnedRadius.paper(0.1)) == run(explicit)


def test_the_defaults_are_the_best_form_known() -> None:
    radius = LearnedRadius(0.05)
    assert (type(radius.objective), radius.objective.training_batch, radius.interval) == (ValidationLoss, "next", None)
    assert (type(radius.hypergradient), radius.hypergradient.length_invariant) == (Secant, True)
    rule = radius.rule
    assert (type(rule), rule.lr, rule.follow_lr, rule.normalize, rule.burn_in) == (LogAdam, 0.05, True, True, 100)
    assert (rule.prior.reach, rule.prior.weight, rule.prior.rise) == (0.2, (0.7, 0.1), 0.2)
    assert rule.bounds == (1e-4, 10.0)


def test_skipping_the_ascent_carries_no_stale_z() -> None:
    """After a step that has not climbed there is no Z, so the radius rests (LookSAM with a learned radius)."""
    from letsam.perturbations import SAMPerturbation

    class EveryOther(SAMPerturbation):
        def ascends(self, step: int) -> bool:
            return step % 2 == 0

    model = network()
    opt = SharpnessAware(torch.optim.SGD(model.parameters(), lr=0.1), EveryOther(), learned_radius(0.1, **PLAIN))
    radii = []
    for i in range(6):
        log: list[str] = []
        opt.step(closure_on(model, batch(i), log), closure_on(model, batch(9)))
        assert len(log) == 2 - i % 2
        radii.append(opt.rho.item())
    assert [a != b for a, b in zip([0.1, *radii], radii, strict=False)] == [False, True, False, True, False, True]


def test_a_slope_whose_square_overflows_leaves_the_radius_alone() -> None:
    """1e30 is a float32, its square is not: Adam's second moment would stay infinite for ever."""
    weight = torch.nn.Parameter(torch.tensor([3.0, 4.0]))
    opt = letsam.SAM(torch.optim.SGD([weight], lr=1e-3), rho=learned_radius(0.1, **PLAIN))

    def quadratic(scale: float) -> torch.Tensor:
        opt.zero_grad()
        value = scale * (weight**4).sum()
        value.backward()
        return value

    for scale in (1.0, 1.0, 1e28, 1.0, 1.0):
        before = opt.rho.clone()
        opt.step(lambda: quadratic(1e-3), lambda scale=scale: quadratic(scale))
        if scale > 1:
            assert opt.metrics["hypergradient"].isfinite()
            assert torch.equal(opt.rho, before)
        assert opt.rho.isfinite()
    assert not torch.equal(opt.rho, before)


# What the defaults add: cosines, a prior, a burn-in


def expected_radii(
    rho: float, slopes: list[float], reaches: list[float], priors: list[float], *, burn_in: int, lr: float
) -> list[float]:
    """`LogAdam` and `Prior` in Python floats, an update at every step from the second on; rho after each step."""
    nu, m, v, radii = math.log(rho), 0.0, 0.0, [rho]
    for step, (slope, reach, prior) in enumerate(zip(slopes, reaches, priors, strict=True), start=1):
        early = max(0.0, 1 - step / burn_in) if burn_in else 0.0
        prior *= 0.1 + 0.9 * step / burn_in if early else 1.0
        m, v = 0.9 * m + 0.1 * slope, 0.999 * v + 0.001 * slope**2
        move = (m / (1 - 0.9**step)) / math.sqrt(v / (1 - 0.999**step))
        excess = max(-1.0, min(1.0, nu + math.log(reach / prior)))
        move += excess * (BELOW if excess < 0 else ABOVE * (1 + 2.6 * early))
        nu -= lr * (1 + early) * move
        if step < burn_in:
            nu = min(nu, math.log(prior / reach) + 2 * step / burn_in)
        radii.append(math.exp(nu))
    return radii


BELOW, ABOVE = 0.5, 0.3


@pytest.mark.parametrize("variant", [SAM, ASAM])
@pytest.mark.parametrize("burn_in", [0, 7])
@pytest.mark.parametrize("rise", [None, 1.0, 0.05, 1e-3, 1e-4])
@pytest.mark.parametrize("rho", [0.03, 0.1, 0.4])
def test_cosine_prior_and_burn_in(rho: float, rise: float | None, burn_in: int, variant: type[SharpnessAware]) -> None:
    """The radius follows the rule, given cosines, reach and rise that are worked out from the passes outside."""
    model = network()
    radius = learned_radius(
        rho,
        prior=0.1,
        prior_weight=(BELOW, ABOVE),
        prior_rise=rise,
        burn_in=burn_in,
        interval=1,
        lr=0.05,
        follow_lr=False,
    )
    opt = variant(torch.optim.SGD(model.parameters(), lr=0.1), rho=radius)
    params, changes = list(model.parameters()), torch.zeros(0)
    slopes, reaches, radii, reach, priors, growths, scales = [], [], [], 1.0, [], 0.0, 0.0
    for i in range(30):
        seen: list[tuple[torch.Tensor, torch.Tensor]] = []  # weights and gradient of each pass

        def watched(inner: Any, seen: list[Any] = seen) -> Any:
            def closure() -> torch.Tensor:
                at = flat(params).clone()
                loss = inner()
                seen.append((at, torch.cat([p.grad.flatten() for p in params if p.grad is not None])))
                return loss

            return closure

        opt.step(watched(closure_on(model, batch(i))), watched(closure_on(model, batch(50 + i))))
        (_, held_out), (theta, first), (perturbed, second) = seen
        used = opt.metrics["rho"].item()
        assert torch.equal(opt.rho, opt.metrics["rho"])
        if i:
            slopes.append(float(held_out @ changes / (held_out.norm() * changes.norm())))
            reaches.append(reach)
            share = 0.1**2 / 2 * growths / scales if i > 1 else 0.0  # by which the loss rises for its curvature
            priors.append(0.1 if rise is None or share <= 0 else 0.1 * min(1.0, rise / share) ** 2)
        curvature = (second - first) / used
        changes = -0.1 * (curvature - (curvature @ second / second.square().sum()) * second)
        reach = float((perturbed - theta) @ first / (used * first.norm()))
        radii.append(used)
        if 0 < i < 25:
            growths += used * reach * (second.norm() - first.norm()).item()
            scales += (used * reach) ** 2 * opt.metrics["training_loss"].item()
    assert (min(priors) < 0.1) == (rise is not None and rise < 0.01)
    expected = expected_radii(rho, slopes, reaches, priors, burn_in=burn_in, lr=0.05)
    if variant is SAM:
        assert reaches == pytest.approx([1.0] * len(reaches), rel=1e-9)
    else:
        assert max(reaches) < 0.9
    if variant is SAM or not burn_in:
        assert radii == pytest.approx(expected, rel=1e-6)
    else:
        farthest = max(r * n for r, n in zip(radii[2:burn_in], reaches[1:], strict=False))
        assert farthest < 0.1 * math.e**2 * 1.3
    assert len({round(r, 9) for r in radii}) > 3


@pytest.mark.parametrize(
    ("loss", "growth", "share"),
    [
        (2.0, 0.9, 0.3),  # over a distance of 0.03: the curvature is 30, the loss rises for it by 30 * 0.2^2 / 2 = 0.6
        (2.0, 0.3, 0.1),
        (2.0, 0.1, 0.0333),
        (2.0, 0.0, 0.0),
        (2.0, -0.9, 0.0),
        (0.0, 0.9, math.inf),
        (-2.0, 0.9, 0.0),  # a loss whose 0 means nothing
        (-2.0, -0.9, 0.0),
    ],
)
def test_the_prior_is_limited_where_the_loss_is_curved(loss: float, growth: float, share: float) -> None:
    prior = Prior(0.2, rise=0.05)
    assert prior.log_reach.exp().item() == pytest.approx(0.2)
    for _ in range(3):  # sums: the same thrice is the same
        prior.observe(*torch.tensor([loss, 0.03, growth], dtype=torch.float64))
        prior.commit(torch.tensor(True))
    prior.observe(*torch.tensor([1.0, 0.03, 5.0], dtype=torch.float64))
    prior.commit(torch.tensor(False))
    expected = 0.2 * min(1.0, 0.05 / share) ** 2 if share > 0.05 else 0.2
    assert prior.log_reach.exp().item() == pytest.approx(expected, rel=1e-9)


def test_without_evidence_the_prior_holds() -> None:
    """A linear loss has no curvature: every slope is 0, and rho goes to the prior from both sides."""
    for start in (0.02, 0.9):
        weight = torch.nn.Parameter(torch.tensor([3.0, 4.0], dtype=torch.float64))
        opt = SAM(torch.optim.SGD([weight], lr=1e-3), rho=learned_radius(start, prior_rise=None, follow_lr=False))

        def linear(opt: SAM = opt, weight: torch.Tensor = weight) -> torch.Tensor:
            opt.zero_grad()
            loss = weight.sum()
            loss.backward()
            return loss

        for _ in range(800):
            opt.step(linear, linear)
        assert opt.rho.item() == pytest.approx(0.2, rel=0.02)


def test_the_curvature_is_measured_from_the_second_step_to_the_25th() -> None:
    """The first may begin anywhere; a step that does not climb says nothing."""
    for variant, measured in (
        (SAM, [*range(1, 25)]),
        (lambda *a, **k: letsam.LookSAM(*a, k=2, **k), [*range(2, 25, 2)]),
    ):
        model, sums = network(), [torch.zeros((), dtype=torch.float64)]
        opt = variant(torch.optim.SGD(model.parameters(), lr=0.05), rho=LearnedRadius(0.1))
        for i in range(30):
            opt.step(closure_on(model, batch(i)), closure_on(model, batch(50 + i)))
            sums.append(opt.radius.state_dict()["curved_scale"])
        assert [i for i, (a, b) in enumerate(itertools.pairwise(sums)) if not torch.equal(a, b)] == measured


def test_between_updates_only_the_whole_prior_holds_the_radius() -> None:
    """From the second step on, which has no update at this interval; at the first update a tenth of the prior does."""
    for start, held in ((0.15, 0.15), (0.9, 0.2 * math.exp(2 / 100))):
        _, radii, _ = run(learned_radius(start, prior_rise=None, interval=3))
        assert radii[0] == pytest.approx(start)
        assert radii[1] == pytest.approx(held, rel=1e-6)
        assert radii[2] == pytest.approx(0.2 * (0.1 + 0.9 * 2 / 100) * math.exp(4 / 100), rel=1e-6)


def test_bounds_come_before_the_prior() -> None:
    _, radii, _ = run(learned_radius(0.5, bounds=(0.4, 0.6)))
    assert all(0.4 <= rho <= 0.6 for rho in radii)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prior": 0.0}, "`reach` must be > 0, got 0.0"),
        ({"prior": "a"}, "`reach` must be a number, got 'a'"),
        ({"prior_weight": -0.1}, "`weight` must be >= 0, got -0.1"),
        ({"prior_weight": math.nan}, "`weight` must be >= 0, got nan"),
        ({"prior_weight": (0.1, -0.2)}, "`weight` must be >= 0, got -0.2"),
        ({"prior_weight": (0.1, 0.2, 0.3)}, "`weight` must be one number or two"),
        ({"prior_rise": 0.0}, "`rise` must be > 0, got 0.0"),
        ({"burn_in": -1}, "`burn_in` must be a whole number >= 0, got -1"),
        ({"normalize": 1}, "`normalize` must be"),
    ],
)
def test_bad_options_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        learned_radius(0.1, **options)


def test_an_update_at_every_step_of_the_burn_in_and_every_fourth_after_it() -> None:
    for training_batch in ("next", "same"):
        _, radii, _ = run(learned_radius(0.05, burn_in=6, training_batch=training_batch))
        moved = [i for i, (a, b) in enumerate(itertools.pairwise([0.05, *radii])) if a != b]
        assert moved == [*range(training_batch == "next", 6), *range(7, STEPS, 4)]
