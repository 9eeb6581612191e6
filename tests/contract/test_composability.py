"""Later variants fit in without a change to letsam: each is written here, and checked against a reference by hand."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from letsam import LearnedRadius, SharpnessAware
from letsam.perturbations import Perturbation, SteepestAscent
from letsam.radius import Ascent, Radius
from oracle import maths
from oracle.problems import batch, closure_on, descend, flat, network, same_bits, weights_of

RHO, LR = 0.2, 0.1


class GSAM(SteepestAscent):
    """arXiv:2203.08065: descend with g_rho - alpha (g_0's part orthogonal to g_rho)."""

    keeps_ascent_gradient = True
    alpha = 0.4

    def descent(self, gradients: Any, ascent_gradients: Any) -> None:
        inner = sum((a * b).sum() for a, b in zip(ascent_gradients, gradients, strict=True))
        square = sum((g * g).sum() for g in gradients)
        for g, a in zip(gradients, ascent_gradients, strict=True):
            parallel = g * (inner / square)
            g.sub_(a - parallel, alpha=self.alpha)


class LookSAM(SteepestAscent):
    """arXiv:2203.02714, the schedule of it: climb at every k-th step only."""

    def __init__(self, k: int) -> None:
        self.k = k

    def ascends(self, step: int) -> bool:
        return step % self.k == 0


class SmoothedAscent(Perturbation):
    """VaSSO (arXiv:2310.01944): climb along an exponential moving average of the gradients."""

    def __init__(self, decay: float = 0.6) -> None:
        self.decay = decay
        self.average: list[Tensor] = []

    def direction(self, weights: Any, gradients: Any, gradient_norm: Tensor) -> Tensor:
        if not self.average:
            self.average = [torch.zeros_like(g) for g in gradients]
        for a, g in zip(self.average, gradients, strict=True):
            a.lerp_(g, 1 - self.decay)
            g.copy_(a)
        return 1 / torch.linalg.vector_norm(torch.stack([g.norm() for g in gradients]))

    def state_dict(self) -> dict[str, Any]:
        return {"average": [a.clone() for a in self.average]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.average = [a.clone() for a in state["average"]]


class LossBudget(Radius):
    """rho = min(sigma / ||g||, rho_max), shrunk where the loss is small: climb for a given rise of the loss."""

    def __init__(self, sigma: float, maximum: float) -> None:
        super().__init__(maximum)
        self.sigma, self.maximum = sigma, maximum

    def at(self, ascent: Ascent) -> Tensor:
        assert ascent.loss is not None
        self.rho = torch.minimum(self.sigma * ascent.loss / ascent.gradient_norm, self.rho.new_tensor(self.maximum))
        return self.rho


class PerWeight(Radius):
    """A radius of its own for each weight: 0.1, 0.2, ..."""

    def at(self, ascent: Ascent) -> Tensor:
        return self.rho * torch.arange(1, len(ascent.params) + 1).to(self.rho)


def steps_by_hand(kind: str, count: int, momentum: float = 0.0) -> Tensor:
    """The reference: plain loops over a flat vector."""
    model = network()
    theta = flat(model.parameters())
    sizes = [p.numel() for p in model.parameters()]
    average = torch.zeros_like(theta)
    for t in range(count):
        g = maths.gradient(model, theta, batch(t))
        eps = RHO * g / g.norm()
        if kind == "GSAM":
            perturbed = maths.gradient(model, theta + eps, batch(t))
            orthogonal = g - perturbed * (g @ perturbed) / (perturbed @ perturbed)
            theta = theta - LR * (perturbed - 0.4 * orthogonal)
            continue
        if kind == "LookSAM" and t % 3:
            theta = theta - LR * g
            continue
        if kind == "SmoothedAscent":
            average = 0.6 * average + 0.4 * g
            eps = RHO * average / average.norm()
        if kind == "LossBudget":
            rho = min(0.11 * maths.loss(model, theta, batch(t)).item() / g.norm().item(), RHO)
            eps = rho * g / g.norm()
        if kind == "PerWeight":
            radii = torch.cat([torch.full((n,), 0.1 * (i + 1), dtype=torch.float64) for i, n in enumerate(sizes)])
            eps = radii * g / g.norm()
        theta = theta - LR * maths.gradient(model, theta + eps, batch(t))
    return theta


def composed(kind: str, model: torch.nn.Module) -> SharpnessAware:
    perturbation: Perturbation = {"GSAM": GSAM(), "LookSAM": LookSAM(3), "SmoothedAscent": SmoothedAscent()}.get(
        kind, SteepestAscent()
    )
    radius: Any = {"LossBudget": LossBudget(0.11, RHO), "PerWeight": PerWeight(0.1)}.get(kind, RHO)
    return SharpnessAware(torch.optim.SGD(model.parameters(), lr=LR), perturbation, radius)


KINDS = ["SAM", "GSAM", "LookSAM", "SmoothedAscent", "LossBudget", "PerWeight"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_variant_against_its_reference(kind: str) -> None:
    model = network()
    opt = composed(kind, model)
    for t in range(8):
        log: list[str] = []
        opt.step(closure_on(model, batch(t), log))
        assert len(log) == (1 if kind == "LookSAM" and t % 3 else 2)

    torch.testing.assert_close(flat(model.parameters()), steps_by_hand(kind, 8), rtol=1e-11, atol=1e-13)
    if kind != "SAM":
        assert (steps_by_hand(kind, 8) - steps_by_hand("SAM", 8)).norm() > 1e-3
    assert opt.metrics["skipped_steps"] == 0


def test_the_loss_budget_uses_both_of_its_branches() -> None:
    model = network()
    opt = composed("LossBudget", model)
    radii = []
    for t in range(30):
        opt.step(closure_on(model, batch(t)))
        radii.append(opt.rho.item())
    assert max(radii) == RHO
    assert min(radii) < RHO


def test_a_radius_per_weight_keeps_its_place_beside_unused_weights() -> None:
    """The second weight has no gradient: the third still climbs by its own 0.3."""
    ws = [torch.nn.Parameter(torch.tensor([1.0 + i], dtype=torch.float64)) for i in range(3)]
    opt = SharpnessAware(torch.optim.SGD(ws, lr=LR), SteepestAscent(), PerWeight(0.1))
    seen = []

    def closure() -> Tensor:
        opt.zero_grad()
        seen.append(flat(ws))
        loss = 3 * ws[0].sum() + 4 * ws[2].sum()
        loss.backward()
        return loss

    opt.step(closure)
    expected = torch.tensor([0.1 * 0.6, 0.0, 0.3 * 0.8], dtype=torch.float64)
    torch.testing.assert_close(seen[1] - seen[0], expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("kind", ["SAM", "GSAM", "LookSAM", "SmoothedAscent", "PerWeight"])
def test_a_variant_in_two_calls(kind: str) -> None:
    """Also at the steps that do not climb: ascent_step then leaves the weights where they are."""
    models = network(), network()
    opts = [composed(kind, model) for model in models]
    for t in range(5):
        opts[0].step(closure_on(models[0], batch(t)))
        closure_on(models[1], batch(t))()
        opts[1].ascent_step()
        closure_on(models[1], batch(t))()
        opts[1].descent_step()
    assert same_bits(weights_of(models[0]), weights_of(models[1]))


@pytest.mark.parametrize("rho", [RHO, LearnedRadius(RHO, interval=1)])
@pytest.mark.parametrize("kind", ["GSAM", "LookSAM", "SmoothedAscent"])
def test_a_variant_resumes_and_takes_a_learned_radius(kind: str, rho: Any) -> None:
    def make(model: torch.nn.Module) -> SharpnessAware:
        return SharpnessAware(
            torch.optim.SGD(model.parameters(), lr=LR, momentum=0.9), composed(kind, network()).perturbation, rho
        )

    def go(model: torch.nn.Module, opt: SharpnessAware, first: int, last: int) -> None:
        for t in range(first, last):
            opt.step(closure_on(model, batch(t)), closure_on(model, batch(50 + t)))

    model, fresh = network(), network(seed=5)
    opt, fresh_opt = make(model), make(fresh)
    go(model, opt, 0, 4)
    fresh.load_state_dict(model.state_dict())
    fresh_opt.load_state_dict(copy.deepcopy(opt.state_dict()))
    go(model, opt, 4, 9)
    go(fresh, fresh_opt, 4, 9)
    assert same_bits(weights_of(model), weights_of(fresh))
    assert same_bits(opt.state_dict(), fresh_opt.state_dict())
    if isinstance(rho, LearnedRadius):
        assert opt.rho != RHO
        assert opt.rho.isfinite()


def test_the_hypergradient_of_a_new_direction() -> None:
    """A learned radius needs nothing from the perturbation: the oracle with the averaged direction agrees."""
    model = network()
    base = torch.optim.SGD(model.parameters(), lr=LR, momentum=0.9)
    descend(model, base, 3)
    start = maths.State(model, base).copy()
    radius = LearnedRadius(RHO, hypergradient="finite_difference", length_invariant=False, interval=1)
    opt = SharpnessAware(base, SmoothedAscent(), radius)
    g = maths.gradient(model, start.theta, batch(3))
    step = maths.OneStep(start, g / g.norm(), batch(3), "validation_loss", batch(4), batch(20))
    for t in (3, 4):
        opt.step(closure_on(model, batch(t)), closure_on(model, batch(20)))
    assert opt.metrics["hypergradient"].item() == pytest.approx(step.central_difference(RHO), rel=1e-6)
