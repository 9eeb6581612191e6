"""Radii that are a share of the weights: perturbations by hand, the hypergradient of a share, and what is refused."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import letsam
from learned_radius import learned_radius
from letsam import ASAM, SAM, CosineRadius, LearnedRadius, layerwise, relative
from letsam.radius import Radius
from oracle import maths
from oracle.problems import BASES, batch, closure_on, descend, flat, network, same_bits, weights_of

RHO = 0.04


def sizes() -> list[int]:
    return [p.numel() for p in network().parameters()]


def relative_direction(theta: Tensor, direction: Tensor) -> Tensor:
    return direction * theta.norm()


def layerwise_direction(theta: Tensor, direction: Tensor) -> Tensor:
    pieces = zip(theta.split(sizes()), direction.split(sizes()), strict=True)
    return torch.cat([e * (w.norm() / e.norm()) for w, e in pieces])


SHARES: dict[str, tuple[Callable[[Any], Radius], Callable[[Tensor, Tensor], Tensor]]] = {
    "relative": (relative, relative_direction),
    "layerwise": (layerwise, layerwise_direction),
}


@pytest.mark.parametrize("variant", maths.DIRECTIONS)
@pytest.mark.parametrize("units", SHARES)
def test_the_perturbation(units: str, variant: str) -> None:
    """On a schedule, so that the share that counts is the one of the step."""
    wrap, direction = SHARES[units]
    model = network()
    opt = getattr(letsam, variant)(torch.optim.SGD(model.parameters(), lr=0.1), rho=wrap(CosineRadius(0.08, 0.02, 4)))
    for i in range(3):
        theta = flat(model.parameters())
        closure_on(model, batch(i))()
        g = flat([p.grad for p in model.parameters() if p.grad is not None])
        opt.ascent_step()
        expected = opt.rho * direction(theta, maths.DIRECTIONS[variant](theta, g))
        torch.testing.assert_close(flat(model.parameters()) - theta, expected, rtol=1e-12, atol=1e-15)
        if units == "layerwise" or variant == "SAM":
            assert expected.norm().item() == pytest.approx(opt.rho.item() * theta.norm().item(), rel=1e-12)
        closure_on(model, batch(i))()
        opt.descent_step()
    assert opt.rho < 0.08


@pytest.mark.parametrize("objective", ["validation_loss", "squared_gap"])
@pytest.mark.parametrize("variant", maths.DIRECTIONS)
@pytest.mark.parametrize("base", ["momentum", "adamw"])
@pytest.mark.parametrize("units", SHARES)
def test_the_hypergradient_of_a_share(units: str, base: str, variant: str, objective: str) -> None:
    """Central differences along the share, not along the length: they differ by a factor of ||theta||."""
    wrap, direction = SHARES[units]
    model = network()
    optimizer = BASES[base](model.parameters())
    descend(model, optimizer, 4)
    start = maths.State(model, optimizer).copy()
    g = maths.gradient(model, start.theta, batch(10))
    step = maths.OneStep(
        start,
        direction(start.theta, maths.DIRECTIONS[variant](start.theta, g)),
        batch(10),
        objective,
        batch(11),
        batch(20),
    )
    rho = wrap(
        learned_radius(RHO, objective=objective, hypergradient="finite_difference", length_invariant=False, interval=1)
    )
    opt = getattr(letsam, variant)(optimizer, rho=rho)
    for t in (10, 11):
        opt.step(closure_on(model, batch(t)), closure_on(model, batch(20)))

    assert opt.metrics["hypergradient"].item() == pytest.approx(step.central_difference(RHO), rel=1e-6)


@pytest.mark.parametrize("estimator", ["secant", "diagonal"])
@pytest.mark.parametrize("units", SHARES)
def test_secant_and_diagonal_are_their_formulas(units: str, estimator: str) -> None:
    wrap, direction = SHARES[units]
    model = network()
    optimizer = BASES["momentum"](model.parameters())
    descend(model, optimizer, 4)
    start = maths.State(model, optimizer).copy()
    g = maths.gradient(model, start.theta, batch(10))
    step = maths.OneStep(
        start, direction(start.theta, g / g.norm()), batch(10), "validation_loss", batch(11), batch(20)
    )
    opt = SAM(optimizer, rho=wrap(learned_radius(RHO, hypergradient=estimator)))
    for t in (10, 11):
        opt.step(closure_on(model, batch(t)), closure_on(model, batch(20)))
    expected = step.hypergradient(RHO, estimator=estimator, projected=True)
    assert opt.metrics["hypergradient"].item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("variant", maths.DIRECTIONS)
@pytest.mark.parametrize("units", SHARES)
def test_the_prior_is_a_reach_in_units_of_the_weights(units: str, variant: str) -> None:
    """Without curvature there is no evidence: the perturbation becomes as long as the prior says.

    ASAM's share of all weights is measured as ASAM's radius is: times ||T g|| / ||g||.
    """
    weights = [torch.nn.Parameter(torch.full((2,), value, dtype=torch.float64)) for value in (3.0, 40.0)]
    opt = getattr(letsam, variant)(
        torch.optim.SGD(weights, lr=1e-9), rho=SHARES[units][0](learned_radius(0.5, prior=0.2, follow_lr=False))
    )

    def linear() -> Tensor:
        opt.zero_grad()
        loss = weights[0].sum() + 2 * weights[1].sum()
        loss.backward()
        return loss

    for _ in range(900):
        opt.step(linear, linear)
    unit = (9 + 4 * 1600) ** 0.5 / 5**0.5 if (units, variant) == ("relative", "ASAM") else 1.0
    assert (opt.rho * flat(weights).norm()).item() * unit == pytest.approx(0.2, rel=0.02)


@pytest.mark.parametrize("learned", [False, True])
@pytest.mark.parametrize("units", SHARES)
def test_each_part_of_several_ascents_is_a_share_of_the_unperturbed_weights(units: str, learned: bool) -> None:
    wrap, direction = SHARES[units]
    model = network()
    rho: Any = LearnedRadius(0.3) if learned else 0.3
    opt = letsam.MultiStepSAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=wrap(rho), k=2)
    theta = flat(model.parameters())
    eps = torch.zeros_like(theta)
    for _ in range(2):
        g = maths.gradient(model, theta + eps, batch(0))
        eps = eps + 0.15 * direction(theta, g / g.norm())
    expected = theta - 0.1 * maths.gradient(model, theta + eps, batch(0))
    opt.step(closure_on(model, batch(0)), closure_on(model, batch(20)))
    torch.testing.assert_close(flat(model.parameters()), expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("units", SHARES)
def test_a_perturbation_that_is_turned_off_stays_off(units: str) -> None:
    """Its factor is 0, which a share must not make 1: AE-SAM with a threshold that no gradient reaches."""
    ends = []
    for rho in (0, SHARES[units][0](0.1)):
        model = network()
        opt = letsam.AESAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=rho, lowest=40.0, highest=40.0)
        for i in range(3):
            opt.step(closure_on(model, batch(i)))
        ends.append(weights_of(model))
    assert same_bits(*ends)


def test_weights_that_are_not_perturbed_do_not_count() -> None:
    model = network()
    first, *others = model.parameters()
    groups = [{"params": [first]}, {"params": others, "perturb": False}]
    for wrap, _ in SHARES.values():
        opt = SAM(torch.optim.SGD(copy.deepcopy(groups), lr=0.1), rho=wrap(RHO))
        weights = [p for group in opt.param_groups for p in group["params"]]
        before = [p.detach().clone() for p in weights]
        for p in weights:
            p.grad = torch.ones_like(p)
        opt.ascent_step()
        moved = [(p - b).norm().item() for p, b in zip(weights, before, strict=True)]
        assert moved == pytest.approx([RHO * before[0].norm().item(), 0.0, 0.0, 0.0], rel=1e-12)
        for p in weights:
            p.grad = torch.zeros_like(p)
        opt.descent_step()
        assert same_bits([p.detach() for p in weights], before)


def test_tensors_of_zeros_and_without_gradients_stay() -> None:
    """0 times a reciprocal that must stay finite, in both roles."""
    values = (torch.zeros(2), torch.ones(2), torch.full((2,), 3.0))
    for wrap, _ in SHARES.values():
        weights = [torch.nn.Parameter(value.clone()) for value in values]
        opt = SAM(torch.optim.SGD(weights, lr=0.1), rho=wrap(RHO))
        weights[0].grad, weights[1].grad, weights[2].grad = torch.ones(2), torch.zeros(2), torch.ones(2)
        opt.ascent_step()
        assert all(weight.isfinite().all() for weight in weights)
        assert torch.equal(weights[1], values[1])
        assert weights[2][0] > 3
    assert torch.equal(weights[0], values[0])  # layerwise: a share of nothing


@pytest.mark.parametrize("wrap", [relative, layerwise])
def test_what_is_refused(wrap: Callable[[Any], Radius]) -> None:
    with pytest.raises(ValueError, match=r"`rho` must be > 0, got -0\.1"):
        wrap(-0.1)
    with pytest.raises(TypeError, match="`rho` must be a number > 0, a schedule or a LearnedRadius, got 'a'"):
        wrap("a")
    with pytest.raises(ValueError, match="`rho` must be a radius in units of the weights, got a layerwise FixedRadius"):
        wrap(layerwise(0.1))


def test_the_given_radius_is_copied() -> None:
    given = LearnedRadius(0.1)
    assert relative(given).units == "relative"
    assert given.units is None


def test_a_state_in_other_units_is_refused() -> None:
    model = network()
    opts = [ASAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=rho) for rho in (0.1, relative(0.1), layerwise(0.1))]
    with pytest.raises(ValueError, match="must hold a relative FixedRadius as its radius, got FixedRadius"):
        opts[1].load_state_dict(opts[0].state_dict())
    with pytest.raises(ValueError, match="must hold a FixedRadius as its radius, got layerwise FixedRadius"):
        opts[0].load_state_dict(opts[2].state_dict())


def test_a_share_is_neither_a_radius_nor_the_base_optimizer() -> None:
    ends = []
    for rho in (0, 0.1, relative(0.1), layerwise(0.1), layerwise(LearnedRadius(0.1, interval=1)), relative(0)):
        model = network()
        opt = SAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=rho)
        for i in range(4):
            opt.step(closure_on(model, batch(i)), closure_on(model, batch(50 + i)))
        ends.append(weights_of(model))
    assert same_bits(ends[0], ends.pop())
    for i, left in enumerate(ends):
        assert all((flat(left) - flat(right)).norm() > 1e-5 for right in ends[i + 1 :])
