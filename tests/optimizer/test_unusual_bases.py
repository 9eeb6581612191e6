"""Base optimizers with unusual learning rates, states and weights: they work, or are refused before anything moves."""

from __future__ import annotations

import copy
import importlib
import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import letsam
from learned_radius import learned_radius
from oracle.problems import batch, closure_on, generator, network, same_bits, weights_of

# --- learning rates -----------------------------------------------------------------------------------------------


class FindsItsOwnRate(torch.optim.Optimizer):
    """theta - 0.1 g, whatever its learning rate; None as for Adafactor in transformers."""

    def __init__(self, params: Any, lr: Any = None) -> None:
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        for group in self.param_groups:
            for p in group["params"]:
                p -= 0.1 * p.grad


RADII: dict[str, Any] = {
    "fixed": lambda: 0.1,
    "proportional": lambda: letsam.ProportionalRadius(0.1, 0.05),
    "learned": lambda: learned_radius(0.1, interval=1),
    "per layer, looking back": lambda: learned_radius(0.1, training_batch="same", per="layer"),
}


def end_of(lr: Any, radius: str, base: type[torch.optim.Optimizer] = FindsItsOwnRate) -> tuple[list[Tensor], Tensor]:
    model = network()
    opt = letsam.SAM(base(model.parameters(), lr=lr), rho=RADII[radius]())  # pyright: ignore[reportCallIssue]
    for i in range(5):
        opt.step(closure_on(model, batch(i)), closure_on(model, batch(50 + i)))
    return weights_of(model), opt.rho


@pytest.mark.parametrize("radius", RADII)
def test_no_learning_rate_is_one(radius: str) -> None:
    assert same_bits(end_of(None, radius), end_of(1.0, radius))


@pytest.mark.parametrize("radius", RADII)
@pytest.mark.parametrize(
    "lr", [torch.tensor([0.1], dtype=torch.float64), np.float64(0.1), torch.tensor(0.1, dtype=torch.float64)]
)
def test_a_learning_rate_is_any_kind_of_number(lr: Any, radius: str) -> None:
    weights, rho = end_of(lr, radius)
    expected = end_of(0.1, radius)
    torch.testing.assert_close((weights, rho), expected, rtol=1e-12, atol=0)
    assert rho.shape == expected[1].shape


@pytest.mark.parametrize("lr", [1, np.float32(1), torch.tensor([[1.0]])])
def test_a_learning_rate_in_another_type(lr: Any) -> None:
    torch.testing.assert_close(end_of(lr, "learned"), end_of(1.0, "learned"), rtol=1e-12, atol=0)


@pytest.mark.parametrize("lr", ["fast", True, [0.1], {}, torch.ones(2), torch.tensor(1j)])
def test_what_is_no_learning_rate(lr: Any) -> None:
    model = network()
    with pytest.raises(ValueError, match="`lr` of a param group must be a number, a tensor with one element or None"):
        letsam.SAM(FindsItsOwnRate(model.parameters(), lr=lr), rho=0.1)
    opt = letsam.SAM(FindsItsOwnRate(model.parameters()), rho=0.1)
    with pytest.raises(ValueError, match="`lr` of a param group must be a number"):
        opt.add_param_group({"params": [nn.Parameter(torch.ones(1))], "lr": lr})
    assert len(opt.param_groups) == 1
    opt.param_groups[0]["lr"] = lr
    before = weights_of(model)
    with pytest.raises(ValueError, match="`lr` of a param group must be a number"):
        opt.step(closure_on(model, batch(0)))
    assert same_bits(weights_of(model), before)


def test_a_decoupled_term_needs_a_learning_rate() -> None:
    """WSAM applies it as theta - lr * term."""
    params = list(network().parameters())
    with pytest.raises(ValueError, match="`base_optimizer` must have a learning rate for WSAM"):
        letsam.WSAM(FindsItsOwnRate(params))
    letsam.WSAM(FindsItsOwnRate(params), decouple=False)


def test_a_step_that_must_have_a_closure_is_refused() -> None:
    class Searches(FindsItsOwnRate):
        def step(self, closure: Any) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
            closure()

    with pytest.raises(TypeError, match="`base_optimizer` must step without a closure of its own, got Searches"):
        letsam.SAM(Searches(network().parameters()), rho=0.1)


# --- weights ------------------------------------------------------------------------------------------------------


def test_complex_weights_are_refused() -> None:
    weight = nn.Parameter(torch.ones(2, dtype=torch.complex64))
    with pytest.raises(
        ValueError, match=r"real weights, got one of shape \(2,\) in complex64: make torch.view_as_real"
    ):
        letsam.SAM(torch.optim.SGD([weight], lr=0.1))
    opt = letsam.SAM(torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=0.1))
    with pytest.raises(ValueError, match="must hold real weights"):
        opt.add_param_group({"params": [weight]})
    assert len(opt.param_groups) == 1
    letsam.SAM(torch.optim.SGD([nn.Parameter(torch.ones(1)), weight.requires_grad_(False)], lr=0.1))


def test_complex_weights_by_their_real_view() -> None:
    """What the error advises: the same as the two real weights."""
    weight = nn.Parameter(torch.view_as_real(torch.tensor([1 + 2j, 3 - 1j], dtype=torch.complex128)).clone())
    opt = letsam.SAM(torch.optim.SGD([weight], lr=0.1), rho=0.5)

    def closure() -> Tensor:
        opt.zero_grad()
        loss = torch.view_as_complex(weight).abs().square().sum() / 2
        loss.backward()
        return loss

    theta = weight.detach().clone()
    opt.step(closure)
    torch.testing.assert_close(weight.detach(), theta - 0.1 * (theta + 0.5 * theta / theta.norm()))


# --- states that are tensor subclasses ----------------------------------------------------------------------------


@pytest.fixture
def torchao() -> Iterator[Any]:
    """torchao's optimizers, which compile their step otherwise."""
    module = pytest.importorskip("torchao.optim")
    torch.compiler.set_stance("force_eager")
    yield module
    torch.compiler.set_stance("default")


def wide() -> nn.Sequential:
    """With a weight of 4096 entries; smaller ones are not quantized."""
    model = nn.Sequential(nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 3))
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=generator(0)) * 0.2)
    return model


def wide_closure(model: nn.Module, seed: int, factor: float = 1.0) -> Any:
    inputs = torch.randn(8, 64, generator=generator(seed))

    def closure() -> Tensor:
        model.zero_grad()
        loss = factor * model(inputs).square().mean()
        loss.backward()
        return loss

    return closure


@pytest.mark.parametrize("kind", ["Adam8bit", "AdamW8bit", "Adam4bit", "AdamW4bit", "AdamFp8", "AdamWFp8"])
def test_quantized_states(torchao: Any, kind: str) -> None:
    """Steps that are not finite leave no trace, also the first of all; a checkpoint resumes bit for bit."""
    make = getattr(torchao, kind)
    model, twin, fresh = wide(), wide(), wide()
    opt, other = (letsam.SAM(make(m.parameters(), lr=0.01), rho=0.1) for m in (model, twin))
    other.step(wide_closure(twin, 0, torch.nan))
    for i in range(3):
        opt.step(wide_closure(model, i))
        other.step(wide_closure(twin, i))
        other.step(wide_closure(twin, i, torch.nan))
    state: Any = opt.state[model[0].weight]
    assert state["exp_avg"].__class__.__name__.startswith("OptimState")
    assert other.metrics["skipped_steps"] == 4
    assert same_bits(weights_of(model), weights_of(twin))

    file = io.BytesIO()
    torch.save(opt.state_dict(), file)
    file.seek(0)
    fresh.load_state_dict(model.state_dict())
    again = letsam.SAM(make(fresh.parameters(), lr=0.01), rho=0.1)
    again.load_state_dict(torch.load(file, weights_only=False))
    for m, o in ((model, opt), (twin, other), (fresh, again)):
        o.step(wide_closure(m, 9))
    assert same_bits(weights_of(model), weights_of(twin))
    assert same_bits(weights_of(model), weights_of(fresh))


@pytest.mark.parametrize("training_batch", ["next", "same"])
def test_a_learned_radius_with_quantized_states(torchao: Any, training_batch: str) -> None:
    model = wide()
    radius = learned_radius(0.05, interval=1, training_batch=training_batch)
    opt = letsam.SAM(torchao.AdamW8bit(model.parameters(), lr=0.01), rho=radius)
    for i in range(4):
        opt.step(wide_closure(model, i), wide_closure(model, 50 + i))
    before, state = weights_of(model), copy.deepcopy(opt.state[model[0].weight]["step"])

    def fails() -> Tensor:
        raise RuntimeError("no data")

    with pytest.raises(RuntimeError, match="no data"):
        opt.step(wide_closure(model, 5), fails)
    assert same_bits(weights_of(model), before)
    assert opt.state[model[0].weight]["step"] == state
    assert opt.rho != 0.05


# --- devices without float64 --------------------------------------------------------------------------------------


class Float64(TorchDispatchMode):
    """Names the operators that make float64 tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        made = result if isinstance(result, (list, tuple)) else [result]
        self.seen += [str(func) for one in made if isinstance(one, Tensor) and one.dtype == torch.float64]
        return result


BASES: dict[str, Any] = {
    "adam": lambda p: torch.optim.Adam(p, lr=0.01, amsgrad=True),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01, betas=(0.0, 0.99)),
    "tensors": lambda p: torch.optim.Adam(
        p, lr=torch.tensor(0.01), betas=(torch.tensor(0.9), torch.tensor(0.99)), foreach=False, capturable=False
    ),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.01, centered=True),
    "sgd": lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9),
}


def trained(base: str, steps: int, **options: Any) -> tuple[list[str], float]:
    """The operators that made float64 tensors, and the last hypergradient."""
    model = network(dtype=torch.float32)
    made = BASES[base](model.parameters())
    opt = letsam.SAM(made, rho=learned_radius(0.1, interval=1, **options))
    closures = [closure_on(model, batch(i, dtype=torch.float32)) for i in range(8)]
    with Float64() as seen:
        for i in range(steps):
            opt.step(closures[i % 4], closures[4 + i % 4])
    return seen.seen, opt.metrics["hypergradient"].item()


@pytest.mark.parametrize(
    ("base", "hypergradient"),
    [*((base, "secant") for base in BASES), ("adam", "finite_difference"), ("adam", "diagonal")],
)
def test_a_device_without_float64(base: str, hypergradient: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Apple's GPUs: float32 throughout, with the same hypergradient."""
    rules = importlib.import_module("letsam.tangent.update_rules")
    for steps in (4, 12):  # Z of Adam's first step is a difference of equal numbers
        usual = trained(base, steps, hypergradient=hypergradient)[1]
        with monkeypatch.context() as patched:
            patched.setattr(rules, "lacks_float64", lambda device: True)
            seen, value = trained(base, steps, hypergradient=hypergradient)
        assert seen == []
        assert value == pytest.approx(usual, rel=1e-3)


# --- optimizers that cannot be wrapped ------------------------------------------------------------------------------


def test_optimizers_that_are_refused() -> None:
    class InBackward(FindsItsOwnRate):
        def fused_backward(self) -> None:
            """As of LOMO."""

    class Bare(torch.optim.Optimizer):
        def __init__(self) -> None:  # pyright: ignore[reportMissingSuperCall]
            pass

    weight = nn.Parameter(torch.ones(2))
    for base, said in (
        (torch.optim.SparseAdam([weight]), "`base_optimizer` must take dense gradients, got SparseAdam"),
        (InBackward([weight]), r"update the weights in step\(\), got InBackward, which does in backward\(\)"),
        (Bare(), "must have param_groups, state, defaults, as torch's optimizers do, got a Bare without"),
    ):
        with pytest.raises(TypeError, match=said):
            letsam.SAM(base, rho=0.1)


def test_an_error_of_the_base_optimizer_names_it() -> None:
    """The weights are as before."""

    class Fails(FindsItsOwnRate):
        @torch.no_grad()
        def step(self, closure: Any = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
            self.param_groups[0]["params"][0].zero_()
            raise KeyError("curvature")

    model = network()
    opt = letsam.SAM(Fails(model.parameters()), rho=0.1)
    before = weights_of(model)
    with pytest.raises(KeyError, match="curvature") as raised:
        opt.step(closure_on(model, batch(0)))
    assert raised.value.__notes__ == ["This was raised in the step of the base optimizer, Fails."]
    assert same_bits(weights_of(model), before)
