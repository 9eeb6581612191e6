"""Gradients that were accumulated before a step are an error; those of the last step, and zeros, are not."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import letsam
from letsam import SAM
from letsam.sharpness import ascent_sharpness
from oracle.problems import BASES, batch, closure_on, network, same_bits, weights_of

ERROR = r"`step` must begin without gradients other than those of the last step, got others in 4 of 4 weights.*accum"


def made(rho: Any = 0.1, base: str = "momentum") -> tuple[nn.Module, SAM]:
    model = network()
    return model, SAM(BASES[base](model.parameters()), rho=rho)


def step(model: nn.Module, opt: SAM, number: int) -> Tensor:
    """A step whose closures clear the gradients themselves."""
    return opt.step(clearing(opt, closure_on(model, batch(number))), clearing(opt, closure_on(model, batch(50))))


def clearing(opt: SAM, closure: Callable[[], Tensor]) -> Callable[[], Tensor]:
    def cleared() -> Tensor:
        opt.zero_grad()
        return closure()

    return cleared


def accumulate(model: nn.Module, opt: SAM) -> None:
    for number in (7, 8):
        closure_on(model, batch(number))()


@pytest.mark.parametrize("before", [0, 3], ids=["first step", "later step"])
@pytest.mark.parametrize(
    "clear",
    [
        lambda model, opt: opt.zero_grad(),
        lambda model, opt: opt.zero_grad(set_to_none=False),
        lambda model, opt: model.zero_grad(set_to_none=False),
        lambda model, opt: None,
    ],
    ids=["to none", "to zero", "by the model", "not at all"],
)
@pytest.mark.parametrize("rho", [0.1, letsam.LearnedRadius(0.1)], ids=["fixed", "learned"])
def test_gradients_accumulated_before_a_step_are_an_error(before: int, clear: Any, rho: Any) -> None:
    model, opt = made(rho)
    for number in range(before):
        step(model, opt, number)
    clear(model, opt)
    accumulate(model, opt)
    weights, state = weights_of(model), opt.state_dict()
    with pytest.raises(ValueError, match=ERROR):
        step(model, opt, before)
    assert same_bits(weights_of(model), weights)
    assert same_bits(opt.state_dict(), state)
    opt.zero_grad()
    step(model, opt, before)
    assert not same_bits(weights_of(model), weights)


def after_base(model: nn.Module, opt: SAM) -> None:
    """A step of the base optimizer alone, as in a late start."""
    opt.zero_grad()
    closure_on(model, batch(9))()
    opt.base_optimizer.step()


def after_forward(model: nn.Module, opt: SAM) -> None:
    """A metric on the new weights."""
    model(batch(9)[0]).argmax(1)


def after_failure(model: nn.Module, opt: SAM) -> None:
    """A closure that has raised after its backward()."""

    def fails() -> Tensor:
        closure_on(model, batch(9))()
        raise KeyError

    with pytest.raises(KeyError):
        opt.step(fails, fails)


def after_loading(model: nn.Module, opt: SAM) -> None:
    closure_on(model, batch(9))()
    model.load_state_dict(model.state_dict())


def after_measurements(model: nn.Module, opt: SAM) -> None:
    closure = closure_on(model, batch(9))
    letsam.check(opt, closure, closure)
    ascent_sharpness(model, nn.functional.cross_entropy, [batch(9)], 0.1)


def after_manual(model: nn.Module, opt: SAM) -> None:
    if opt.radius.learns:
        return
    opt.zero_grad()
    closure_on(model, batch(9))()
    opt.ascent_step()
    closure_on(model, batch(9))()
    opt.descent_step()


def after_interrupt(model: nn.Module, opt: SAM) -> None:
    """A loop by hand that stops between its two halves."""
    if opt.radius.learns:
        return
    opt.zero_grad()
    closure_on(model, batch(9))()
    opt.ascent_step()
    closure_on(model, batch(9))()


HARMLESS = [
    lambda model, opt: None,
    lambda model, opt: opt.zero_grad(),
    lambda model, opt: opt.zero_grad(set_to_none=False),
    lambda model, opt: model.zero_grad(),
    lambda model, opt: model.zero_grad(set_to_none=False),
    lambda model, opt: opt.base_optimizer.zero_grad(set_to_none=False),
    after_base,
    after_forward,
    after_failure,
    after_loading,
    after_measurements,
    after_manual,
    after_interrupt,
]


@pytest.mark.parametrize("between", HARMLESS)
@pytest.mark.parametrize("rho", [0.1, letsam.LearnedRadius(0.1)], ids=["fixed", "learned"])
def test_what_may_happen_between_two_steps(between: Any, rho: Any) -> None:
    model, opt = made(rho)
    for number in range(4):
        weights = weights_of(model)
        step(model, opt, number)
        assert not same_bits(weights_of(model), weights)
        between(model, opt)


def test_new_optimizers_and_groups_may_find_gradients() -> None:
    model, opt = made()
    step(model, opt, 0)
    first, *others = model.parameters()
    accumulate(model, opt)
    late = SAM(torch.optim.SGD([first], lr=0.1), rho=0.1)
    step(model, late, 1)
    late.add_param_group({"params": others})
    step(model, late, 2)
    step(model, SAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=0.1), 3)


def test_zeroing_in_place_reads_at_most_one_number() -> None:
    """By the optimizer none; by other means one, to tell zeros from gradients, and never again."""
    model, opt = made()
    for clear, expected in ((opt.zero_grad, [0, 0, 0]), (model.zero_grad, [1, 0, 0])):
        found = []
        for number in range(3):
            step(model, opt, number)
            clear(set_to_none=False)
            with Reads() as reads:
                step(model, opt, number)
            found.append(reads.count)
        assert found == expected


class Reads(TorchDispatchMode):
    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


def test_cleared_gradients_are_freed() -> None:
    model, opt = made()
    step(model, opt, 0)
    gradient = weakref.ref(next(model.parameters()).grad)  # pyright: ignore[reportArgumentType]
    opt.zero_grad()
    gc.collect()
    assert gradient() is None


def test_steps_of_other_optimizers_may_leave_gradients() -> None:
    """Two parts of a network, and a closure that reaches both; accumulating between their steps is still an error."""
    model = network()
    first, second, *others = model.parameters()
    opts = [SAM(BASES["sgd"](params), rho=0.1) for params in ([first, second], others)]
    bystander, alone = made()
    for number in range(3):
        for opt in opts:
            weights = weights_of(model)
            opt.step(closure_on(model, batch(number)))
            assert not same_bits(weights_of(model), weights)
    model.zero_grad()
    step(bystander, alone, 0)
    closure_on(model, batch(9))()
    for opt in opts:
        with pytest.raises(ValueError, match="got others in 2 of 2 weights"):
            opt.step(closure_on(model, batch(9)))
    del opt, opts
    gc.collect()
    step(bystander, alone, 1)
