"""`letsam.check` says nothing of a correct loop, and leaves no trace."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import letsam
from doctor.cases import net, sgd, state_of
from learned_radius import learned_radius
from letsam import ASAM, SAM, LearnedRadius
from oracle.problems import BASES, batch, closure_on, loss_on, network, same_bits

RADII: dict[str, Callable[[], Any]] = {
    "fixed": lambda: 0.1,
    "zero": lambda: 0,
    "cosine": lambda: letsam.CosineRadius(0.2, 0.1, 4),
    "budget": lambda: letsam.LossBudgetRadius(0.1, relative=True),
    "learned": lambda: LearnedRadius(0.1),
    "finite difference": lambda: learned_radius(0.1, hypergradient="finite_difference", interval=1),
    "paper": lambda: LearnedRadius.paper(0.1),
}


# --- a correct loop ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("trained", [0, 3])
@pytest.mark.parametrize("radius", RADII)
@pytest.mark.parametrize("variant", [SAM, ASAM])
def test_all_is_well_and_as_it_was(variant: Any, radius: str, trained: int) -> None:
    model = net()
    opt = variant(BASES["adamw"](model.parameters()), RADII[radius](), model=model)
    scheduler = torch.optim.lr_scheduler.StepLR(opt, 1)
    for i in range(trained):
        opt.step(closure_on(model, batch(i)), closure_on(model, batch(50 + i)))
    before = state_of(model, opt)
    held_out = closure_on(model, batch(60))
    assert letsam.check(opt, closure_on(model, batch(9)), held_out, model, scheduler=scheduler) == []
    assert same_bits(state_of(model, opt), before)

    # and what comes next is what would have come
    twin, twin_opt = copy.deepcopy((model, opt))
    letsam.check(opt, closure_on(model, batch(9)), held_out)
    for m, o in ((model, opt), (twin, twin_opt)):
        torch.manual_seed(5)
        o.step(closure_on(m, batch(10)), closure_on(m, batch(61)))
    assert same_bits(state_of(model, opt)[3], state_of(twin, twin_opt)[3])
    assert same_bits(dict(model.state_dict()), dict(twin.state_dict()))


def test_nothing_moves_where_everything_is_wrong() -> None:
    """Also without a model, with gradients in place, and with closures that touch modes and other generators."""
    model = net()
    opt = SAM(sgd(model), LearnedRadius(0.1))
    closure_on(model, batch(0))()

    def closure() -> Tensor:
        random.random()
        np.random.rand()  # noqa: NPY002
        loss = loss_on(model.train(), batch(random.randrange(10**6)))
        loss.backward()
        return loss

    def held_out() -> Tensor:
        return closure_on(model.eval(), batch(1))()

    before = state_of(model, opt)
    found = letsam.check(opt, closure, held_out)
    assert [f.code for f in found] == ["not-deterministic", "modes-changed", "buffers-move-in-each-pass"]
    assert "draws from random and numpy" in found[0].message
    assert same_bits(state_of(model, opt), before)


def test_an_exception_of_the_closures_own_comes_through() -> None:
    model = net()
    opt = SAM(sgd(model))

    def closure() -> Tensor:
        closure_on(model, batch(0))()
        raise RuntimeError("no data")

    before = state_of(model, opt)
    with pytest.raises(RuntimeError, match="no data"):
        letsam.check(opt, closure)
    assert same_bits(state_of(model, opt), before)
    opt.step(closure_on(model, batch(0)))  # no hook is left behind


# --- the whole --------------------------------------------------------------------------------------------------------


def test_errors_come_first() -> None:
    model = net()
    found = letsam.check(SAM(sgd(model), LearnedRadius(0.1)), closure_on(model, batch(0)))
    assert [f.severity for f in found] == ["error", "warning"]
    assert str(found[0]).startswith("error: a learned radius needs a validation closure")
    with pytest.raises(AttributeError):
        found[0].code = "other"  # pyright: ignore[reportAttributeAccessIssue]


def test_bad_arguments() -> None:
    model = network()
    opt, closure, bad = SAM(sgd(model)), closure_on(model, batch(0)), 3
    any_check: Any = letsam.check
    with pytest.raises(TypeError, match="`optimizer` must be a letsam optimizer, got SGD"):
        any_check(sgd(model), closure)
    with pytest.raises(ValueError, match=r"`closure` must be a function that clears .* got 3"):
        any_check(opt, bad)
    with pytest.raises(TypeError, match="`validation_closure` must be a function or None, got 3"):
        any_check(opt, closure, bad)
    with pytest.raises(TypeError, match=r"`model` must be a torch\.nn\.Module, got 3"):
        any_check(opt, closure, None, bad)
    with pytest.raises(ValueError, match="`model` must hold the weights of the optimizer, got a Linear"):
        any_check(opt, closure, None, nn.Linear(2, 2))
    with pytest.raises(TypeError, match="`scheduler` must be a learning rate scheduler or None, got 3"):
        any_check(opt, closure, scheduler=bad)


def test_weights_that_the_optimizer_does_not_hold_are_left_alone() -> None:
    """A lazy layer that is not made yet has no weights to copy, and an expanded frozen weight cannot be written."""
    model = nn.ModuleDict({"used": nn.Linear(2, 1), "lazy": nn.LazyLinear(1)})
    model.register_parameter("frozen", nn.Parameter(torch.ones(1).expand(3), requires_grad=False))
    opt = letsam.SAM(torch.optim.SGD(model["used"].parameters(), lr=0.1), rho=0.05)
    versions = [model.frozen._version]

    def closure() -> torch.Tensor:
        opt.zero_grad()
        loss = (model["used"](torch.ones(4, 2)) * model.frozen.sum()).square().mean()
        loss.backward()
        return loss

    assert [found.code for found in letsam.check(opt, closure, model=model)] == ["weights-not-held"]
    assert versions == [model.frozen._version]
