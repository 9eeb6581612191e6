"""Calls in the wrong place: one clear error, and weights, state and radius as they were before the step."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from learned_radius import learned_radius
from letsam import SAM, DistributedState, Radius, SharpnessAware
from letsam.radius import Ascent, Wants
from oracle.problems import batch, closure_on, network, same_bits, snapshot


def momentum(model: torch.nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)


RADII: dict[str, Callable[[], Any]] = {
    "fixed": lambda: 0.1,
    "before": lambda: learned_radius(0.1, interval=1, burn_in=0),
    "after": lambda: learned_radius(0.1, interval=1, burn_in=0, training_batch="same"),
}
PASSES = {"fixed": 2, "before": 3, "after": 4}
CALLS: dict[str, Callable[[SharpnessAware, Callable[[], Tensor]], object]] = {
    "step": lambda opt, closure: opt.step(closure, closure),
    "ascent_step": lambda opt, closure: opt.ascent_step(),
    "descent_step": lambda opt, closure: opt.descent_step(),
    "load_state_dict": lambda opt, closure: opt.load_state_dict(copy.deepcopy(opt.state_dict())),
    "add_param_group": lambda opt, closure: opt.add_param_group({"params": [torch.nn.Parameter(torch.ones(2))]}),
}


@pytest.mark.parametrize(
    ("form", "bad_call"), [(form, call) for form, count in PASSES.items() for call in range(1, count + 1)]
)
@pytest.mark.parametrize("call", CALLS)
def test_a_call_of_the_optimizer_within_a_closure_of_its_step(call: str, form: str, bad_call: int) -> None:
    model = network()
    opt = SAM(momentum(model), rho=RADII[form]())
    for i in range(2):
        opt.step(closure_on(model, batch(i)), closure_on(model, batch(50 + i)))
    before, passes = snapshot(model, opt), [0]
    clean = closure_on(model, batch(9))

    def closure() -> Tensor:
        passes[0] += 1
        if passes[0] == bad_call:
            CALLS[call](opt, clean)
        return clean()

    with pytest.raises(RuntimeError, match=rf"{call}\(\) was called within a closure of step\(\)"):
        opt.step(closure, closure)
    found, expected = snapshot(model, opt), before
    for state in (found[1], expected[1]):  # an abandoned step costs the next update its Z
        state["sharpness_aware"]["radius"].pop("Z", None)
        state["sharpness_aware"]["radius"].pop("usable", None)
    assert same_bits(found, expected)
    assert len(opt.param_groups) == 1
    opt.step(clean, clean)  # and the optimizer can go on
    assert not same_bits(snapshot(model, opt)[0], before[0])


def test_a_distributed_state_is_not_loaded_within_a_closure() -> None:
    model = network()
    opt = SAM(momentum(model), rho=0.1)
    clean = closure_on(model, batch(0))
    opt.step(clean)
    state = DistributedState(model, opt)
    saved, before = state.state_dict(), snapshot(model, opt)

    def closure() -> Tensor:
        state.load_state_dict(saved)
        return clean()

    with pytest.raises(RuntimeError, match=r"load_state_dict\(\) was called within a closure"):
        opt.step(closure)
    assert same_bits(snapshot(model, opt), before)


def test_a_step_of_another_optimizer_within_a_closure() -> None:
    """As in the training of two networks against each other: only the optimizer's own closure is under way."""
    model, other = network(), network(1)
    opt, others = SAM(momentum(model), rho=0.1), SAM(momentum(other), rho=0.1)

    def closure() -> Tensor:
        others.step(closure_on(other, batch(1)))
        return closure_on(model, batch(0))()

    opt.step(closure)
    assert opt.metrics["skipped_steps"] == others.metrics["skipped_steps"] == 0
    assert others.state_dict()["sharpness_aware"]["steps"] == 2


@pytest.mark.parametrize(
    ("form", "bad_call"), [(form, call) for form, count in PASSES.items() for call in range(1, count + 1)]
)
def test_a_loader_that_ends_within_a_closure_does_not_end_the_loop(form: str, bad_call: int) -> None:
    model = network()
    opt = SAM(momentum(model), rho=RADII[form]())
    opt.step(closure_on(model, batch(0)), closure_on(model, batch(50)))
    before = snapshot(model, opt)[0]
    batches = {"`closure`": 0, "`validation_closure`": 0}

    def closure(name: str) -> Tensor:
        if sum(batches.values()) + 1 == bad_call:
            next(iter([]))
        batches[name] += 1
        return closure_on(model, batch(1))()

    def step(_: int) -> Tensor:
        return opt.step(lambda: closure("`closure`"), lambda: closure("`validation_closure`"))

    with pytest.raises(RuntimeError, match=r"`(validation_)?closure` must find a batch in every call, got StopIter"):
        list(map(step, [0]))  # which StopIteration would end
    assert same_bits(snapshot(model, opt)[0], before)


class Validating(Radius):
    """A radius of a user, which wants a validation pass every second step."""

    def wants(self, step: int) -> Wants:
        return Wants(validation="before" if step % 2 else None)

    def at(self, ascent: Ascent) -> Tensor:
        return self.rho


def test_a_radius_of_ones_own_that_wants_validation_needs_a_closure() -> None:
    model = network()
    opt = SAM(momentum(model), rho=Validating(0.1))
    opt.step(closure_on(model, batch(0)))
    before = snapshot(model, opt)
    with pytest.raises(ValueError, match=r"`validation_closure` must be given for a Validating, .*, got None"):
        opt.step(closure_on(model, batch(1)))
    closure_on(model, batch(1))()
    with pytest.raises(ValueError, match=r"`rho` must be fixed or scheduled for ascent_step\(\)"):
        opt.ascent_step()
    assert same_bits(snapshot(model, opt), before)
    opt.zero_grad()
    opt.step(closure_on(model, batch(1)), closure_on(model, batch(2)))
    assert opt.state_dict()["sharpness_aware"]["steps"] == 2
