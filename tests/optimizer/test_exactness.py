"""Weights and gradients are exact: against the reference, bit for bit back, and as they were where a step fails."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import letsam
from learned_radius import learned_radius
from letsam import ASAM, SAM, LearnedRadius, SharpnessAware
from oracle import maths
from oracle.problems import BASES, WITHOUT_RULE, batch, closure_on, flat, network, same_bits, weights_of

ESTIMATORS = ("secant", "finite_difference", "diagonal")


def momentum(model: torch.nn.Module, lr: float = 0.1) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)


# --- exactness ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("variant", [SAM, ASAM])
@pytest.mark.parametrize("base", BASES | WITHOUT_RULE)
def test_radius_zero_is_the_base_optimizer(base: str, variant: type[SharpnessAware], dtype: torch.dtype) -> None:
    make = (BASES | WITHOUT_RULE)[base]
    plain, wrapped = network(dtype=dtype), network(dtype=dtype)
    optimizer = make(plain.parameters())
    opt = variant(make(wrapped.parameters()), rho=0)
    for i in range(20):
        closure_on(plain, batch(i, dtype=dtype))()
        optimizer.step()
        opt.step(closure_on(wrapped, batch(i, dtype=dtype)))

    assert same_bits(weights_of(wrapped), weights_of(plain))
    assert same_bits(opt.base_optimizer.state_dict(), optimizer.state_dict())
    assert not same_bits(weights_of(wrapped), weights_of(network(dtype=dtype)))


def test_sam_on_a_quadratic() -> None:
    """L = theta' A theta / 2 with SGD: theta <- theta - lr A (theta + rho A theta / |A theta|)."""
    a = torch.diag(torch.tensor([3.0, 1.0, 0.2], dtype=torch.float64))
    theta = torch.tensor([1.0, -2.0, 4.0], dtype=torch.float64)
    w = torch.nn.Parameter(theta.clone())
    opt = SAM(torch.optim.SGD([w], lr=0.1), rho=0.5)

    def closure() -> Tensor:
        opt.zero_grad()
        loss = w @ a @ w / 2
        loss.backward()
        return loss

    for _ in range(30):
        loss = opt.step(closure)
        assert loss.item() == pytest.approx((theta @ a @ theta / 2).item(), rel=1e-13)
        g = a @ theta
        theta = theta - 0.1 * a @ (theta + 0.5 * g / g.norm())
        torch.testing.assert_close(w.detach(), theta, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("variant", ["SAM", "ASAM"])
@pytest.mark.parametrize("base", ["sgd", "nesterov", "adamw", "rmsprop-centered", "adagrad"])
def test_steps_against_the_reference(base: str, variant: str) -> None:
    """The real base optimizer fed with grad L(theta + rho eps_hat), step after step, without letsam."""
    make = (BASES | WITHOUT_RULE)[base]
    reference, model = network(), network()
    state = maths.State(reference, make(reference.parameters()))
    opt = getattr(letsam, variant)(make(model.parameters()), rho=0.3)
    for i in range(6):
        g = maths.gradient(reference, state.theta, batch(i))
        eps = 0.3 * maths.DIRECTIONS[variant](state.theta, g)
        perturbed = maths.gradient(reference, state.theta + eps, batch(i))
        torch.nn.utils.vector_to_parameters(state.theta, reference.parameters())
        position = 0
        for p in reference.parameters():
            p.grad = perturbed[position : position + p.numel()].view_as(p).clone()
            position += p.numel()
        state.base.step()
        opt.step(closure_on(model, batch(i)))

    torch.testing.assert_close(flat(model.parameters()), state.theta, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("estimator", [None, *ESTIMATORS])
@pytest.mark.parametrize("variant", [SAM, ASAM])
def test_weights_come_back_bit_for_bit(
    variant: type[SharpnessAware], estimator: str | None, dtype: torch.dtype
) -> None:
    """200 cycles with a base optimizer that does not move."""
    model = network(dtype=dtype)
    before = weights_of(model)
    rho = 0.1 if estimator is None else learned_radius(0.1, hypergradient=estimator, interval=1)
    opt = variant(torch.optim.SGD(model.parameters(), lr=0.0), rho=rho)
    seen = []
    for i in range(200):
        closure = closure_on(model, batch(i % 4, dtype=dtype))

        def watched(closure: Callable[[], Tensor] = closure) -> Tensor:
            seen.append(weights_of(model))
            return closure()

        opt.step(watched, closure)

    assert same_bits(weights_of(model), before)
    assert any(not same_bits(weights, before) for weights in seen), "it must have moved in between"
    assert opt.metrics["skipped_steps"] == 0


def _passes(opt: SharpnessAware, model: torch.nn.Module, fail_at: int) -> tuple[Callable[[], Tensor], ...]:
    """A training and a validation closure of which the `fail_at`-th call, counted over both, raises."""
    calls = [0]

    def counted(data: tuple[Tensor, Tensor]) -> Callable[[], Tensor]:
        def closure() -> Tensor:
            calls[0] += 1
            loss = closure_on(model, data)()
            if calls[0] == fail_at:
                raise KeyboardInterrupt
            return loss

        return closure

    return counted(batch(0)), counted(batch(9))


@pytest.mark.parametrize("fail_at", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("training_batch", ["next", "same"])
@pytest.mark.parametrize("estimator", ["secant", "finite_difference"])
def test_a_closure_that_raises_changes_nothing(estimator: str, training_batch: str, fail_at: int) -> None:
    """In validation, either training pass, the probe or the passes after the base step; a retry goes on normally."""
    model = network()
    opt = SAM(
        momentum(model),
        rho=learned_radius(0.1, hypergradient=estimator, training_batch=training_batch, interval=1),
    )
    for i in range(3):
        opt.step(closure_on(model, batch(i)), closure_on(model, batch(9)))
    passes = 3 + (estimator == "finite_difference") + (training_batch == "same")
    weights, rho = weights_of(model), opt.rho.clone()
    state = copy.deepcopy(opt.state_dict())
    closures = _passes(opt, model, fail_at)

    if fail_at > passes:
        opt.step(*closures)
        assert not same_bits(weights_of(model), weights)
        return
    with pytest.raises(KeyboardInterrupt):
        opt.step(*closures)

    assert same_bits(weights_of(model), weights)
    assert same_bits(opt.rho, rho)
    after = opt.state_dict()
    for part in (state, after):
        part["sharpness_aware"]["radius"].pop("Z", None)
        part["sharpness_aware"]["radius"].pop("usable", None)
    assert same_bits(after, state)
    opt.step(*closures)
    assert not same_bits(weights_of(model), weights)
    assert opt.metrics["skipped_steps"] == 0


@pytest.mark.parametrize("fail_at", [1, 2])
def test_a_step_tried_again_is_the_step(fail_at: int) -> None:
    """What raised before the ascent has not cost the radius its Z."""

    def run(interrupted: bool) -> tuple[list[Tensor], Tensor]:
        model = network()
        opt = SAM(momentum(model), rho=LearnedRadius(0.1, interval=1))
        for i in range(5):
            if interrupted and i == 3:
                with pytest.raises(KeyboardInterrupt):
                    opt.step(*_passes(opt, model, fail_at))
            opt.step(closure_on(model, batch(i)), closure_on(model, batch(9)))
        return weights_of(model), opt.rho

    assert same_bits(run(True), run(False))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("estimator", [None, *ESTIMATORS])
@pytest.mark.parametrize("missing_in", [0, 1])
def test_a_gradient_in_one_pass_only(missing_in: int, estimator: str | None, dtype: torch.dtype) -> None:
    """A head that only one of the two passes uses comes back too, and counts for nothing in the other."""
    body = torch.nn.Parameter(torch.tensor([1.0, -2.0, 0.3], dtype=dtype))
    head = torch.nn.Parameter(torch.tensor([0.7, 0.1, -1.3], dtype=dtype))
    rho = 0.1 if estimator is None else learned_radius(0.1, hypergradient=estimator, interval=1)
    opt = SAM(torch.optim.SGD([body, head], lr=0.0), rho=rho)
    before = [body.detach().clone(), head.detach().clone()]
    calls = [0]

    def closure() -> Tensor:
        opt.zero_grad()
        loss = body.pow(4).sum()
        if calls[0] != missing_in:
            loss = loss + head.pow(4).sum()
        calls[0] += 1
        loss.backward()
        return loss

    def held_out() -> Tensor:
        opt.zero_grad()
        loss = (body.square().sum() + head.square().sum()).sqrt()
        loss.backward()
        return loss

    for _ in range(5):
        calls[0] = 0
        opt.step(closure, held_out)
        assert same_bits([body.detach(), head.detach()], before)
    assert opt.rho.isfinite()
    assert opt.metrics["skipped_steps"] == 0


@pytest.mark.parametrize("estimator", ["secant", "finite_difference", "diagonal"])
def test_a_weight_that_is_not_moved_has_no_share_in_z(estimator: str) -> None:
    """A head with a gradient in the first pass only: the base optimizer leaves it alone, so d head' / d rho = 0."""
    lr, rho = 0.01, 0.1
    body = torch.nn.Parameter(torch.tensor([1.0, -2.0, 0.3], dtype=torch.float64))
    head = torch.nn.Parameter(torch.tensor([0.7, 0.1, -1.3], dtype=torch.float64))
    radius = learned_radius(rho, hypergradient=estimator, length_invariant=False, interval=1)
    opt = SAM(torch.optim.SGD([body, head], lr=lr), rho=radius)
    calls = [0]

    def closure() -> Tensor:
        opt.zero_grad()
        calls[0] += 1
        loss = body.pow(4).sum() + (head.pow(4).sum() if calls[0] == 1 else 0)
        loss.backward()
        return loss

    def held_out() -> Tensor:
        opt.zero_grad()
        loss = body.square().sum() + head.square().sum()
        loss.backward()
        return loss

    start, still = body.detach().clone(), head.detach().clone()
    g = 4 * start**3
    e = g / torch.cat([g, 4 * still**3]).norm()
    g_rho = 4 * (start + rho * e) ** 3
    curvature = {
        "secant": (g_rho - g) / rho,
        "finite_difference": 12 * (start + rho * e) ** 2 * e,
        "diagonal": g_rho**2 * e,
    }[estimator]
    opt.step(closure, held_out)
    assert torch.equal(head.detach(), still)
    after = body.detach().clone()
    opt.step(closure, held_out)

    expected = (2 * after @ (-lr * curvature)).item()
    assert opt.metrics["hypergradient"].item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("rho", [0.05, 10.0, 1e3])
@pytest.mark.parametrize("size", [0.0, 1e-25, 1e-40])
@pytest.mark.parametrize("variant", [SAM, ASAM])
def test_vanishing_gradients_do_not_explode(variant: type[SharpnessAware], size: float, rho: float) -> None:
    """||g|| = 0, also because the squares of tiny entries underflow: the step stays finite and small."""
    w = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
    opt = variant(torch.optim.SGD([w], lr=0.1), rho=rho)
    seen = []

    def closure() -> Tensor:
        opt.zero_grad()
        seen.append(w.detach().clone())
        loss = (w * size).sum()
        loss.backward()
        return loss

    opt.step(closure)

    assert opt.metrics["skipped_steps"] == 0
    assert (seen[1] - seen[0]).norm() <= rho * 1.01
    assert torch.equal(w.detach(), seen[0])


def test_z_is_not_taken_for_that_of_another_weight() -> None:
    """Of equal shape, trained in its place: there is no Z that fits, and the radius stays."""
    torch.manual_seed(0)
    halves = [torch.nn.Parameter(torch.randn(4, dtype=torch.float64)) for _ in "ab"]
    opt = SAM(torch.optim.SGD(halves, lr=0.1), rho=learned_radius(0.5, prior=None, burn_in=0, interval=1))

    def on(x: Tensor) -> Callable[[], Tensor]:
        def closure() -> Tensor:
            opt.zero_grad()
            loss = ((x @ halves[0]) - (x @ halves[1]) ** 2).square().mean()
            loss.backward()
            return loss

        return closure

    x, v = torch.randn(2, 8, 4, dtype=torch.float64).unbind()
    for step in range(4):
        for place, half in enumerate(halves):
            half.requires_grad_(place == step % 2)
        opt.step(on(x), on(v))
        assert opt.metrics["hypergradient"] == 0
    opt.step(on(x), on(v))
    assert opt.metrics["hypergradient"] != 0
    assert opt.rho != 0.5
