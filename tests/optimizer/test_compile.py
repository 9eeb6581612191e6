"""A network under `torch.compile` trains as the eager one does."""

from __future__ import annotations

import copy
import importlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import letsam
from letsam import ASAM, SAM, LearnedRadius, ValidationLoss
from oracle.problems import batch, closure_on, same_bits

MODES = ["default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs"]
TOLERANCE = {"rtol": 1e-4, "atol": 1e-6}  # float32, and another order of summation


@pytest.fixture(autouse=True)
def _fresh_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.fixture
def eager_random() -> Iterator[None]:
    """Inductor draws other numbers than eager mode unless it is told to call eager mode's functions."""
    with importlib.import_module("torch._inductor.config").patch(fallback_random=True):
        yield


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Linear(4, 8), nn.BatchNorm1d(8)
        self.dropout, self.last = nn.Dropout(0.3), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.dropout(torch.tanh(self.norm(self.first(x)))))


def network() -> Net:
    torch.manual_seed(0)
    return Net()


def data(seed: int) -> tuple[Tensor, Tensor]:
    return batch(seed, dtype=torch.float32)


def trained(variant: Any, wrap: Callable[[nn.Module], nn.Module], radius: Any, steps: int) -> tuple[Any, ...]:
    """Weights and buffers, radius and losses after a few steps of a network that `wrap` may have compiled."""
    model = network()
    wrapped = wrap(model)
    base = torch.optim.SGD(wrapped.parameters(), lr=0.1, momentum=0.9)
    opt = variant(base, copy.deepcopy(radius), model=wrapped)
    torch.manual_seed(1)
    losses = [opt.step(closure_on(wrapped, data(i)), closure_on(wrapped, data(50 + i))) for i in range(steps)]
    assert opt.metrics["skipped_steps"] == 0
    return dict(model.state_dict()), opt.rho, losses


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.usefixtures("eager_random")
def test_every_mode_is_eager_mode(mode: str) -> None:
    for variant, radius in ((SAM, 0.2), (ASAM, LearnedRadius(0.2, interval=1))):
        expected = trained(variant, lambda model: model, radius, 4)
        compiled = trained(variant, lambda model: torch.compile(model, mode=mode, fullgraph=True), radius, 4)
        torch.testing.assert_close(compiled, expected, **TOLERANCE)
        assert compiled[0]["norm.num_batches_tracked"] == 4
        assert (compiled[1] != 0.2) == isinstance(radius, LearnedRadius)


@pytest.mark.slow
def test_inductors_own_masks_are_equal_in_both_passes() -> None:
    """With a radius of nearly 0 both passes return the same loss, if and only if their masks are equal."""
    model = network()
    compiled = torch.compile(model, fullgraph=True)
    opt = SAM(torch.optim.SGD(model.parameters(), lr=0.0), rho=1e-9, model=compiled)
    losses: list[float] = []
    clean = closure_on(compiled, data(0))

    def closure() -> Tensor:
        loss = clean()
        losses.append(loss.item())
        return loss

    for _ in range(3):
        opt.step(closure)
    assert losses[0::2] == losses[1::2]
    assert len(set(losses)) == 3, "every step has masks of its own"
    assert model.norm.num_batches_tracked == 3


@pytest.mark.parametrize("how", ["wrapper", "in place"])
def test_the_model_may_be_given_in_any_form(how: str) -> None:
    """Without code generation, and so fast: what letsam sees of a compiled module is the same."""

    backend = importlib.import_module("torch._dynamo.testing").CompileCounterWithBackend("aot_eager")

    def wrap(model: nn.Module) -> nn.Module:
        if how == "wrapper":
            return torch.compile(model, backend=backend, fullgraph=True)
        model.compile(backend=backend, fullgraph=True)
        return model

    radius = LearnedRadius(0.1, interval=1)
    expected = trained(SAM, lambda model: model, radius, 3)
    torch.testing.assert_close(trained(SAM, wrap, radius, 3), expected, **TOLERANCE)
    # One graph for the training passes, at whichever weights, and one for the validation pass, whose outputs are seen.
    assert backend.frame_count == 2
    plain = LearnedRadius(0.1, interval=1, objective=ValidationLoss(matches_labels=False))
    torch._dynamo.reset()
    backend.frame_count = 0
    trained(SAM, wrap, plain, 3)
    assert backend.frame_count == 1


def test_the_doctor_sees_through_a_compiled_model() -> None:
    model = network()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    closure = closure_on(compiled, data(0))
    before = copy.deepcopy(dict(model.state_dict()))
    opt = SAM(torch.optim.SGD(model.parameters(), lr=0.1), model=compiled)
    assert letsam.check(opt, closure) == []
    bare = SAM(torch.optim.SGD(model.parameters(), lr=0.1))
    assert [finding.code for finding in letsam.check(bare, closure)] == ["buffers-move-in-each-pass"]
    assert same_bits(dict(model.state_dict()), before)


@pytest.mark.parametrize("by_hand", [False, True], ids=["step", "by hand"])
def test_a_compiled_function_may_make_the_step(by_hand: bool) -> None:
    """Traced, the step forgot the unperturbed weights and trained others."""

    def train(wrap: Callable[[Any], Any]) -> dict[str, Tensor]:
        model = network()
        opt = SAM(torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9), rho=0.1, model=model)

        def step(i: int) -> None:
            closure = closure_on(model, data(i))
            if not by_hand:
                opt.step(closure)
                return
            closure()
            opt.ascent_step()
            closure()
            opt.descent_step()

        compiled = wrap(step)
        torch.manual_seed(1)
        for i in range(4):
            compiled(i)
        return dict(model.state_dict())

    eager = train(lambda step: step)
    assert same_bits(train(lambda step: torch.compile(step, backend="eager")), eager)
