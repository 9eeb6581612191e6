"""A validation pass that is not finite: the step counts as with the radius that it had, and only the radius waits."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from learned_radius import learned_radius
from letsam import ASAM, SAM, LearnedRadius, Radius, SharpnessAware
from letsam.radius import Ascent, Evidence, Wants
from oracle.problems import BASES, batch, closure_on, network, same_bits, weights_of

FORMS: dict[str, Callable[[], LearnedRadius]] = {
    "before": lambda: learned_radius(0.1, interval=1, burn_in=0),
    "gap": lambda: learned_radius(0.1, objective="squared_gap", hypergradient="diagonal", interval=1, burn_in=0),
    "per layer": lambda: learned_radius(0.1, per="layer", interval=1, burn_in=0),
    "after": lambda: learned_radius(0.1, training_batch="same", interval=1, burn_in=0),
    "paper": lambda: LearnedRadius.paper(0.1),
}


def spoiled(model: torch.nn.Module, data: Any, kind: str, value: float) -> Callable[[], Tensor]:
    clean = closure_on(model, data)

    def closure() -> Tensor:
        loss = clean()
        if kind == "loss":
            return loss.detach() * value
        grad = next(model.parameters()).grad
        assert grad is not None
        grad[0, 0] = value
        return loss

    return closure


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("kind", ["loss", "entry"])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("variant", [SAM, ASAM])
def test_the_step_counts_and_the_radius_waits(
    variant: type[SharpnessAware], form: str, kind: str, value: float
) -> None:
    model = network()
    opt = variant(BASES["adam"](model.parameters()), rho=FORMS[form]())
    for i in range(3):
        opt.step(closure_on(model, batch(i)), closure_on(model, batch(50 + i)))
    radius = copy.deepcopy(opt.state_dict()["sharpness_aware"]["radius"])
    twin = network()
    twin.load_state_dict(model.state_dict())
    # the same step with that radius, which does not learn
    rho = opt.rho.clone()
    fixed = variant(BASES["adam"](twin.parameters()), rho=float(rho) if rho.ndim == 0 else PerLayer(rho))
    fixed.base_optimizer.load_state_dict(copy.deepcopy(opt.base_optimizer.state_dict()))

    opt.step(closure_on(model, batch(3)), spoiled(model, batch(53), kind, value))
    fixed.step(closure_on(twin, batch(3)))

    assert opt.metrics["skipped_steps"] == 0
    assert same_bits(weights_of(model), weights_of(twin))
    assert same_bits(opt.base_optimizer.state_dict()["state"], fixed.base_optimizer.state_dict()["state"])
    now = opt.state_dict()["sharpness_aware"]["radius"]
    for name in ("rho", "nu", "exp_avg", "exp_avg_sq", "updates"):
        assert same_bits(now[name], radius[name]), name
    assert same_bits(opt.metrics["hypergradient"], torch.zeros_like(rho))
    if kind == "loss":
        assert not opt.metrics["validation_loss"].isfinite()  # as it was measured

    for i in range(4, 7):  # and it learns again
        opt.step(closure_on(model, batch(i)), closure_on(model, batch(50 + i)))
    assert all(v.isfinite().all() for v in opt.metrics.values())
    assert not same_bits(opt.rho, rho)


class PerLayer(Radius):
    """Given radii, one for each weight tensor."""

    def __init__(self, radii: Tensor) -> None:
        super().__init__(0.1)
        self.radii = radii

    def at(self, ascent: Ascent) -> Tensor:
        return self.radii


def test_a_gradient_that_overflows_in_its_norm_alone() -> None:
    """Every entry is finite, and so is the slope: divided by an infinite length, it would be taken for 0."""
    model = network(dtype=torch.float32)
    opt = SAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=learned_radius(0.1, interval=1, burn_in=0, prior=None))

    def huge() -> Tensor:
        loss = closure_on(model, batch(50, dtype=torch.float32))()
        for p in model.parameters():
            p.grad = torch.full_like(p, 2e38)
        return loss

    opt.step(closure_on(model, batch(0, dtype=torch.float32)), huge)
    updates = opt.state_dict()["sharpness_aware"]["radius"]["updates"].clone()
    opt.step(closure_on(model, batch(1, dtype=torch.float32)), huge)
    assert opt.metrics["skipped_steps"] == 0
    assert opt.state_dict()["sharpness_aware"]["radius"]["updates"] == updates == 0


def test_the_scale_of_fp16_decreases_with_held_out_gradients_that_overflow() -> None:
    model = network(dtype=torch.float32)
    opt = SAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=learned_radius(0.1, interval=1, burn_in=0))
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)

    def closure(bad: bool) -> Tensor:
        opt.zero_grad()
        x, y = batch(0, dtype=torch.float32)
        loss = torch.nn.functional.cross_entropy(model(x), y)
        scaler.scale(loss).backward()  # pyright: ignore[reportUnknownMemberType]
        if bad:
            next(model.parameters()).grad[0, 0] = math.inf  # pyright: ignore[reportOptionalSubscript]
        return loss

    before = weights_of(model)
    opt.step(lambda: closure(False), lambda: closure(False), grad_scaler=scaler)
    scaler.update()
    opt.step(lambda: closure(False), lambda: closure(True), grad_scaler=scaler)
    scaler.update()
    assert opt.metrics["skipped_steps"] == 0
    assert scaler.get_scale() == 512.0
    assert not same_bits(weights_of(model), before)


class Follows(Radius):
    """A radius of a user that is given the validation loss, and whether it can be used."""

    def __init__(self) -> None:
        super().__init__(0.1)
        self.seen: list[bool] = []

    def wants(self, step: int) -> Wants:
        return Wants(validation="before")

    def update(self, evidence: Evidence) -> None:
        assert evidence.usable is not None
        self.seen.append(bool(evidence.usable))


def test_a_radius_of_ones_own_is_told() -> None:
    model = network()
    opt = SAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=Follows())
    for i in range(3):
        held_out = spoiled(model, batch(50), "loss", math.nan if i == 1 else 1.0)
        opt.step(closure_on(model, batch(i)), held_out)
    assert isinstance(opt.radius, Follows)
    assert opt.radius.seen == [True, False, True]
    assert opt.metrics["skipped_steps"] == 0
