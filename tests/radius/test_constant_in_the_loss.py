"""A constant added to the loss: what depends on it, as documented, and what does not."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import letsam
from learned_radius import learned_radius
from letsam import SAM, LearnedRadius, LogAdam, Prior
from oracle.problems import batch, loss_on, network, same_bits, weights_of


def closure_on(model: nn.Module, seed: int, constant: float) -> Callable[[], Tensor]:
    def closure() -> Tensor:
        model.zero_grad()
        loss = loss_on(model, batch(seed)) + constant
        loss.backward()
        return loss

    return closure


@functools.cache
def learned(constant: float, rise: float | None, steps: int = 30) -> Any:
    """The optimizer and the weights of a run, whose curvature is high enough for a limit of `rise`."""
    model = network()
    rule = LogAdam(prior=Prior(0.5, rise=rise), burn_in=0)
    opt = SAM(torch.optim.SGD(model.parameters(), lr=0.1), LearnedRadius(0.2, rule=rule, interval=1))
    for i in range(steps):
        opt.step(closure_on(model, i, constant), closure_on(model, 50 + i, constant))
    return opt, weights_of(model)


def reach(opt: SAM) -> float:
    """The prior as the curvature limit has left it."""
    return opt.radius.rule.prior.log_reach.exp().item()  # pyright: ignore


def test_the_limit_of_the_prior_depends_on_it() -> None:
    runs = {constant: learned(constant, 0.02)[0] for constant in (0.0, 1.0, 1e6, -100.0)}
    priors = {constant: reach(opt) for constant, opt in runs.items()}
    assert priors[0.0] < priors[1.0] < 0.5, "a positive constant weakens the limit"
    assert priors[1e6] == priors[-100.0] == pytest.approx(0.5), "a large one or a negative loss turns it off"
    radii = [opt.rho.item() for opt in runs.values()]
    assert radii[0] < radii[1] < radii[2]
    assert radii[2] == pytest.approx(radii[3], rel=1e-6), "as without a limit"
    assert radii[2] == pytest.approx(learned(0.0, None)[0].rho.item(), rel=1e-6)


@pytest.mark.parametrize("constant", [1.0, -100.0, 1e6])
def test_without_a_limit_nothing_does(constant: float) -> None:
    (opt, weights), (other, others) = learned(constant, None), learned(0.0, None)
    assert same_bits(weights, others)
    assert same_bits(opt.rho, other.rho)


@pytest.mark.parametrize("constant", [-100.0, -3.0, 1e6])
def test_a_check_finds_a_loss_without_a_zero(constant: float) -> None:
    model = network()
    closures = closure_on(model, 0, constant), closure_on(model, 1, constant)

    def found(rho: Any) -> list[str]:
        return [finding.code for finding in letsam.check(SAM(torch.optim.SGD(model.parameters()), rho), *closures)]

    assert found(LearnedRadius(0.1)) == ["loss-without-zero"]
    for fine in (0.1, LearnedRadius.paper(0.1), learned_radius(0.1, prior_rise=None), learned_radius(0.1, prior=None)):
        assert found(fine) == []
    (finding,) = letsam.check(SAM(torch.optim.SGD(model.parameters()), LearnedRadius(0.1)), *closures)
    assert finding.severity == "warning"
    assert ("is negative" in finding.message) == (constant < 0)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("constant", [0.0, 1.0, 100.0])
def test_healthy_losses_cause_no_finding(scale: float, constant: float) -> None:
    model = network()

    def closure(seed: int) -> Tensor:
        model.zero_grad()
        loss = (loss_on(model, batch(seed)) + constant) * scale
        loss.backward()
        return loss

    opt = SAM(torch.optim.SGD(model.parameters(), lr=0.1), LearnedRadius(0.1))
    assert letsam.check(opt, lambda: closure(0), lambda: closure(1)) == []


@pytest.mark.parametrize(("relative", "constant", "found"), [(True, -9.0, 1), (True, 9.0, 0), (False, -9.0, 0)])
def test_a_budget_relative_to_a_negative_loss(relative: bool, constant: float, found: int) -> None:
    model = network()
    budget = letsam.LossBudgetRadius(0.01, maximum=0.1, relative=relative)
    opt = SAM(torch.optim.SGD(model.parameters(), lr=0.1), budget)
    codes = [finding.code for finding in letsam.check(opt, closure_on(model, 0, constant))]
    assert codes.count("loss-without-zero") == found
    opt.step(closure_on(model, 0, constant))
    assert (opt.rho == 0) == found
