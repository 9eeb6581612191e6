"""Gradients of any size, in any pair of dtypes: no factor leaves the range of a weight's dtype.

Gradients that vanish give factors such as 1 / ||g|| that are finite in the dtype of the scalars and infinite in that of
a weight: zeros became NaN, and the step was skipped for ever, or torch refused to convert the number.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import letsam
from contract.pairwise import pairwise
from letsam import GSAM, MSAM, SAM, Diagonal, FiniteDifference, LearnedRadius, SharpnessAware, accumulated
from letsam.perturbations.aesam import AESAMPerturbation
from letsam.tensors import add_consuming_, add_scaled_, scale_
from oracle.problems import batch, same_bits, weights_of

VARIANTS = letsam.variants.VARIANTS
DTYPES = {"f16": torch.float16, "bf16": torch.bfloat16, "f32": torch.float32, "f64": torch.float64}
PAIRS = [(a, b) for a in DTYPES for b in DTYPES]
SCALES = (0.0, 1e-42, 1e-30, 1e-20, 1e-7, 1.0, 1e4, 1e12, 1e17)
RADII: dict[str, Callable[[], Any]] = {
    "fixed": lambda: 0.05,
    "secant": lambda: LearnedRadius(0.05, interval=1),
    "finite difference": lambda: LearnedRadius(0.05, hypergradient=FiniteDifference(), interval=1),
    "diagonal": lambda: LearnedRadius(0.05, hypergradient=Diagonal(), interval=1),
    "per layer": lambda: LearnedRadius(0.05, per="layer", interval=1),
    "paper": lambda: LearnedRadius.paper(0.05),
    "relative": lambda: letsam.relative(LearnedRadius(0.05, hypergradient=FiniteDifference(), interval=1)),
    "layerwise": lambda: letsam.layerwise(0.05),
    "budget": lambda: letsam.LossBudgetRadius(0.05),
}


class Mixed(nn.Module):
    """4 -> 8 -> 3, with a first layer in one dtype and the rest in another."""

    def __init__(self, first: str, rest: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.norm, self.last = nn.Linear(4, 8), nn.LayerNorm(8), nn.Linear(8, 3)
        self.to(DTYPES[rest])
        self.first.to(DTYPES[first])

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.tanh(self.first(x.to(self.first.weight.dtype)))
        return self.last(self.norm(hidden.to(self.last.weight.dtype)))


def scaled(model: nn.Module, opt: torch.optim.Optimizer, seed: int, scale: float) -> Callable[[], Tensor]:
    """A closure whose gradients are multiplied by a number."""
    x, y = batch(seed)

    def closure() -> Tensor:
        opt.zero_grad()
        loss = nn.functional.cross_entropy(model(x).double(), y)
        loss.backward()
        for p in model.parameters():
            assert p.grad is not None
            p.grad.copy_(p.grad.double() * scale)
        return loss.detach()

    return closure


def trained(model: nn.Module, opt: SharpnessAware, scale: float, steps: int = 3) -> None:
    for i in range(steps):
        opt.step(scaled(model, opt, i, scale), scaled(model, opt, 50 + i, scale))


CASES = pairwise(
    [list(VARIANTS), list(RADII), [f"{first} {rest}" for first, rest in PAIRS], list(map(str, SCALES))],
    lambda name, radius, pair, scale: "f16" not in pair or float(scale) <= 1,  # beyond, the gradients overflow
)


@pytest.mark.parametrize(("name", "radius", "pair", "scale"), CASES)
def test_no_step_is_lost(name: str, radius: str, pair: str, scale: str) -> None:
    size, model = float(scale), Mixed(*pair.split())
    base = torch.optim.SGD(model.parameters(), lr=0.01 / max(size, 1.0), momentum=0.9)
    opt = VARIANTS[name](base, RADII[radius](), model=model)
    before = weights_of(model)
    trained(model, opt, size)
    assert opt.metrics["skipped_steps"] == 0
    assert all(p.isfinite().all() for p in model.parameters())
    assert opt.rho.isfinite().all()
    assert same_bits(before, weights_of(model)) <= (size < 1e-3)


@pytest.mark.parametrize("dtype", ["f16", "bf16"])
def test_a_probe_along_no_direction_costs_nothing(dtype: str) -> None:
    """MSAM's first step has no momentum: with a probe it was skipped for ever, so that there never was one."""
    model = Mixed(dtype, dtype)
    radius = LearnedRadius(0.05, hypergradient=FiniteDifference(), interval=1)
    opt = MSAM(torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9), radius, model=model)
    trained(model, opt, 1.0, steps=6)
    assert opt.metrics["skipped_steps"] == 0
    assert opt.metrics["hypergradient"].isfinite()
    assert opt.metrics["hypergradient"] != 0
    assert opt.rho != 0.05


def test_a_probe_fits_into_the_dtype_of_the_weights() -> None:
    for dtype in DTYPES.values():
        weights, none = [torch.ones(4, dtype=dtype)], [torch.zeros(4, dtype=dtype)]
        step = FiniteDifference().probe_step(weights, none)
        assert 0 < step <= torch.finfo(dtype).max / 2
        usual = FiniteDifference().probe_step(weights, weights)
        assert usual.item() == pytest.approx(torch.finfo(dtype).eps ** 0.5)


@pytest.mark.parametrize("pair", PAIRS)
def test_factors_beyond_the_range_leave_zeros_alone(pair: tuple[str, str]) -> None:
    dtypes = [DTYPES[name] for name in pair]
    wide = torch.float64 if torch.float64 in dtypes else torch.float32
    for number in (torch.finfo(wide).max / 2, torch.finfo(wide).tiny ** -0.5):
        zeros, ones = [torch.zeros(3, dtype=d) for d in dtypes], [torch.ones(3, dtype=d) for d in dtypes]
        for factor in (torch.tensor(number, dtype=wide), torch.full((2,), number, dtype=wide)):
            scale_(zeros, factor)
            assert not any(z.any() for z in zeros)
            add_scaled_(ones, zeros, factor)
            add_consuming_(ones, zeros, factor)
            assert all(bool((one == 1).all()) for one in ones)


def test_a_zero_gradient_is_the_base_optimizers_step() -> None:
    ends = []
    for wrap in (False, True):
        model = Mixed("f32", "f64")
        base = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=0.5)
        if wrap:
            trained(model, SAM(base, 0.05), 0.0, steps=1)
        else:
            scaled(model, base, 0, 0.0)()
            base.step()
        ends.append(weights_of(model))
    assert same_bits(*ends)


def test_a_descent_that_overflows_skips_the_step() -> None:
    """GSAM lengthens the gradient: finite gradients of both passes can give an infinite one."""
    weight = nn.Parameter(torch.ones(2, dtype=torch.float16))
    opt = GSAM(torch.optim.SGD([weight], lr=1e-6), 0.05, alpha=0.9)

    def closure() -> Tensor:
        weight.grad = torch.full_like(weight, 6e4)
        return torch.ones(())

    opt.step(closure)
    assert weight.tolist() == [1.0, 1.0]
    assert opt.metrics["skipped_steps"] == 1


def test_gradients_whose_squared_norm_overflows_count_as_not_finite() -> None:
    model = Mixed("f32", "f32")
    opt = SAM(torch.optim.SGD(model.parameters(), lr=1e-30), 0.05)
    before = weights_of(model)
    trained(model, opt, 1e25, steps=1)
    assert opt.metrics["skipped_steps"] == 1
    assert same_bits(before, weights_of(model))


def test_aesam_forgets_a_norm_whose_variance_overflows() -> None:
    perturbation, weight, kept = AESAMPerturbation(), torch.zeros(1), torch.tensor(True)
    for size in (2.0, 1e10):
        perturbation.direction([weight], [torch.tensor([size])], torch.tensor(size))
        perturbation.commit(kept)
    assert all(moment.isfinite() for moment in perturbation.state_dict()["moments"])
    assert perturbation.direction([weight], [torch.tensor([4.0])], torch.tensor(4.0)) == 0.25


def test_micro_batches_with_vanishing_gradients() -> None:
    model = Mixed("f64", "f32")
    opt = SAM(torch.optim.SGD(model.parameters(), lr=0.1), 0.05, m_sharpness=True)

    def loss_on(seed: int) -> Tensor:
        return model(batch(seed)[0]).double().square().mean() * 1e-42

    for i in range(3):
        opt.step(accumulated(loss_on, [i, 10 + i], opt))
    assert opt.metrics["skipped_steps"] == 0
