"""Radii and perturbations of one's own fit in without a change to letsam; references by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from letsam import LearnedRadius, SharpnessAware
from letsam.perturbations import SAMPerturbation
from letsam.radius import Ascent, Radius
from oracle import maths
from oracle.problems import batch, closure_on, flat, network, same_bits, weights_of

RHO, LR = 0.2, 0.1


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
        return self.rho * torch.arange(1, ascent.weights + 1).to(self.rho)


def steps_by_hand(kind: str, count: int, momentum: float = 0.0) -> Tensor:
    """The reference: plain loops over a flat vector."""
    model = network()
    theta = flat(model.parameters())
    sizes = [p.numel() for p in model.parameters()]
    for t in range(count):
        g = maths.gradient(model, theta, batch(t))
        eps = RHO * g / g.norm()
        if kind == "LossBudget":
            rho = min(0.11 * maths.loss(model, theta, batch(t)).item() / g.norm().item(), RHO)
            eps = rho * g / g.norm()
        if kind == "PerWeight":
            radii = torch.cat([torch.full((n,), 0.1 * (i + 1), dtype=torch.float64) for i, n in enumerate(sizes)])
            eps = radii * g / g.norm()
        theta = theta - LR * maths.gradient(model, theta + eps, batch(t))
    return theta


def composed(kind: str, model: torch.nn.Module) -> SharpnessAware:
    radius: Any = {"LossBudget": LossBudget(0.11, RHO), "PerWeight": PerWeight(0.1)}.get(kind, RHO)
    return SharpnessAware(torch.optim.SGD(model.parameters(), lr=LR), SAMPerturbation(), radius)


KINDS = ["SAM", "LossBudget", "PerWeight"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_variant_against_its_reference(kind: str) -> None:
    model = network()
    opt = composed(kind, model)
    for t in range(8):
        log: list[str] = []
        opt.step(closure_on(model, batch(t), log))
        assert len(log) == 2

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
    opt = SharpnessAware(torch.optim.SGD(ws, lr=LR), SAMPerturbation(), PerWeight(0.1))
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


@pytest.mark.parametrize("kind", ["SAM", "PerWeight"])
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


class Half(SAMPerturbation):
    """A variant of one's own that descends with the mean of both gradients."""

    keeps_ascent_gradient = True

    def descent(self, weights: Any, gradients: Any, ascent_gradients: Any) -> None:
        for g, a in zip(gradients, ascent_gradients, strict=True):
            g.add_(a).mul_(0.5)


def test_a_descent_without_its_derivative_cannot_be_learned_through() -> None:
    base = torch.optim.SGD(network().parameters(), lr=LR)
    SharpnessAware(base, Half(), RHO)
    message = (
        "`perturbation` must define `descent_derivative` for a learned radius, got a Half that changes the gradient in "
        "`descent` alone"
    )
    with pytest.raises(ValueError, match=rf"^{message}(\n|$)"):
        SharpnessAware(base, Half(), LearnedRadius(RHO))


class Everywhere(SAMPerturbation):
    """One that climbs in two parts."""

    ascents = 2


def test_a_loop_by_hand_cannot_make_several_ascents() -> None:
    model = network()
    opt = SharpnessAware(torch.optim.SGD(model.parameters(), lr=LR), Everywhere(), RHO)
    closure_on(model, batch(0))()
    with pytest.raises(ValueError, match=r"^`perturbation` must have one ascent for ascent_step\(\), got 2"):
        opt.ascent_step()
