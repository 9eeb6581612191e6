"""A closure that returns (loss, outputs): the outputs of the first training pass are at `opt.outputs`."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import letsam
from learned_radius import learned_radius
from letsam import SAM, LearnedRadius
from oracle.problems import BASES, Batch, batch, closure_on, network, same_bits, snapshot

VARIANTS = letsam.variants.VARIANTS


def pair_on(model: nn.Module, data: Batch) -> tuple[Tensor, Tensor]:
    logits = model(data[0])
    return nn.functional.cross_entropy(logits, data[1]), logits


def with_outputs(model: nn.Module, data: Batch, wrap: Callable[[Tensor], Any] = lambda logits: logits) -> Any:
    def closure() -> Any:
        model.zero_grad()
        loss, logits = pair_on(model, data)
        loss.backward()
        return loss, wrap(logits)

    return closure


def momentum(model: nn.Module) -> torch.optim.Optimizer:
    return BASES["momentum"](model.parameters())


@pytest.mark.parametrize("radius", ["fixed", "learned", "paper"])
@pytest.mark.parametrize("name", [name for name in VARIANTS if name != "samon"])
def test_the_step_is_the_same_and_the_outputs_are_those_of_the_first_pass(name: str, radius: str) -> None:
    radii = {"fixed": lambda: 0.1, "learned": lambda: learned_radius(0.1), "paper": lambda: LearnedRadius.paper(0.1)}
    runs = []
    for outputs in (False, True):
        model = network()
        opt = VARIANTS[name](momentum(model), radii[radius]())
        make = with_outputs if outputs else closure_on
        losses = []
        for i in range(3):
            before = copy.deepcopy(model)
            losses.append(opt.step(make(model, batch(i)), make(model, batch(50 + i))))
            if not outputs:
                assert opt.outputs is None
                continue
            assert not opt.outputs.requires_grad
            loss = nn.functional.cross_entropy(opt.outputs, batch(i)[1])
            assert torch.equal(loss, losses[-1])
            if name != "msam" or radius != "fixed":  # whose only pass is at the perturbed weights
                assert name == "msam" or torch.equal(opt.outputs, before(batch(i)[0]))
        runs.append((losses, snapshot(model, opt)))
    assert same_bits(*runs)


@pytest.mark.parametrize("rho", [0.1, learned_radius(0.1, interval=1, burn_in=0)])
@pytest.mark.parametrize("m_sharpness", [False, True])
def test_micro_batches(m_sharpness: bool, rho: Any) -> None:
    model = network()
    opt = SAM(momentum(model), rho, m_sharpness=m_sharpness)
    for i in range(3):
        before = copy.deepcopy(model)
        micro = [batch(10 * i + j) for j in range(3)]
        closure = letsam.accumulated(lambda data: pair_on(model, data), micro, opt)
        held_out = letsam.accumulated(lambda data: pair_on(model, data), [batch(90 + i)], opt)
        loss = opt.step(closure, held_out)
        assert len(opt.outputs) == 3
        for logits, data in zip(opt.outputs, micro, strict=True):
            assert torch.equal(logits, before(data[0]))
            assert not logits.requires_grad
        total = torch.stack([nn.functional.cross_entropy(o, d[1]) for o, d in zip(opt.outputs, micro, strict=True)])
        assert loss.item() == pytest.approx(total.mean().item(), rel=1e-12)
    opt.step(letsam.accumulated(lambda data: pair_on(model, data)[0], micro, opt), held_out)
    assert opt.outputs is None


def test_selected_samples() -> None:
    model = network()
    opt = SAM(momentum(model), 0.1)
    x, y = batch(0)

    def losses_on(chosen: Tensor | None) -> tuple[Tensor, Tensor]:
        logits = model(x if chosen is None else x[chosen])
        return nn.functional.cross_entropy(logits, y if chosen is None else y[chosen], reduction="none"), logits

    first = model(x)
    opt.step(letsam.selected(losses_on, opt))
    assert torch.equal(opt.outputs, first)


def test_no_graph_is_kept_and_the_next_step_frees_the_outputs() -> None:
    model = network()
    opt = SAM(momentum(model), 0.1)
    inside: list[Any] = []

    def closure() -> Any:
        opt.zero_grad()
        hidden = torch.tanh(model[0](batch(0)[0]))
        inside.append(weakref.ref(hidden))
        logits = model[2](hidden)
        logits.square().mean().backward()
        return logits.square().mean(), {"logits": [logits, (logits, "text")], "n": 3}

    opt.step(closure)
    gc.collect()
    assert [ref() for ref in inside] == [None, None]
    logits, (again, text) = opt.outputs["logits"]
    assert torch.equal(logits, again)
    assert not logits.requires_grad
    assert not again.requires_grad
    assert (text, opt.outputs["n"]) == ("text", 3)
    seen = []

    def asking() -> Any:
        seen.append(opt.outputs)
        return closure()

    opt.step(asking)
    assert seen == [None, None]
    assert opt.outputs is not None
    assert copy.deepcopy(opt).outputs is None
    assert pickle.loads(pickle.dumps(opt)).outputs is None
    assert "outputs" not in opt.state_dict()["sharpness_aware"]
    with pytest.raises(ZeroDivisionError):
        opt.step(lambda: 1 / 0)
    assert opt.outputs is None


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (
            (torch.tensor(1.0), 2, 3),
            r"^`closure` must return the loss, or a pair \(loss, outputs\), got a tuple of 3",
        ),
        ((), r"^`closure` must return the loss, or a pair \(loss, outputs\), got a tuple of 0(\n|$)"),
        ((1.0, torch.ones(2)), r"^`closure` must return the loss as a tensor, got 1.0(\n|$)"),
    ],
)
def test_other_tuples_are_refused(returned: Any, message: str) -> None:
    model = network()
    opt = SAM(momentum(model), 0.1)
    before = snapshot(model, opt)

    def closure() -> Any:
        closure_on(model, batch(0))()
        return returned

    with pytest.raises(TypeError, match=message):
        opt.step(closure)
    assert same_bits(snapshot(model, opt), before)
    assert [finding.code for finding in letsam.check(opt, closure)] == ["no-tensor"]


def test_a_check_takes_pairs() -> None:
    model = network()
    opt = SAM(momentum(model), LearnedRadius(0.1))
    assert letsam.check(opt, with_outputs(model, batch(0)), with_outputs(model, batch(1))) == []


def test_under_a_gradient_scaler() -> None:
    model, scaler = network(dtype=torch.float32), torch.amp.GradScaler("cpu")
    opt = SAM(momentum(model), 0.1)
    data = batch(0, dtype=torch.float32)
    closure = letsam.accumulated(lambda d: pair_on(model, d), [data], opt, grad_scaler=scaler)
    expected = model(data[0])
    opt.step(closure, grad_scaler=scaler)
    assert torch.equal(opt.outputs[0], expected)
