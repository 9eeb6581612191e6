"""Hypergradients per group and per layer: exact on separable problems, and their formulas elsewhere."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import letsam
from learned_radius import learned_radius
from letsam import ASAM, SAM, LearnedRadius, SharpnessAware
from letsam.radius import Ascent, Radius
from oracle import maths
from oracle.problems import BASES, batch, closure_on, descend, flat, network, weights_of

RHO = 0.1

HELD_OUT = 45  # of 40 the batch with the least cancellation in the smallest of the hypergradients

VARIANTS: dict[str, type[SharpnessAware]] = {"SAM": SAM, "ASAM": ASAM}


# --- a separable problem: each layer has a loss of its own, so that H is block-diagonal ---------------------------


class Separate(nn.Module):
    """Three weights, each with a loss of its own: the sum of them is trained."""

    def __init__(self) -> None:
        super().__init__()
        g = torch.Generator().manual_seed(3)
        self.layers = nn.ParameterList(torch.randn(n, generator=g, dtype=torch.float64) for n in (3, 5, 4))

    def loss(self, seed: int) -> Tensor:
        g = torch.Generator().manual_seed(seed)
        losses = []
        for p in self.layers:
            x = torch.randn(8, p.numel(), generator=g, dtype=torch.float64)
            losses.append(nn.functional.softplus(x @ p + torch.randn(8, generator=g, dtype=torch.float64)).mean())
            losses.append(0.1 * (p**2).sum().sqrt())
        return torch.stack(losses).sum()

    def closure(self, seed: int) -> Any:
        def closure() -> Tensor:
            self.zero_grad()
            loss = self.loss(seed)
            loss.backward()
            return loss

        return closure


def groups_of(model: nn.Module) -> list[dict[str, Any]]:
    first, *others = model.parameters()
    return [{"params": [first]}, {"params": others}]


def upper_after(
    model: Separate, base: torch.optim.Optimizer, eps: list[Tensor], radii: list[float], objective: str, training: int
) -> float:
    """The upper objective after a real step of the base optimizer, with the direction held fixed."""
    model, base = copy.deepcopy((model, base))
    before = weights_of(model)
    with torch.no_grad():
        for p, e, rho in zip(model.parameters(), eps, radii, strict=True):
            p.add_(rho * e)
    model.closure(0)()
    with torch.no_grad():
        for p, w in zip(model.parameters(), before, strict=True):
            p.copy_(w)
    base.step()
    held_out = model.loss(HELD_OUT).item()
    return held_out if objective == "validation_loss" else (held_out - model.loss(training).item()) ** 2 / 2


def central_differences(
    model: Separate, base: torch.optim.Optimizer, variant: str, blocks: list[list[int]], objective: str, training: int
) -> list[float]:
    model.closure(0)()
    sizes = [p.numel() for p in model.parameters()]
    theta, g = flat(model.parameters()), flat([p.grad for p in model.parameters() if p.grad is not None])
    eps = list(maths.DIRECTIONS[variant](theta, g).split(sizes))
    slopes = []
    for block in blocks:

        def upper(h: float, block: list[int] = block) -> float:
            radii = [RHO + h * (i in block) for i in range(len(sizes))]
            return upper_after(model, base, eps, radii, objective, training)

        d1, d2 = ((upper(h) - upper(-h)) / (2 * h) for h in (2e-4, 4e-4))
        slopes.append((4 * d1 - d2) / 3)
    return slopes


@pytest.mark.parametrize("training_batch", ["next", "same"])
@pytest.mark.parametrize("objective", ["validation_loss", "squared_gap"])
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("base", ["momentum", "adamw"])
@pytest.mark.parametrize("per", ["layer", "group"])
def test_the_hypergradients_of_a_separable_problem_are_exact(
    per: str, base: str, variant: str, objective: str, training_batch: str
) -> None:
    model = Separate()
    optimizer = BASES[base](groups_of(model))
    for i in range(3):
        model.closure(100 + i)()
        optimizer.step()
    blocks = [[0], [1, 2]] if per == "group" else [[0], [1], [2]]
    expected = central_differences(model, optimizer, variant, blocks, objective, int(training_batch == "next"))

    radius = learned_radius(
        RHO,
        per=per,
        objective=objective,
        hypergradient="finite_difference",
        length_invariant=False,
        interval=1,
        training_batch=training_batch,
    )
    opt = VARIANTS[variant](optimizer, rho=radius)
    opt.step(model.closure(0), model.closure(HELD_OUT))
    if training_batch == "next":
        opt.step(model.closure(1), model.closure(HELD_OUT))

    assert opt.metrics["hypergradient"].tolist() == pytest.approx(expected, rel=1e-6)
    assert len(set(expected)) == len(blocks)


def test_the_hypergradients_of_radii_that_differ() -> None:
    """Each radius is probed in proportion to itself: exact as well."""
    model = Separate()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    radius = learned_radius(
        RHO,
        per="layer",
        hypergradient="finite_difference",
        length_invariant=False,
        prior=None,
        burn_in=0,
        interval=1,
        lr=0.3,
    )
    opt = SAM(optimizer, rho=radius)
    for i in range(2, 6):
        opt.step(model.closure(i), model.closure(20 + i))
    before = copy.deepcopy(model)
    opt.step(model.closure(0), model.closure(21))
    radii = opt.rho.tolist()
    assert len({round(rho, 3) for rho in radii}) == 3
    opt.step(model.closure(1), model.closure(HELD_OUT))

    before.closure(0)()
    g = flat([p.grad for p in before.parameters() if p.grad is not None])
    eps = list((g / g.norm()).split([p.numel() for p in before.parameters()]))
    base = torch.optim.SGD(before.parameters(), lr=0.1)

    def upper(i: int, h: float) -> float:
        return upper_after(before, base, eps, [r + h * (i == j) for j, r in enumerate(radii)], "validation_loss", 1)

    expected = []
    for i in range(3):
        d1, d2 = ((upper(i, h) - upper(i, -h)) / (2 * h) for h in (2e-4, 4e-4))
        expected.append((4 * d1 - d2) / 3)
    assert opt.metrics["hypergradient"].tolist() == pytest.approx(expected, rel=1e-6)


# --- a problem that is not separable ------------------------------------------------------------------------------


def hypergradients(radius: LearnedRadius, base: str = "momentum", **options: Any) -> tuple[maths.State, Tensor]:
    """Of the step on batch 10, and what it started from."""
    model = network()
    optimizer = BASES[base](model.parameters())
    descend(model, optimizer, 4)
    start = maths.State(model, optimizer).copy()
    opt = SAM(optimizer, rho=radius, **options)
    for t in (10, 11):
        opt.step(closure_on(model, batch(t)), closure_on(model, batch(20)))
    return start, opt.metrics["hypergradient"]


@pytest.mark.parametrize("estimator", ["secant", "finite_difference", "diagonal"])
def test_the_slopes_add_up_to_that_of_a_common_factor(estimator: str) -> None:
    """Here all radii are equal: the sum of the hypergradients is the hypergradient of the one radius."""
    options: dict[str, Any] = {"hypergradient": estimator, "length_invariant": False, "interval": 1}
    one = hypergradients(learned_radius(RHO, **options))[1]
    many = hypergradients(learned_radius(RHO, per="layer", **options))[1]
    assert many.shape == (4,)
    assert many.sum().item() == pytest.approx(one.item(), rel=1e-9)
    assert many.abs().min() > 1e-9


class Given(Radius):
    """A radius for each weight tensor."""

    def __init__(self, radii: Tensor) -> None:
        super().__init__(RHO)
        self.radii = radii

    def at(self, ascent: Ascent) -> Tensor:
        return self.radii


@pytest.mark.parametrize("variant", ["SAM", "GSAM", "WSAM"])
def test_the_slopes_of_radii_that_differ_add_up_through_a_descent_rule(variant: str) -> None:
    """Along the logarithm, by central differences; what GSAM and WSAM do to the gradient mixes the layers."""
    make = getattr(letsam, variant)
    model = network()
    radius = learned_radius(
        RHO,
        per="layer",
        hypergradient="finite_difference",
        length_invariant=False,
        prior=None,
        burn_in=0,
        interval=1,
        lr=0.3,
    )
    opt = make(torch.optim.SGD(model.parameters(), lr=0.1), rho=radius)
    for t in range(5):
        opt.step(closure_on(model, batch(t)), closure_on(model, batch(50 + t)))
    before = copy.deepcopy(model)
    opt.step(closure_on(model, batch(10)), closure_on(model, batch(60)))
    radii = opt.metrics["rho"].clone()
    assert len({round(rho, 3) for rho in radii.tolist()}) == 4
    opt.step(closure_on(model, batch(11)), closure_on(model, batch(20)))

    def upper(h: float) -> float:
        twin = copy.deepcopy(before)
        other = make(torch.optim.SGD(twin.parameters(), lr=0.1), rho=Given(radii * (1 + h)))
        other.step(closure_on(twin, batch(10)))
        return closure_on(twin, batch(20))().item()

    d1, d2 = ((upper(h) - upper(-h)) / (2 * h) for h in (2e-3, 4e-3))
    assert (radii @ opt.metrics["hypergradient"]).item() == pytest.approx((4 * d1 - d2) / 3, rel=1e-5)


@pytest.mark.parametrize("max_grad_norm", [None, 0.05])
@pytest.mark.parametrize("projected", [False, True])
def test_secants_per_layer_are_their_formula(projected: bool, max_grad_norm: float | None) -> None:
    """Written out: blocks of (g_rho - g_0) / rho, each projected by itself, clipped, times the gradient's block."""
    radius = learned_radius(RHO, per="layer", length_invariant=projected, interval=1)
    start, found = hypergradients(radius, "sgd", max_grad_norm=max_grad_norm)
    model, theta = start.model, start.theta
    g0 = maths.gradient(model, theta, batch(10))
    g = maths.gradient(model, theta + RHO * g0 / g0.norm(), batch(10))
    shrunk = 1.0 if max_grad_norm is None else max_grad_norm / (g.norm().item() + 1e-6)
    held_out = maths.gradient(model, theta - 0.1 * shrunk * g, batch(20))
    expected = []
    sizes = [p.numel() for p in model.parameters()]
    for g0_i, g_i, v_i in zip(*(x.split(sizes) for x in (g0, g, held_out)), strict=True):
        change = (g_i - g0_i) / RHO
        if projected:
            change = change - g_i * (g_i @ change) / (g_i @ g_i)
        if max_grad_norm is not None:
            change = shrunk * (change - g_i * (g_i @ change) / (g.norm() * (g.norm() + 1e-6)))
        expected.append((-0.1 * v_i @ change).item())
    assert found.tolist() == pytest.approx(expected, rel=1e-9)
