"""`SkipStep`: a closure says that its batch is to be skipped."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import letsam
from learned_radius import learned_radius
from letsam import SAM, LearnedRadius, LinearRadius, SkipStep
from oracle.problems import BASES, batch, closure_on, same_bits, snapshot

VARIANTS = letsam.variants.VARIANTS
RADII = {
    "fixed": lambda: 0.1,
    "linear": lambda: LinearRadius(0.1, 0.5, 10),
    "learned": lambda: learned_radius(0.1, interval=1, burn_in=0),
    "paper": lambda: LearnedRadius.paper(0.1),
}


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6), nn.BatchNorm1d(6), nn.Dropout(0.2), nn.Linear(6, 3)).double()


def state_of(model: nn.Module, opt: Any) -> Any:
    own = snapshot(model, opt)
    own[1]["sharpness_aware"].pop("peak_lr")  # has seen the learning rate of the skipped step
    for name in ("Z", "usable"):  # of an update that a pass at perturbed weights has cost
        own[1]["sharpness_aware"]["radius"].pop(name, None)
    return own, {n: b.clone() for n, b in model.named_buffers()}, torch.get_rng_state(), dict(opt.metrics)


@pytest.mark.parametrize("at", [1, 2])
@pytest.mark.parametrize("radius", RADII)
@pytest.mark.parametrize("name", VARIANTS)
def test_a_skipped_step_has_not_been(name: str, radius: str, at: int) -> None:
    """Whether the first pass raises it or the second: everything is as before, and no counter moves."""
    model = net()
    opt = VARIANTS[name](BASES["momentum"](model.parameters()), RADII[radius](), model=model)
    calls = [0]

    def closure() -> Tensor:
        calls[0] += 1
        if calls[0] == at:
            nn.functional.dropout(torch.ones(3))
            model(batch(3)[0]).sum().backward()
            raise SkipStep
        return closure_on(model, batch(0))()

    for i in range(3):
        opt.step(closure_on(model, batch(i)), closure_on(model, batch(50 + i)))
    before = state_of(model, opt)
    loss = opt.step(closure, closure_on(model, batch(60)))
    if calls[0] < at:  # a step of one pass
        assert loss.isfinite()
        return
    assert loss.isnan()
    assert loss.shape == ()
    assert loss.dtype == torch.float64
    assert same_bits(state_of(model, opt), before)
    assert all(p.grad is None for p in model.parameters())
    assert opt.metrics["skipped_steps"] == 0
    assert opt.step(closure_on(model, batch(4)), closure_on(model, batch(64))).isfinite()


@pytest.mark.parametrize("radius", ["learned", "paper"])
def test_a_held_out_batch_that_is_skipped_costs_an_update_only(radius: str) -> None:
    model, plain = net(), net()
    opt = SAM(BASES["momentum"](model.parameters()), RADII[radius](), model=model)
    fixed = SAM(BASES["momentum"](plain.parameters()), 0.1, model=plain)

    def skipping() -> Tensor:
        nn.functional.dropout(torch.ones(3))
        raise SkipStep

    torch.manual_seed(1)
    losses = [opt.step(closure_on(model, batch(i)), skipping) for i in range(3)]
    torch.manual_seed(1)
    assert same_bits(losses, [fixed.step(closure_on(plain, batch(i))) for i in range(3)])
    assert same_bits(model.state_dict(), plain.state_dict())
    assert opt.metrics["skipped_steps"] == 0
    assert "validation_loss" not in opt.metrics
    for i in range(3, 6):
        opt.step(closure_on(model, batch(i)), closure_on(model, batch(50 + i)))
    assert opt.metrics["validation_loss"].isfinite()
    assert opt.rho != fixed.rho


@pytest.mark.parametrize("first", [True, False])
def test_the_scaler_may_be_updated(first: bool) -> None:
    """Also if no loss has been scaled yet."""
    model = net().float()
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=100)
    opt = SAM(BASES["momentum"](model.parameters()), 0.1, model=model)

    def closure() -> Tensor:
        opt.zero_grad()
        loss = model(batch(0)[0].float()).square().mean()
        scaler.scale(loss).backward()
        return loss

    def skipping() -> Tensor:
        raise SkipStep

    for one in ([] if first else [closure]) + [skipping, closure, skipping, closure]:
        opt.step(one, grad_scaler=scaler)
        scaler.update()
    assert scaler.get_scale() == 1024.0
    assert opt.metrics["skipped_steps"] == 0


def test_micro_batches_and_check() -> None:
    model = net()
    opt = SAM(BASES["momentum"](model.parameters()), 0.1, model=model)

    def loss_on(data: Any) -> Tensor:
        if data is None:
            raise SkipStep
        return model(data[0]).square().mean()

    before = state_of(model, opt)
    assert opt.step(letsam.accumulated(loss_on, [batch(0), None], opt)).isnan()
    assert same_bits(state_of(model, opt), before)
    (found,) = letsam.check(opt, letsam.accumulated(loss_on, [None], opt))
    assert (found.code, found.severity) == ("skipped-batch", "warning")
    assert same_bits(state_of(model, opt), before)
