"""`max_grad_norm` clips the descent, never the ascent, and the hypergradient is that of the clipped step."""

from __future__ import annotations

import copy
import math
import pickle
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from learned_radius import learned_radius
from letsam import ASAM, SAM, LearnedRadius, SharpnessAware
from oracle import maths
from oracle.problems import BASES, batch, closure_on, descend, network, same_bits, weights_of

RHO = 0.1
NOW, NEXT, HELD_OUT = batch(10), batch(11), batch(20)


# --- the step -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("max_norm", [1e-3, 0.3, 1e3])
@pytest.mark.parametrize("variant", [SAM, ASAM])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_the_descent_is_clipped_as_torch_does(
    dtype: torch.dtype, variant: type[SharpnessAware], max_norm: float
) -> None:
    """Against torch's own clipping between the second backward() and descent_step()."""
    ours, reference = network(dtype=dtype), network(dtype=dtype)
    opt = variant(BASES["momentum"](ours.parameters()), rho=0.3, max_grad_norm=max_norm)
    plain = variant(BASES["momentum"](reference.parameters()), rho=0.3)
    for i in range(5):
        data = batch(i, dtype=dtype)
        opt.step(closure_on(ours, data))
        closure_on(reference, data)()
        plain.ascent_step()
        closure_on(reference, data)()
        norm = torch.nn.utils.clip_grad_norm_(reference.parameters(), max_norm)
        assert (norm > max_norm) == (max_norm < 1e3)
        plain.descent_step()

    if dtype == torch.bfloat16:  # torch computes the norm in bfloat16, we in float32
        for left, right in zip(weights_of(ours), weights_of(reference), strict=True):
            torch.testing.assert_close(left, right, rtol=0.02, atol=1e-3)
    else:
        assert same_bits(weights_of(ours), weights_of(reference))


def test_the_ascent_is_not_clipped() -> None:
    model = network()
    opt = SAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=0.3, max_grad_norm=1e-6)
    before = weights_of(model)
    closure_on(model, NOW)()
    opt.ascent_step()
    moved = torch.cat([(a - b).reshape(-1) for a, b in zip(weights_of(model), before, strict=True)])
    assert moved.norm().item() == pytest.approx(0.3, rel=1e-12)
    closure_on(model, NOW)()
    opt.descent_step()
    moved = torch.cat([(a - b).reshape(-1) for a, b in zip(weights_of(model), before, strict=True)])
    assert moved.norm().item() < 1e-7


def test_it_may_be_changed_and_survives_copies() -> None:
    model = network()
    opt = SAM(BASES["momentum"](model.parameters()), rho=0.1)
    assert opt.max_grad_norm is None
    opt.max_grad_norm = 2
    assert opt.max_grad_norm == 2.0
    assert copy.deepcopy(opt).max_grad_norm == pickle.loads(pickle.dumps(opt)).max_grad_norm == 2.0

    free, twin = weights_of(model), copy.deepcopy((model, opt))
    opt.max_grad_norm = None
    opt.step(closure_on(model, NOW))
    free = weights_of(model)
    model, opt = twin
    opt.max_grad_norm = 1e-3
    opt.step(closure_on(model, NOW))
    assert not same_bits(weights_of(model), free)


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (0, ValueError, "`max_grad_norm` must be > 0, got 0.0"),
        (-1.0, ValueError, "`max_grad_norm` must be > 0, got -1.0"),
        (math.inf, ValueError, "`max_grad_norm` must be > 0, got inf"),
        ("1", TypeError, "`max_grad_norm` must be a number, got '1'"),
        (True, TypeError, "`max_grad_norm` must be a number, got True"),
    ],
)
def test_bad_values(value: Any, error: type[Exception], message: str) -> None:
    base = BASES["sgd"](network().parameters())
    for make in (lambda: SAM(base, max_grad_norm=value), lambda: ASAM(base, max_grad_norm=value)):
        with pytest.raises(error, match=message):
            make()
    opt = SAM(base, max_grad_norm=1.0)
    with pytest.raises(error, match=message):
        opt.max_grad_norm = value
    assert opt.max_grad_norm == 1.0


def test_a_gradient_that_vanishes_or_is_not_finite() -> None:
    w = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
    radius = learned_radius(0.1, interval=1, burn_in=0)
    opt = SAM(torch.optim.SGD([w], lr=0.1, momentum=0.9), rho=radius, max_grad_norm=1e-9)
    size = [0.0]

    def closure() -> Tensor:
        opt.zero_grad()
        loss = (w * size[0]).sum()
        loss.backward()
        return loss

    for size[0] in (0.0, math.inf, 0.0):
        opt.step(closure, closure)
        assert torch.equal(w.detach(), torch.tensor([1.0, 2.0]))
        assert opt.rho.isfinite()
    assert opt.metrics["skipped_steps"] == 1
    assert all(value.isfinite() for value in opt.metrics.values())


# --- the hypergradient ------------------------------------------------------------------------------------------------


@dataclass
class ClippedStep(maths.OneStep):
    """One step whose gradient is clipped, and the upper objective after it."""

    max_norm: float = math.inf

    def clip(self, g: Tensor) -> Tensor:
        return g * min(1.0, self.max_norm / (g.norm().item() + 1e-6))

    def after(self, rho: float) -> Tensor:
        g = maths.gradient(self.start.model, self.start.theta + rho * self.direction, self.batch)
        return maths.base_step(self.start, self.clip(g))


def start_of(base: str) -> maths.State:
    model = network()
    optimizer = BASES[base](model.parameters())
    descend(model, optimizer, 4)
    return maths.State(model, optimizer)


def length_at(start: maths.State, direction: Tensor) -> float:
    return maths.gradient(start.model, start.theta + RHO * direction, NOW).norm().item()


def measured(start: maths.State, variant: str, radius: LearnedRadius, max_norm: float | None) -> float:
    state = start.copy()
    opt = {"SAM": SAM, "ASAM": ASAM}[variant](state.base, rho=radius, max_grad_norm=max_norm)
    held_out = closure_on(state.model, HELD_OUT)
    opt.step(closure_on(state.model, NOW), held_out)
    if radius.objective.training_batch == "next":
        opt.step(closure_on(state.model, NEXT), held_out)
    return opt.metrics["hypergradient"].item()


@pytest.mark.parametrize("share", [0.5, 2.0])
@pytest.mark.parametrize("training_batch", ["next", "same"])
@pytest.mark.parametrize("objective", ["squared_gap", "validation_loss"])
@pytest.mark.parametrize("variant", maths.DIRECTIONS)
@pytest.mark.parametrize("base", ["momentum", "nesterov", "adamw", "rmsprop-centered"])
def test_the_hypergradient_is_that_of_the_clipped_step(
    base: str, variant: str, objective: str, training_batch: str, share: float
) -> None:
    """Against central differences of the real step; `share` of the gradient's length is left."""
    start = start_of(base)
    direction = maths.DIRECTIONS[variant](start.theta, maths.gradient(start.model, start.theta, NOW))
    max_norm = share * length_at(start, direction)
    training = NOW if training_batch == "same" else NEXT
    step = ClippedStep(start, direction, NOW, objective, training, HELD_OUT, max_norm)
    options: dict[str, Any] = {"objective": objective, "training_batch": training_batch, "length_invariant": False}

    value = measured(start, variant, learned_radius(RHO, hypergradient="finite_difference", **options), max_norm)

    assert value == pytest.approx(step.central_difference(RHO), rel=3e-6)
    free = measured(start, variant, learned_radius(RHO, hypergradient="finite_difference", **options), None)
    assert (abs(value / free - 1) > 1e-3) == (share < 1), "clipping must matter where it clips, and there alone"


def test_secant_on_a_quadratic() -> None:
    """L = theta' A theta / 2: g_rho = A (theta + rho e), Z = -lr c (A e - g^ g^' A e), all in closed form."""
    a = torch.tensor([[2.0, 0.3], [0.3, 0.5]], dtype=torch.float64)
    theta, lr, rho, max_norm = torch.tensor([0.7, -1.1], dtype=torch.float64), 0.1, 0.8, 0.9
    w = torch.nn.Parameter(theta.clone())
    radius = learned_radius(rho, length_invariant=False, interval=1)
    opt = SAM(torch.optim.SGD([w], lr=lr), rho=radius, max_grad_norm=max_norm)

    def quadratic() -> Tensor:
        opt.zero_grad()
        value = w @ a @ w / 2
        value.backward()
        return value

    def held_out() -> Tensor:
        opt.zero_grad()
        value = 1.5 * w.square().sum()
        value.backward()
        return value

    opt.step(quadratic, held_out)
    e = a @ theta / (a @ theta).norm()
    g = a @ (theta + rho * e)
    c = max_norm / (g.norm() + 1e-6)
    assert c < 0.9
    after = theta - lr * c * g
    torch.testing.assert_close(w.detach(), after, rtol=1e-14, atol=0)
    opt.step(quadratic, held_out)

    z = -lr * c * (a @ e - g * (g @ a @ e) / (g.norm() * (g.norm() + 1e-6)))
    assert opt.metrics["hypergradient"].item() == pytest.approx((3 * after @ z).item(), rel=1e-12)
