"""Mixed precision: a GradScaler's step is the unscaled one, and overflows skip it and reach the scaler."""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from letsam import ASAM, SAM, SharpnessAware
from oracle.problems import BASES, loss_on, network, same_bits, snapshot, weights_of
from page_code import blocks_of, run_code
from step.cases import RADII, Scaler, half, scaled

PASSES = {"fixed": 2, "secant": 3, "finite difference": 4, "paper": 4}


# --- the same steps -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("radius", RADII)
@pytest.mark.parametrize("variant", [SAM, ASAM])
@pytest.mark.parametrize("base", ["momentum", "adamw"])
def test_a_scaled_step_is_the_unscaled_one_bit_for_bit(base: str, variant: type[SharpnessAware], radius: str) -> None:
    def run(scaler: Scaler | None) -> Any:
        model = network(dtype=torch.float32)
        opt = variant(BASES[base](model.parameters()), rho=RADII[radius](), max_grad_norm=0.5)
        losses = []
        for i in range(8):
            closures = scaled(model, half(i), scaler), scaled(model, half(50 + i), scaler)
            losses.append(opt.step(*closures, grad_scaler=scaler))
            if scaler is not None:
                scaler.update()
        assert opt.metrics["skipped_steps"] == 0
        return losses, opt.metrics, snapshot(model, opt)

    scaler = Scaler("cpu", growth_interval=3)
    assert same_bits(run(scaler), run(None))
    assert scaler.get_scale() == 2.0**16 * 2 ** (8 // 3)


@pytest.mark.parametrize("variant", [SAM, ASAM])
def test_by_hand(variant: type[SharpnessAware]) -> None:
    def run(scaler: Scaler | None) -> Any:
        model = network(dtype=torch.float32)
        opt = variant(BASES["adamw"](model.parameters()), rho=0.1)
        for i in range(5):
            closure = scaled(model, half(i), scaler)
            closure()
            opt.ascent_step(grad_scaler=scaler)
            closure()
            opt.descent_step(grad_scaler=scaler)
            if scaler is not None:
                scaler.update()
        return snapshot(model, opt)

    scaler = Scaler("cpu", growth_interval=2)
    assert same_bits(run(scaler), run(None))
    assert scaler.get_scale() == 2.0**18


def test_a_disabled_scaler_is_none() -> None:
    model, scaler = network(dtype=torch.float32), Scaler("cpu", enabled=False)
    twin = copy.deepcopy(model)
    opts = [SAM(BASES["momentum"](m.parameters()), rho=0.1) for m in (model, twin)]
    opts[0].step(scaled(model, half(0), scaler), grad_scaler=scaler)
    scaler.update()
    opts[1].step(scaled(twin, half(0), None))
    assert same_bits(weights_of(model), weights_of(twin))


# --- overflows --------------------------------------------------------------------------------------------------------


def spoiled(closure: Callable[[], Tensor], model: nn.Module, calls: list[int], bad: int | None) -> Callable[[], Tensor]:
    """The closure whose pass number `bad` (from 1, counted in `calls`) has an overflow in its scaled gradients."""

    def spoiling() -> Tensor:
        loss = closure()
        calls[0] += 1
        if calls[0] == bad:
            gradient = next(model.parameters()).grad
            assert gradient is not None
            gradient[0, 0] = math.inf
        return loss

    return spoiling


def vital(model: nn.Module, opt: SharpnessAware) -> Any:
    """What a skipped step must not touch: all but the counters, the learning rate's peak and Z."""
    weights, state = snapshot(model, opt)
    radius = {k: v for k, v in state["sharpness_aware"]["radius"].items() if k not in ("Z", "usable")}
    return weights, state["state"], radius


HELD_OUT = {"secant": 1, "finite difference": 1, "paper": 4}  # which pass; for these see tests/step/test_held_out.py
TRAINING = [(r, n) for r, count in PASSES.items() for n in range(1, count + 1) if n != HELD_OUT.get(r)]


@pytest.mark.parametrize(("radius", "bad"), TRAINING)
def test_an_overflow_in_any_training_pass_skips_the_step_and_backs_off(radius: str, bad: int) -> None:
    model, scaler = network(dtype=torch.float32), Scaler("cpu", init_scale=1024.0)
    opt = SAM(BASES["adamw"](model.parameters()), rho=RADII[radius]())

    def step(i: int, bad: int | None) -> None:
        calls = [0]
        closures = [spoiled(scaled(model, half(j), scaler), model, calls, bad) for j in (i, 50 + i)]
        opt.step(*closures, grad_scaler=scaler)
        scaler.update()
        assert calls[0] == PASSES[radius]

    for i in range(3):
        step(i, None)
    before = vital(model, opt)
    step(3, bad)
    assert same_bits(vital(model, opt), before)
    assert scaler.get_scale() == 512.0
    step(4, None)
    assert not same_bits(weights_of(model), before[0])
    assert scaler.get_scale() == 512.0
    assert opt.metrics["skipped_steps"] == 1


def test_a_scale_that_is_too_large_comes_down_as_in_torch() -> None:
    """Overflows that the arithmetic makes: float32 ends at 2^128."""

    def run(sam: bool) -> tuple[list[float], list[bool]]:
        model, scaler = network(dtype=torch.float32), Scaler("cpu", init_scale=2.0**127, growth_interval=4)
        base = torch.optim.SGD(model.parameters(), lr=1e-4)  # so that both have about the same gradients
        opt = SAM(base, rho=1e-6)
        scales, moved = [], []

        def closure() -> Tensor:
            model.zero_grad()
            loss = 100 * loss_on(model, half(0))
            scaler.scale(loss).backward()
            return loss

        for _ in range(16):
            before = weights_of(model)
            if sam:
                opt.step(closure, grad_scaler=scaler)
            else:
                closure()
                scaler.step(base)
            scaler.update()
            scales.append(scaler.get_scale())
            moved.append(not same_bits(weights_of(model), before))
        return scales, moved

    scales, moved = run(sam=True)
    assert (scales, moved) == run(sam=False)
    assert moved[0] is False
    assert True in moved
    assert sorted(scales, reverse=True) != scales, "it must have grown, too"


def test_a_forgotten_update_is_made_up_for() -> None:
    model, scaler = network(dtype=torch.float32), Scaler("cpu", init_scale=1024.0, growth_interval=2)
    opt = SAM(BASES["momentum"](model.parameters()), rho=0.1)
    scales = []
    for bad in (1, None, None, None):
        opt.step(spoiled(scaled(model, half(0), scaler), model, [0], bad), grad_scaler=scaler)
        scales.append(scaler.get_scale())
    assert scales == [1024.0, 512.0, 512.0, 1024.0]
    scaler.update()
    pickle.dumps(scaler)  # which torch allows between two iterations only


def test_a_forgotten_update_by_hand() -> None:
    """The scale may change between two passes, never between a pass and its unscaling."""

    def run(scaler: Scaler | None) -> list[Tensor]:
        model = network(dtype=torch.float32)
        opt = SAM(BASES["adamw"](model.parameters()), rho=0.1)
        for i in range(4):
            closure = scaled(model, half(i), scaler)
            closure()
            opt.ascent_step(grad_scaler=scaler)
            closure()
            opt.descent_step(grad_scaler=scaler)
        return weights_of(model)

    scaler = Scaler("cpu", growth_interval=1)
    assert same_bits(run(scaler), run(None))
    assert scaler.get_scale() == 2.0**19


def test_a_step_that_raises_tells_the_scaler_nothing() -> None:
    model, scaler = network(dtype=torch.float32), Scaler("cpu")
    opt = SAM(BASES["momentum"](model.parameters()), rho=0.1)
    calls = [0]

    def failing() -> Tensor:
        calls[0] += 1
        if calls[0] == 2:
            raise KeyboardInterrupt
        return scaled(model, half(0), scaler)()

    with pytest.raises(KeyboardInterrupt):
        opt.step(failing, grad_scaler=scaler)
    with pytest.raises(AssertionError, match="No inf checks"):
        scaler.update()


class Waiting(TorchDispatchMode):
    """The operators that make the host wait."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.total += 1
        if func.overloadpacket.__name__ in ("_local_scalar_dense", "item", "is_nonzero", "equal", "nonzero"):
            self.seen.append(str(func))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("radius", ["fixed", "secant"])
def test_no_host_synchronisation(radius: str) -> None:
    model, scaler = network(dtype=torch.float32), Scaler("cpu")
    opt = SAM(torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9), rho=RADII[radius](), max_grad_norm=1.0)
    with Waiting() as waiting:
        for i in range(3):
            closures = scaled(model, half(i), scaler), scaled(model, half(50), scaler)
            opt.step(*closures, grad_scaler=scaler)  # without update(): the next step makes up for it
    assert waiting.seen == []
    assert waiting.total > 100


# --- misuse -----------------------------------------------------------------------------------------------------------


def test_a_closure_that_forgets_to_scale() -> None:
    model, scaler = network(dtype=torch.float32), Scaler("cpu")
    opt = SAM(BASES["momentum"](model.parameters()), rho=0.1)
    before = snapshot(model, opt)
    with pytest.raises(ValueError, match=r"`grad_scaler` must have scaled the loss: .*got a plain backward"):
        opt.step(scaled(model, half(0), None), grad_scaler=scaler)
    assert same_bits(snapshot(model, opt), before)


def test_gradients_that_are_unscaled_already() -> None:
    model, scaler = network(dtype=torch.float32), Scaler("cpu")
    opt = SAM(BASES["momentum"](model.parameters()), rho=0.1)
    before = snapshot(model, opt)

    def eager() -> Tensor:
        loss = scaled(model, half(0), scaler)()
        scaler.unscale_(opt)
        return loss

    with pytest.raises(ValueError, match=r"`grad_scaler` must not unscale the gradients, got unscale_\(\) called"):
        opt.step(eager, grad_scaler=scaler)
    assert same_bits(snapshot(model, opt), before)


@pytest.mark.parametrize("scaler", [1.0, "auto", object()])
def test_what_is_no_scaler(scaler: Any) -> None:
    model = network(dtype=torch.float32)
    opt = SAM(BASES["momentum"](model.parameters()), rho=0.1)
    closure = scaled(model, half(0), None)
    with pytest.raises(TypeError, match=r"`grad_scaler` must be a torch.amp.GradScaler or None, got"):
        opt.step(closure, grad_scaler=scaler)
    closure()
    with pytest.raises(TypeError, match="`grad_scaler` must be"):
        opt.ascent_step(grad_scaler=scaler)


def test_float16_weights_are_refused() -> None:
    w, scaler = nn.Parameter(torch.ones(2, dtype=torch.float16)), Scaler("cpu", init_scale=4.0)
    opt = SAM(torch.optim.SGD([w], lr=0.1), rho=0.1)

    def closure() -> Tensor:
        opt.zero_grad()
        loss = w.square().sum()
        scaler.scale(loss).backward()
        return loss

    with pytest.raises(ValueError, match=r"`grad_scaler` needs float32 weights .*got float16 gradients"):
        opt.step(closure, grad_scaler=scaler)
    assert torch.equal(w.detach(), torch.ones(2, dtype=torch.float16))


def test_the_descent_needs_the_scaler_of_the_ascent() -> None:
    """Else it would take a step that is 65,536 times too long."""
    model, scaler = network(dtype=torch.float32), Scaler("cpu")
    opt = SAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=0.1)
    closure = scaled(model, half(0), scaler)
    closure()
    opt.ascent_step(grad_scaler=scaler)
    closure()
    perturbed = weights_of(model)
    with pytest.raises(ValueError, match=r"`grad_scaler` must be the one of ascent_step\(\), got None"):
        opt.descent_step()
    assert same_bits(weights_of(model), perturbed)
    opt.descent_step(grad_scaler=scaler)
    assert opt.metrics["skipped_steps"] == 0


PAGE = "docs/how-to/mixed-precision.md"


@pytest.mark.parametrize("number", range(3))
def test_the_page_runs(number: int) -> None:
    blocks = blocks_of(PAGE)
    assert len(blocks) == 3
    torch.manual_seed(0)
    names = run_code(blocks[number], PAGE, {})
    skipped = int(names["opt"].metrics["skipped_steps"])
    assert skipped < (3 if number == 1 else 1)  # float16 may overflow until the scale has come down
    if number > 0:  # it decreases with a validation pass that overflows, too
        assert names["scaler"].get_scale() in [
            2.0 ** (16 - skipped - held_out) for held_out in range(1 + (number == 1))
        ]
