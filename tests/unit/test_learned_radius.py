"""LearnedRadius: the update of nu, re-done in Python floats, and that learning makes a difference."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch

import letsam
from letsam import ASAM, SAM, LearnedRadius, SharpnessAware
from oracle import maths
from oracle.problems import BASES, batch, closure_on, flat, network

STEPS = 20


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
    radius = LearnedRadius(
        0.1, objective=objective, training_batch=training_batch, lr=0.03, follow_lr=follow_lr, bounds=bounds
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
    _, radii, _ = run(LearnedRadius(0.1, lr=0.05, follow_lr=False))
    assert abs(math.log(radii[1] / radii[0])) == pytest.approx(0.05, rel=1e-6)


def test_interval_counts_its_own_updates() -> None:
    """Between updates nothing moves, and Adam's bias correction counts updates, not steps."""
    hypergradients, radii, _ = run(LearnedRadius(0.1, interval=4, follow_lr=False))
    at = range(3, STEPS, 4)
    expected = maths.adam_on_log_radius(0.1, [hypergradients[i] for i in at], [0.02] * len(at), (1e-4, 10.0))
    assert [radii[i] for i in at] == pytest.approx(expected, rel=1e-9)
    for i in range(STEPS):
        assert i in at or radii[i] == (radii[i - 1] if i else 0.1)


def test_small_hypergradients_still_move_the_radius() -> None:
    """Far below Adam's usual epsilon of 1e-8: what counts is the sign and the consistency, not the size."""
    w = torch.nn.Parameter(torch.tensor([1.0, 2.0], dtype=torch.float64))
    opt = SAM(torch.optim.SGD([w], lr=0.1), rho=LearnedRadius(0.1, length_invariant=False))

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
    hypergradients, radii, _ = run(LearnedRadius(0.1), variant, base=base)
    first = math.log(radii[1] / radii[0])
    assert first * hypergradients[1] < 0


@pytest.mark.parametrize("variant", [SAM, ASAM])
def test_a_learned_radius_is_not_a_fixed_one(variant: type[SharpnessAware]) -> None:
    weights: list[torch.Tensor] = []
    for rho in (0.3, LearnedRadius(0.3, lr=0.1, follow_lr=False)):
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
    "unprojected": {"length_invariant": False},
    "constant rate": {"follow_lr": False},
    "interval": {"interval": 2},
}


def test_every_option_makes_a_difference() -> None:
    ends = {name: run(LearnedRadius(0.1, **options))[1][-1] for name, options in FORMS.items()}
    ends.pop("same")  # the validation loss does not look at the training batch: only the moment of the update differs
    values = sorted(ends.values())
    gaps = [b - a for a, b in itertools.pairwise(values)]
    assert min(gaps) > 1e-9, ends


def test_the_papers_reading() -> None:
    paper = LearnedRadius.paper(0.2, interval=3, lr=0.01, bounds=(0.1, 0.4))
    assert (paper.objective, paper.training_batch, paper.length_invariant) == ("squared_gap", "same", False)
    assert type(paper.hypergradient).__name__ == "Diagonal"
    assert (paper.interval, paper.lr, paper.bounds, paper.follow_lr) == (3, 0.01, (0.1, 0.4), False)
    explicit = LearnedRadius(
        0.1,
        objective="squared_gap",
        hypergradient="diagonal",
        training_batch="same",
        length_invariant=False,
        follow_lr=False,
    )
    assert run(LearnedRadius.paper(0.1)) == run(explicit)


def test_the_defaults_are_the_best_form_known() -> None:
    radius = LearnedRadius(0.05)
    assert (radius.objective, radius.training_batch, radius.length_invariant, radius.interval, radius.follow_lr) == (
        "validation_loss", "next", True, 1, True,
    )  # fmt: skip
    assert type(radius.hypergradient).__name__ == "Secant"


def test_skipping_the_ascent_carries_no_stale_z() -> None:
    """After a step that has not climbed there is no Z, so the radius rests (LookSAM with a learned radius)."""
    from letsam.perturbations import SteepestAscent

    class EveryOther(SteepestAscent):
        def ascends(self, step: int) -> bool:
            return step % 2 == 0

    model = network()
    opt = SharpnessAware(torch.optim.SGD(model.parameters(), lr=0.1), EveryOther(), LearnedRadius(0.1))
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
    opt = letsam.SAM(torch.optim.SGD([weight], lr=1e-3), rho=letsam.LearnedRadius(0.1, length_invariant=False))

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
            assert opt.metrics["hypergradient"].abs() > 1e20
            assert torch.equal(opt.rho, before)
        assert opt.rho.isfinite()
    assert not torch.equal(opt.rho, before)
