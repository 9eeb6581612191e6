"""A radius so large that only the perturbed pass overflows: it is halved until training can go on."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor

from learned_radius import learned_radius
from letsam import ASAM, GSAM, MSAM, SAM, LearnedRadius, LookSAM, MultiStepSAM, SharpnessAware
from letsam.radius import Rule, Update
from oracle.problems import same_bits


class Halving(Rule):
    """A rule of a user, without state."""

    def move(self, rho: Tensor, slope: Tensor, update: Update) -> Tensor:
        return rho * torch.exp(-0.02 * slope.sign())


RADII: dict[str, Callable[[], LearnedRadius]] = {
    "default": lambda: LearnedRadius(10.0),
    "no prior": lambda: learned_radius(5.0, prior=None),
    "no burn-in": lambda: learned_radius(5.0, prior=None, burn_in=0),
    "every step": lambda: learned_radius(5.0, prior=None, burn_in=0, interval=1),
    "probe": lambda: learned_radius(5.0, prior=None, hypergradient="finite_difference", interval=1),
    "paper": lambda: LearnedRadius.paper(5.0),
    "own rule": lambda: LearnedRadius(5.0, rule=Halving()),
    "per layer": lambda: learned_radius(5.0, prior=None, per="layer"),
    "same batch": lambda: learned_radius(5.0, prior=None, training_batch="same"),
}


class Steep:
    """exp(60 x.w), which overflows in float32 about 1.5 from the origin; clipped, or its gradients would go far."""

    def __init__(self, variant: Callable[..., SharpnessAware], radius: LearnedRadius) -> None:
        torch.manual_seed(0)
        self.weights = [torch.nn.Parameter(torch.full((2,), 0.01)), torch.nn.Parameter(torch.full((3,), -0.01))]
        self.data = torch.randn(512, 5) * 0.4
        self.opt = variant(torch.optim.SGD(self.weights, lr=0.01, momentum=0.9), rho=radius, max_grad_norm=0.1)

    def closure(self, i: int) -> Callable[[], Tensor]:
        def closure() -> Tensor:
            self.opt.zero_grad()
            rows = self.data[torch.arange(i * 16, i * 16 + 16) % 512]
            loss = (60 * (rows @ torch.cat(self.weights))).exp().mean()
            loss.backward()
            return loss

        return closure

    def run(self, steps: int) -> list[float]:
        losses = []
        for i in range(steps):
            self.opt.step(self.closure(i), self.closure(i + 7))
            losses.append(float(self.opt.metrics["training_loss"]))
        return losses


VARIANTS: dict[str, Callable[..., SharpnessAware]] = {
    "ASAM": partial(ASAM, eta=1.0),  # else its perturbation is as small as the weights
    "GSAM": GSAM,
    "LookSAM": LookSAM,
    "MSAM": MSAM,
    "MultiStepSAM": MultiStepSAM,
}


@pytest.mark.parametrize(
    ("variant", "name"), [("SAM", name) for name in RADII] + [(v, n) for v in VARIANTS for n in ("no prior", "paper")]
)
def test_a_hopeless_radius_recovers(variant: str, name: str) -> None:
    run = Steep(VARIANTS.get(variant, SAM), RADII[name]())
    start = [w.detach().clone() for w in run.weights]
    run.run(300)
    skipped = int(run.opt.metrics["skipped_steps"])
    assert skipped < 60, "it must recover"
    assert all(w.isfinite().all() for w in run.weights)
    assert not same_bits([w.detach() for w in run.weights], start)
    assert (run.opt.rho < 5).all()
    assert run.opt.rho.isfinite().all()


def test_each_failure_halves_the_radius_and_keeps_the_moments() -> None:
    run = Steep(SAM, learned_radius(5.0, prior=None, burn_in=0, interval=1))
    radii, states = [], []
    for i in range(3):
        run.opt.step(run.closure(i), run.closure(i + 7))
        radii.append(float(run.opt.rho))
        states.append(run.opt.state_dict()["sharpness_aware"]["radius"])
    assert radii == [2.5, 1.25, 0.625]
    assert run.opt.metrics["skipped_steps"] == 3
    assert [float(s["nu"]) for s in states] == pytest.approx([math.log(r) for r in radii], rel=1e-5)
    assert all(float(s[name]) == 0 for s in states for name in ("exp_avg", "exp_avg_sq", "updates"))


def test_it_stays_within_its_bounds() -> None:
    run = Steep(SAM, learned_radius(5.0, prior=None, burn_in=0, interval=1, bounds=(2.0, 10.0)))
    run.run(20)
    assert float(run.opt.rho) == 2.0
    assert run.opt.metrics["skipped_steps"] == 20


@pytest.mark.parametrize("name", RADII)
def test_a_bad_batch_is_not_the_fault_of_the_radius(name: str) -> None:
    """The pass at the weights fails as well: rho stays."""
    run = Steep(SAM, RADII[name]())
    run.opt.radius.rho.fill_(0.01)
    run.data[:16] = math.nan
    run.opt.step(run.closure(0), run.closure(7))
    assert run.opt.metrics["skipped_steps"] == 1
    assert (run.opt.rho == run.opt.radius.rho.new_tensor(0.01)).all()


@pytest.mark.parametrize("scale", [65536.0, 1.0])
def test_gradients_that_overflow_because_of_their_scale_leave_the_radius(scale: float) -> None:
    """The scale decreases then; if it is 1 already, it is not to blame."""
    weight = torch.nn.Parameter(torch.ones(2))
    opt = SAM(torch.optim.SGD([weight], lr=0.1), rho=learned_radius(0.5, prior=None, burn_in=0, interval=1))
    scaler, calls = torch.amp.GradScaler("cpu", init_scale=scale), [0]

    def closure() -> Tensor:
        opt.zero_grad()
        calls[0] += 1
        loss = weight.square().sum()
        scaler.scale(loss).backward()  # pyright: ignore[reportUnknownMemberType]
        if calls[0] == 3:
            weight.grad.fill_(math.inf)  # pyright: ignore[reportOptionalMemberAccess]
        return loss

    opt.step(closure, closure, grad_scaler=scaler)
    assert opt.metrics["skipped_steps"] == 1
    assert float(opt.rho) == (0.5 if scale > 1 else 0.25)


def test_an_interval_set_later_counts_and_other_parts_are_fixed() -> None:
    run = Steep(SAM, learned_radius(0.01, interval=1, burn_in=0))
    run.opt.radius.interval = 5  # pyright: ignore[reportAttributeAccessIssue]
    seen = []
    for i in range(10):
        before = run.opt.rho.clone()
        run.opt.step(run.closure(i), run.closure(i + 7))
        seen.append(not same_bits(run.opt.rho, before))
    assert [i for i, changed in enumerate(seen) if changed] == [4, 9]
    with pytest.raises(ValueError, match="`interval` must be a whole number >= 1, got 0"):
        run.opt.radius.interval = 0  # pyright: ignore[reportAttributeAccessIssue]
    for name in ("objective", "hypergradient", "rule", "per"):
        with pytest.raises(AttributeError, match=f"`{name}` is fixed when a LearnedRadius is made"):
            setattr(run.opt.radius, name, getattr(run.opt.radius, name))
