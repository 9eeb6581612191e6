"""Every variant of the registry in low precision, under a gradient scaler and on a GPU, with every kind of radius.

What a run in low precision is measured by is the same run in float32: its weights must be much nearer to those than the
base optimizer's own are, so that no method passes that does not climb.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from learned_radius import learned_radius
from letsam import ReplayedRadius, SharpnessAware, accumulated
from letsam.variants import VARIANTS
from oracle.by_hand import pieces
from oracle.problems import BASES, Batch, batch, flat, loss_on, same_bits, weights_of
from oracle.variants import ROWS

RHO = 0.5
STEPS = 6
NAMES = {kind.__name__: kind for kind in VARIANTS.values()}
DRAWS = ("SSAMD", "ESAM")  # from a generator of the device, so otherwise on another device
BASE_OF: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "momentum": BASES["momentum"],
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.05),
}
CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
on_devices = pytest.mark.parametrize("device", ["cpu", "cuda"][: 1 + torch.cuda.is_available()])
RADII: dict[str, Callable[[int], Any]] = {  # from the number of weight tensors
    "fixed": lambda count: RHO,
    "learned": lambda count: learned_radius(RHO, interval=1, burn_in=0, lr=0.2),
    "replayed per layer": lambda count: ReplayedRadius([[RHO * 1.3**i for i in range(count)]] * 2, STEPS, per="layer"),
}
with_every_radius = pytest.mark.parametrize("radius", RADII)


@dataclass(frozen=True)
class How:
    """In which precision a run computes."""

    weights: torch.dtype = torch.float32
    autocast: torch.dtype | None = None
    scale: float | None = None


PRECISIONS = {
    "bf16 weights": How(torch.bfloat16),
    "bf16 autocast": How(autocast=torch.bfloat16),
    "fp16 autocast, scaled": How(autocast=torch.float16, scale=2.0**10),
}
FULL, SCALED = How(), How(scale=2.0**10)


@dataclass(frozen=True)
class End:
    """What a run has come to."""

    model: nn.Module
    opt: torch.optim.Optimizer
    losses: list[Tensor]
    scale: float | None

    @property
    def weights(self) -> Tensor:
        return flat(self.model.parameters()).double()


def optimizer(name: str, base: str, model: nn.Module, radius: str | None) -> torch.optim.Optimizer:
    """The variant; without a radius its base optimizer alone."""
    made = BASE_OF[base](model.parameters())
    if radius is None:
        return made
    rho = RADII[radius](len(weights_of(model)))
    options = ROWS[name].options | ({"model": model} if ROWS[name].needs_model else {})
    return NAMES[name](made, rho, **options)


@functools.cache
def run(name: str, base: str, radius: str | None, how: How, device: str = "cpu") -> End:
    """A few steps from weights that bfloat16 can hold."""
    model = ROWS[name].make_model(dtype=torch.bfloat16).to(device, how.weights)
    opt = optimizer(name, base, model, radius)
    scaler = None if how.scale is None else torch.amp.GradScaler(device, init_scale=how.scale, growth_interval=10**6)

    def loss_of(data: Batch) -> Tensor:
        with torch.autocast(device, dtype=how.autocast, enabled=how.autocast is not None):
            return loss_on(model, (data[0].to(device), data[1].to(device)))

    def closure_on(seed: int) -> Callable[[], Tensor]:
        shares, batches = zip(*pieces(batch(seed, dtype=how.weights), ROWS[name].parts), strict=True)
        return accumulated(loss_of, batches, opt, weights=shares, grad_scaler=scaler)

    losses: list[Tensor] = []
    for t in range(STEPS):
        if isinstance(opt, SharpnessAware):
            losses.append(opt.step(closure_on(t), closure_on(50 + t), grad_scaler=scaler))
        else:
            losses.append(closure_on(t)())
            opt.step()
        if scaler is not None:
            scaler.update()
    return End(model, opt, losses, None if scaler is None else scaler.get_scale())


def rho_of(end: End) -> Tensor:
    assert isinstance(end.opt, SharpnessAware)
    return end.opt.rho


@on_devices
@with_every_radius
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("base", BASE_OF)
@pytest.mark.parametrize("name", NAMES)
def test_low_precision_agrees_with_float32(name: str, base: str, precision: str, radius: str, device: str) -> None:
    how = PRECISIONS[precision]
    low, full = run(name, base, radius, how, device), run(name, base, radius, FULL, device)
    plain = run(name, base, None, FULL, device)
    assert isinstance(low.opt, SharpnessAware)
    assert low.opt.metrics["skipped_steps"] == 0
    assert all(loss.isfinite() for loss in low.losses)
    assert {p.dtype for p in low.model.parameters()} == {how.weights}
    assert low.opt.rho.dtype == low.opt.metrics["gradient_norm"].dtype == torch.float32
    assert low.scale == how.scale

    closest = {"fp16 autocast, scaled": 0.05}.get(precision, 0.3 if base == "momentum" else 0.5)
    apart = (plain.weights - full.weights).norm()
    assert (low.weights - full.weights).norm() < closest * apart
    if radius == "learned":
        assert rho_of(low) != RHO
        assert 0.05 < rho_of(low) < 2
    if base == "momentum" or how.scale is not None:
        assert rho_of(low).tolist() == pytest.approx(rho_of(full).tolist(), rel=0.1)


@on_devices
@with_every_radius
@pytest.mark.parametrize("base", BASE_OF)
@pytest.mark.parametrize("name", NAMES)
def test_a_scaled_run_is_the_unscaled_one(name: str, base: str, radius: str, device: str) -> None:
    """Bit for bit: a scale that is a power of 2 changes no digit."""
    scaled, plain = run(name, base, radius, SCALED, device), run(name, base, radius, FULL, device)
    assert same_bits(weights_of(scaled.model), weights_of(plain.model))
    assert same_bits(scaled.opt.state_dict(), plain.opt.state_dict())
    assert same_bits(scaled.losses, plain.losses)
    assert scaled.scale == SCALED.scale
    assert not torch.equal(plain.weights, run(name, base, None, FULL, device).weights)


@CUDA
@pytest.mark.parametrize("name", [name for name in NAMES if name not in DRAWS])
def test_the_gpu_does_what_the_cpu_does(name: str) -> None:
    for base, radius in itertools.product(BASE_OF, RADII):
        there, here = (run(name, base, radius, How(torch.float64), device) for device in ("cuda", "cpu"))
        agree(there, here)


def agree(there: End, here: End) -> None:
    torch.testing.assert_close(there.weights.cpu(), here.weights, rtol=1e-9, atol=1e-11)
    assert rho_of(there).device.type == "cuda"
    assert rho_of(there).tolist() == pytest.approx(rho_of(here).tolist(), rel=1e-6)
