"""What `letsam.check` finds in a closure."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import letsam
from doctor.cases import codes, net, only, sgd, state_of
from letsam import SAM, LearnedRadius
from oracle.problems import batch, closure_on, loss_on, network, same_bits


def test_the_loss_is_computed_once() -> None:
    for retain in (False, True):
        model = network()
        loss = loss_on(model, batch(0))

        def closure(loss: Tensor = loss, retain: bool = retain) -> Tensor:
            loss.backward(retain_graph=retain)
            return loss

        found = only(SAM(sgd(model)), closure)
        assert (found.code, found.severity) == ("not-recomputed", "error")
        assert "`closure` must recompute the loss at every call" in found.message


def test_a_batch_of_one_row_under_batchnorm() -> None:
    model = net()
    opt = SAM(sgd(model), LearnedRadius(0.1), model=model)
    found = only(opt, closure_on(model, batch(0)), closure_on(model, batch(1, size=1)))
    assert (found.code, found.severity) == ("one-row-batch", "error")
    assert found.message.startswith("`validation_closure` has a batch of one row")


def stale_in(model: nn.Module, kept: str) -> Callable[[], Tensor]:
    """A closure that returns its first loss, or leaves its first gradients, or both."""
    first: dict[str, Any] = {}

    def closure() -> Tensor:
        loss = closure_on(model, batch(0))()
        first.setdefault("loss", loss.detach())
        first.setdefault("gradients", [p.grad.clone() for p in model.parameters() if p.grad is not None])
        if kept in ("gradients", "both"):
            for p, g in zip(model.parameters(), first["gradients"], strict=True):
                p.grad = g.clone()
        return first["loss"] if kept in ("loss", "both") else loss

    return closure


@pytest.mark.parametrize(("kept", "severity"), [("both", "error"), ("loss", "warning"), ("gradients", "warning")])
def test_the_closure_repeats_itself(kept: str, severity: str) -> None:
    model = network()
    found = only(SAM(sgd(model)), stale_in(model, kept))
    assert (found.code, found.severity) == ("not-recomputed", severity)
    opt = SAM(sgd(model), LearnedRadius(0.1))
    found = only(opt, closure_on(model, batch(1)), stale_in(model, kept))
    assert (found.code, found.severity) == ("not-recomputed", severity)
    assert found.message.startswith("`validation_closure`")


def test_gradients_disappear_at_the_second_call() -> None:
    model = network()
    calls = [0]

    def closure() -> Tensor:
        loss = loss_on(model, batch(0))
        model.zero_grad()
        if not calls[0]:
            loss.backward()
        calls[0] += 1
        return loss

    assert codes(SAM(sgd(model)), closure) == ["no-gradients"]


def test_gradients_are_not_cleared() -> None:
    model = network()
    opt = SAM(sgd(model))

    def closure() -> Tensor:
        loss = loss_on(model, batch(0))
        loss.backward()
        return loss

    found = only(opt, closure)
    assert (found.code, found.severity) == ("gradients-not-cleared", "warning")
    for to_none in (False, True):
        assert letsam.check(opt, lambda to_none=to_none: opt.zero_grad(to_none) or closure()) == []


def drawing(model: nn.Module, draw: Callable[[], int]) -> Callable[[], Tensor]:
    return lambda: closure_on(model, batch(draw()))()


def test_another_batch_at_every_call() -> None:
    model = network()
    opt = SAM(sgd(model), LearnedRadius(0.1))
    numbers = iter(range(100))
    found = only(opt, drawing(model, lambda: next(numbers)), closure_on(model, batch(200)))
    assert (found.code, found.severity) == ("not-deterministic", "error")
    assert "draws from" not in found.message
    found = only(opt, drawing(model, lambda: random.randrange(10**9)), closure_on(model, batch(200)))
    assert "(it draws from random)" in found.message
    found = only(opt, drawing(model, lambda: np.random.randint(10**9)), closure_on(model, batch(200)))  # noqa: NPY002
    assert "(it draws from numpy)" in found.message

    # torch's global generator is replayed, and a validation closure may draw what it likes
    drawn = drawing(model, lambda: int(torch.randint(100, ())))
    assert letsam.check(opt, drawn, drawing(model, lambda: 100 + next(numbers))) == []


@pytest.mark.parametrize("name", ["closure", "validation_closure"])
@pytest.mark.parametrize(
    ("code", "spoil", "says"),
    [
        ("no-return", lambda loss: None, "end it with `return loss`"),
        ("no-tensor", lambda loss: loss.item(), "got a float: return loss, without item"),
        ("no-scalar", lambda loss: loss.repeat(2), r"got a tensor of shape \(2,\): take its mean"),
        ("not-finite", lambda loss: loss * torch.nan, r"the loss \(nan\) is not finite"),
    ],
)
def test_what_the_closure_returns(code: str, spoil: Any, says: str, name: str) -> None:
    model = network()
    opt = SAM(sgd(model), LearnedRadius(0.1))
    closures: dict[str, Any] = {
        "closure": closure_on(model, batch(0)),
        "validation_closure": closure_on(model, batch(1)),
    }
    good = closures[name]
    closures[name] = lambda: spoil(good())
    found = only(opt, **closures)
    assert (found.code, found.severity) == (code, "error")
    assert f"`{name}`" in found.message
    assert re.search(says, found.message)


def test_an_infinite_gradient() -> None:
    model = network()

    def closure() -> Tensor:
        loss = closure_on(model, batch(0))()
        model[0].weight.grad.fill_(torch.inf)
        return loss

    found = only(SAM(sgd(model)), closure)
    assert found.code == "not-finite"
    assert "a gradient is not finite" in found.message


def test_a_loss_without_gradients() -> None:
    model = network()
    opt = SAM(sgd(model))

    def without_backward() -> Tensor:
        return loss_on(model, batch(0))

    def detached() -> Tensor:
        loss = loss_on(model, batch(0)).detach()
        loss.backward()
        return loss

    assert codes(opt, without_backward) == ["no-gradients"]
    assert codes(opt, detached) == ["loss-without-grad"]
    with torch.no_grad():
        constant = loss_on(model, batch(0))
    assert codes(opt, lambda: constant) == ["loss-without-grad"]
    detached_return = closure_on(model, batch(0))
    assert letsam.check(opt, lambda: detached_return().detach()) == []

    embedding = nn.Embedding(5, 2, sparse=True)
    opt = SAM(torch.optim.SGD(embedding.parameters(), lr=0.1))

    def sparse() -> Tensor:
        loss = embedding(torch.tensor([1])).square().sum()
        loss.backward()
        return loss

    assert codes(opt, sparse) == ["sparse-gradients"]


def test_the_closure_takes_the_step() -> None:
    model = network()
    opt = SAM(sgd(model))
    for stepping in (opt.step, opt.base_optimizer.step):
        before = state_of(model, opt)
        clean = closure_on(model, batch(0))

        def closure(stepping: Any = stepping, clean: Any = clean) -> Tensor:
            loss = clean()
            stepping(clean) if stepping == opt.step else stepping()
            return loss

        found = only(opt, closure)
        assert (found.code, found.severity) == ("closure-steps", "error")
        assert same_bits(state_of(model, opt), before)
