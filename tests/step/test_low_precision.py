"""Training under autocast and on bfloat16 weights."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext

import pytest
import torch
from torch import Tensor, nn

import letsam
from letsam import ASAM, SAM, LearnedRadius, SharpnessAware
from oracle.problems import Batch, batch, loss_on, network, same_bits, weights_of
from step.cases import RADII, Scaler, half, scaled


def autocast_closure(model: nn.Module, data: Batch, scaler: Scaler | None, dtype: torch.dtype) -> Callable[[], Tensor]:
    def closure() -> Tensor:
        model.zero_grad()
        with torch.autocast("cpu", dtype=dtype):
            loss = loss_on(model, data)
        (loss if scaler is None else scaler.scale(loss)).backward()
        return loss.detach()

    return closure


@pytest.mark.parametrize("radius", ["fixed", "secant"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_training_under_autocast(dtype: torch.dtype, radius: str) -> None:
    model = network(dtype=torch.float32)
    scaler = Scaler("cpu", init_scale=2.0**24) if dtype == torch.float16 else None  # overflows float16 at first
    opt = SAM(torch.optim.SGD(model.parameters(), lr=0.3, momentum=0.9), rho=RADII[radius]())
    data, first = half(0), loss_on(model, half(0)).item()
    for _ in range(30):
        closures = (autocast_closure(model, d, scaler, dtype) for d in (data, half(50)))
        opt.step(*closures, grad_scaler=scaler)
        if scaler is not None:
            scaler.update()
    assert loss_on(model, data).item() < 0.5 * first
    assert opt.metrics["gradient_norm"].dtype == opt.rho.dtype == torch.float32
    if scaler is None:
        assert opt.metrics["skipped_steps"] == 0
    else:
        assert 0 < opt.metrics["skipped_steps"] < 15
        assert scaler.get_scale() == 2.0 ** (24 - int(opt.metrics["skipped_steps"]))
    if radius == "secant":
        assert opt.rho != 0.1


@pytest.mark.parametrize("by_hand", [False, True])
def test_autocast_around_the_whole_step(by_hand: bool) -> None:
    """Autocast keeps the casts of weights that it has seen; the second pass must not see the weights of the first."""

    def run(around: bool) -> list[Tensor]:
        model = network(dtype=torch.float32)
        opt = SAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=0.5)
        for i in range(3):
            with torch.autocast("cpu", dtype=torch.bfloat16) if around else nullcontext():
                closure = autocast_closure(model, half(i), None, torch.bfloat16)
                if by_hand:
                    closure()
                    opt.ascent_step()
                    closure()
                    opt.descent_step()
                else:
                    opt.step(closure)
        return weights_of(model)

    assert same_bits(run(around=True), run(around=False))


@pytest.mark.parametrize("variant", [SAM, ASAM])
def test_bfloat16_weights_come_back_bit_for_bit_over_200_steps(variant: type[SharpnessAware]) -> None:
    model = network(dtype=torch.bfloat16)
    scaler = Scaler("cpu", init_scale=2.0**10)
    groups = letsam.param_groups(model, "weights")
    opt = variant(torch.optim.SGD(groups, lr=0.0), rho=LearnedRadius(0.3, interval=1), max_grad_norm=0.1)
    before, moved = weights_of(model), 0

    for i in range(200):
        closure = scaled(model, batch(i % 4, dtype=torch.bfloat16), scaler)

        def watched(closure: Callable[[], Tensor] = closure) -> Tensor:
            nonlocal moved
            moved += not same_bits(weights_of(model), before)
            return closure()

        opt.step(watched, closure, grad_scaler=scaler)
        scaler.update()
        assert same_bits(weights_of(model), before)
    assert moved == 200
    assert opt.metrics["skipped_steps"] == 0


@pytest.mark.parametrize("resumed", [False, True], ids=["moved", "resumed"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("name", ["FSAM", "VaSSO", "LookSAM", "SSAMF"])
def test_what_is_remembered_follows_the_dtype_of_the_weights(name: str, dtype: torch.dtype, resumed: bool) -> None:
    def made(dtype: torch.dtype) -> tuple[nn.Module, SharpnessAware]:
        model = network(dtype=dtype)
        return model, getattr(letsam, name)(torch.optim.SGD(model.parameters(), lr=0.1), rho=0.1)

    model, opt = made(torch.float32)
    opt.step(scaled(model, batch(0, dtype=torch.float32), None))
    if resumed:
        weights, state = model.state_dict(), opt.state_dict()
        model, opt = made(dtype)
        model.load_state_dict(weights)
        opt.load_state_dict(state)
    else:
        model.to(dtype)
    for i in (1, 2):
        opt.step(scaled(model, batch(i, dtype=dtype), None))
    values = opt.state_dict()["sharpness_aware"]["perturbation"]["memory"]["values"].values()
    assert values
    assert all(value.dtype == dtype for value in values)
    assert all(w.isfinite().all() for w in weights_of(model))
