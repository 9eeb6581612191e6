"""Whose derivative Z has: an optimizer's own, that of a registered rule, or that of theta - lr g for any other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import letsam
from learned_radius import learned_radius
from letsam.tangent import registered_rules
from oracle import maths
from oracle.problems import batch, closure_on, descend, network

RHO = 0.1
NOW, NEXT = batch(10), batch(11)


@pytest.fixture(autouse=True)
def registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test registers holds for that test."""
    for name in ("_RULES", "_SAME_AS"):
        monkeypatch.setattr(registered_rules, name, dict(getattr(registered_rules, name)))


class SignOfMomentum(torch.optim.SGD):
    """A subclass with an update and a state of its own: theta - lr tanh(g)."""

    @torch.no_grad()
    def step(self) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        for group in self.param_groups:
            for p in group["params"]:
                p -= group["lr"] * torch.tanh(p.grad)


class WithoutMoments(torch.optim.Adam):
    """A subclass of Adam with another state: theta - lr g / (1 + |g|)."""

    @torch.no_grad()
    def step(self) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        for group in self.param_groups:
            for p in group["params"]:
                self.state[p]["step"] = self.state[p].get("step", torch.zeros(())) + 1  # which Adam.__setstate__ wants
                p -= group["lr"] * p.grad / (1 + p.grad.abs())


class OwnAdamW(torch.optim.AdamW):
    """A subclass with the update of its parent."""


class Compressed(torch.optim.RMSprop):
    @torch.no_grad()
    def step(self) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        for group in self.param_groups:
            for p in group["params"]:
                self.state[p] |= {"step": torch.ones(()), "square_avg": torch.ones(1)}
                p -= group["lr"] * p.grad


def tanh_rule(change: Tensor, update: Any) -> Tensor:
    return -update.group["lr"] * change / torch.cosh(update.gradient).square()


def start_of(make: Callable[[Any], torch.optim.Optimizer], model: nn.Module | None = None) -> maths.State:
    model = network() if model is None else model
    base = make(model.parameters())
    descend(model, base, 3)
    return maths.State(model, base)


def one_step(start: maths.State) -> maths.OneStep:
    """The step on NOW; of a few validation batches the one with the largest hypergradient."""
    direction = maths.sam_direction(start.theta, maths.gradient(start.model, start.theta, NOW))
    steps = [maths.OneStep(start, direction, NOW, "validation_loss", NEXT, batch(20 + i)) for i in range(4)]
    return max(steps, key=lambda step: abs(step.central_difference(RHO)))


def measured(step: maths.OneStep) -> float:
    """What the optimizer reports for the step."""
    state = step.start.copy()
    radius = learned_radius(RHO, hypergradient="finite_difference", length_invariant=False)
    opt = letsam.SAM(state.base, rho=radius)
    for data in (NOW, NEXT):
        opt.step(closure_on(state.model, data), closure_on(state.model, step.validation))
    return opt.metrics["hypergradient"].item()


def as_plain_descent(step: maths.OneStep) -> float:
    """The gradient at the real theta' along Z = -lr H_rho eps_hat."""
    start = step.start
    climbed = start.theta + RHO * step.direction
    after = maths.base_step(start, maths.gradient(start.model, climbed, NOW))
    z = -start.base.param_groups[0]["lr"] * maths.hessian_vector(start.model, climbed, step.direction, NOW)
    return (maths.gradient(start.model, after, step.validation) @ z).item()


@pytest.mark.parametrize("kind", [SignOfMomentum, WithoutMoments, OwnAdamW, Compressed])
def test_a_subclass_is_not_its_parent(kind: type[torch.optim.Optimizer]) -> None:
    step = one_step(start_of(lambda p: kind(p, lr=0.05)))  # pyright: ignore[reportCallIssue]
    assert measured(step) == pytest.approx(as_plain_descent(step), rel=1e-6)


def test_a_subclass_with_the_update_of_its_parent() -> None:
    step = one_step(start_of(lambda p: OwnAdamW(p, lr=0.05)))
    letsam.register_update_rule(OwnAdamW, torch.optim.AdamW)
    assert measured(step) == pytest.approx(step.central_difference(RHO), rel=1e-6)
    assert measured(step) != pytest.approx(as_plain_descent(step), rel=1e-2)


def test_a_rule_of_ones_own() -> None:
    letsam.register_update_rule(SignOfMomentum, tanh_rule)
    step = one_step(start_of(lambda p: SignOfMomentum(p, lr=0.5)))
    assert measured(step) == pytest.approx(step.central_difference(RHO), rel=1e-6)
    assert measured(step) != pytest.approx(as_plain_descent(step), rel=1e-3)


def test_what_a_rule_is_given() -> None:
    """The weight before the step, its gradient, the state after it, the group, and whether the state is new."""
    seen: list[Any] = []

    def rule(change: Tensor, update: Any) -> Tensor:
        seen.append((update.weight.clone(), update.gradient.clone(), int(update.state["step"]), update.fresh))
        assert update.group is opt.param_groups[0]
        return torch.zeros_like(change)

    letsam.register_update_rule(WithoutMoments, rule)
    model = network()
    opt = letsam.SAM(WithoutMoments(model.parameters()), rho=letsam.LearnedRadius(0.1, interval=1))
    before = [p.detach().clone() for p in model.parameters()]
    for _ in range(2):
        opt.step(closure_on(model, NOW), closure_on(model, NEXT))
    assert [count for *_, count, _ in seen] == [1] * 4 + [2] * 4
    assert [fresh for *_, fresh in seen] == [True] * 4 + [False] * 4
    torch.testing.assert_close([weight for weight, *_ in seen[:4]], before, rtol=0, atol=0)
    torch.testing.assert_close([g for _, g, *_ in seen[4:]], [p.grad for p in model.parameters()], rtol=0, atol=0)
    assert opt.metrics["hypergradient"] == 0


def test_what_cannot_be_registered() -> None:
    with pytest.raises(TypeError, match=r"`kind` must be a subclass of torch.optim.Optimizer, got 3"):
        letsam.register_update_rule(3, tanh_rule)  # pyright: ignore[reportArgumentType]
    with pytest.raises(TypeError, match=r"`rule` must be a function or an optimizer class, got 3"):
        letsam.register_update_rule(OwnAdamW, 3)  # pyright: ignore[reportArgumentType]
    with pytest.raises(TypeError, match=r"`rule` must be a function or an optimizer class, got <class 'int'>"):
        letsam.register_update_rule(OwnAdamW, int)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="`rule` must be a class with a rule of its own, got Adagrad, which has none"):
        letsam.register_update_rule(OwnAdamW, torch.optim.Adagrad)


def test_a_rule_with_a_wrong_result() -> None:
    letsam.register_update_rule(SignOfMomentum, lambda change, update: change.sum())
    model = network()
    opt = letsam.SAM(SignOfMomentum(model.parameters(), lr=0.1), rho=letsam.LearnedRadius(0.1))
    with pytest.raises(ValueError, match=r"for SignOfMomentum must return a tensor of shape \(6, 4\), got tensor"):
        opt.step(closure_on(model, NOW), closure_on(model, NEXT))


# --- Muon ---------------------------------------------------------------------------------------------------------


def newton_schulz(grad: Tensor, coefficients: tuple[float, float, float], steps: int, eps: float) -> Tensor:
    """Algorithm 2 of https://kellerjordan.github.io/posts/muon, in the precision of the gradient."""
    a, b, c = coefficients
    x = grad / grad.norm().clamp(min=eps)
    x = x.mT if grad.shape[0] > grad.shape[1] else x
    for _ in range(steps):
        square = x @ x.mT
        x = a * x + b * square @ x + c * square @ square @ x
    return x.mT if grad.shape[0] > grad.shape[1] else x


def matrices(*sizes: int) -> nn.Sequential:
    """A network without biases, which Muon does not take."""
    torch.manual_seed(0)
    layers = [nn.Linear(4, sizes[0], bias=False), nn.Tanh(), nn.Linear(sizes[0], 3, bias=False)]
    return nn.Sequential(*layers).double()


if hasattr(torch.optim, "Muon"):
    MUONS: dict[str, dict[str, Any]] = {
        "default": {},
        "plain momentum": {"nesterov": False, "weight_decay": 0.0},
        "rms": {"adjust_lr_fn": "match_rms_adamw", "momentum": 0.8},
        "original, 3 steps": {"adjust_lr_fn": "original", "ns_steps": 3},
        "without momentum": {"momentum": 0.0},
    }

    @pytest.fixture
    def exact_muon(monkeypatch: pytest.MonkeyPatch) -> None:
        """torch's Muon, but without rounding to bfloat16, which has no derivative."""
        monkeypatch.setattr("torch.optim._muon._zeropower_via_newtonschulz", newton_schulz)

    @pytest.mark.usefixtures("exact_muon")
    @pytest.mark.parametrize("width", [2, 4, 7])
    @pytest.mark.parametrize("options", MUONS)
    def test_muon(options: str, width: int) -> None:
        step = one_step(start_of(lambda p: torch.optim.Muon(p, lr=0.02, **MUONS[options]), matrices(width)))
        assert measured(step) == pytest.approx(step.central_difference(RHO), rel=1e-6)
        assert measured(step) != pytest.approx(as_plain_descent(step), rel=1e-2)

    @pytest.mark.usefixtures("exact_muon")
    def test_the_first_step_of_muon() -> None:
        model = matrices(5)
        step = one_step(maths.State(model, torch.optim.Muon(model.parameters(), lr=0.02)))
        assert measured(step) == pytest.approx(step.central_difference(RHO), rel=1e-6)

    def test_muon_as_torch_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
        """The iteration in bfloat16 ends near the one that is differentiated."""
        start = start_of(lambda p: torch.optim.Muon(p, lr=0.02), matrices(4))
        with monkeypatch.context() as patched:
            patched.setattr("torch.optim._muon._zeropower_via_newtonschulz", newton_schulz)
            step = one_step(start)
            exact = step.central_difference(RHO)
        assert measured(step) == pytest.approx(exact, rel=0.05)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    def test_muon_without_a_gradient(dtype: torch.dtype) -> None:
        """A gradient of 0, whose direction is not defined, leaves Z finite."""
        model = matrices(4).to(dtype)
        opt = letsam.SAM(torch.optim.Muon(model.parameters()), rho=letsam.LearnedRadius(0.1, interval=1))

        def closure() -> Tensor:
            opt.zero_grad()
            loss = model(batch(0, dtype=dtype)[0]).sum() * 0
            loss.backward()
            return loss

        for _ in range(3):
            opt.step(closure, closure)
        assert opt.rho.isfinite()
        assert opt.metrics["skipped_steps"] == 0
