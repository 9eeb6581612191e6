"""What a step costs on weights in the shapes of a ResNet-50: operators and copies, counted."""

from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from benchmarks.speed.cost import does_work, entries, peak
from learned_radius import learned_radius
from letsam import ASAM, SAM, LearnedRadius, SharpnessAware
from letsam.step.ascent import AscentPhase
from letsam.step.record import StepRecord
from letsam.step.undo import StepGuard

MANY = 200  # entries: what has fewer is a number, or a number for each of the weights


def resnet50(largest: int | None = None) -> list[tuple[int, ...]]:
    """The shapes of a ResNet-50's 161 weights; with `largest`, no dimension is larger."""
    shapes: list[tuple[int, ...]] = [(64, 3, 7, 7), (64,), (64,)]
    channels = 64
    for blocks, width in ((3, 64), (4, 128), (6, 256), (3, 512)):
        for block in range(blocks):
            for shape in ((width, channels, 1, 1), (width, width, 3, 3), (4 * width, width, 1, 1)):
                shapes += [shape, shape[:1], shape[:1]]
            if block == 0:
                shapes += [(4 * width, channels, 1, 1), (4 * width,), (4 * width,)]
            channels = 4 * width
    shapes += [(1000, 2048), (1000,)]
    return shapes if largest is None else [tuple(min(size, largest) for size in shape) for shape in shapes]


class Operators(TorchDispatchMode):
    """Counts operators by the part of the step that they belong to, and which of them work on weights."""

    def __init__(self) -> None:
        super().__init__()
        self.part = "rest"
        self.all: Counter[str] = Counter()
        self.on_weights: Counter[str] = Counter()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if does_work(func):
            self.all[self.part] += 1
            if self.part != "base":  # SGD reads a learning rate that is a tensor
                self.names.append(name)
            lists = isinstance(args[0], (list, tuple)) and name != "stack" if args else False
            tensors = [leaf for leaf in tree_leaves(args) if isinstance(leaf, Tensor)]
            self.on_weights[self.part] += lists or any(tensor.numel() > MANY for tensor in tensors)
        return func(*args, **(kwargs or {}))

    @contextmanager
    def parts(self, methods: dict[tuple[type, str], str]) -> Iterator[None]:
        """What is called by a method of these counts for its part."""

        def counted(old: Any, part: str) -> Any:
            def new(*args: Any, **kwargs: Any) -> Any:
                before, self.part = self.part, part
                try:
                    return old(*args, **kwargs)
                finally:
                    self.part = before

            return new

        with pytest.MonkeyPatch.context() as patch:
            for (owner, name), part in methods.items():
                patch.setattr(owner, name, counted(getattr(owner, name), part))
            yield


def prepared(
    make: Callable[[Any], SharpnessAware], shapes: list[tuple[int, ...]], dtype: torch.dtype = torch.float32
) -> tuple[SharpnessAware, Callable[[], Tensor]]:
    """An optimizer, and a closure that puts the same gradients in place without an operator of torch."""
    generator = torch.Generator().manual_seed(0)
    params = [torch.nn.Parameter(torch.randn(shape, generator=generator).to(dtype)) for shape in shapes]
    gradients = [torch.randn(shape, generator=generator).to(dtype) for shape in shapes]
    copies = [gradient.clone() for gradient in gradients]
    memory = [[t.view(torch.uint8).numpy() for t in some] for some in (gradients, copies)]
    loss = torch.ones(())

    def closure() -> Tensor:
        for param, gradient, now, before in zip(params, gradients, *memory, strict=True):
            now[:] = before  # a step works on its gradients
            param.grad = gradient
        return loss

    return make(params), closure


def counted(make: Callable[[Any], SharpnessAware], dtype: torch.dtype = torch.float32) -> list[Operators]:
    """The operators of steps after the first two, which make state and buffers."""
    opt, closure = prepared(make, resnet50(largest=16), dtype)
    counts = []
    for _ in range(4):
        counter = Operators()
        methods = {
            (StepGuard, "save"): "guard",
            (StepGuard, "settle"): "guard",
            (type(opt.base_optimizer), "step"): "base",
            **{(AscentPhase, name): "ascent and restore" for name in ("norms", "set_radius", "move")},
            (StepRecord, "restore"): "ascent and restore",
        }
        with counter.parts(methods), counter:
            opt.step(closure, closure)
        counts.append(counter)
    assert opt.metrics["skipped_steps"] == 0
    return counts[2:]


def momentum(params: Any, **options: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(params, lr=0.1, momentum=0.9, foreach=True, **options)


def test_the_shapes_are_a_resnet_50s() -> None:
    assert len(resnet50()) == 161
    assert entries(resnet50()) == 25_557_032


@pytest.mark.parametrize(("variant", "limit"), [(SAM, 9), (ASAM, 13)])
def test_ascent_and_restore(variant: type[SharpnessAware], limit: int) -> None:
    """The bounds are those of a list of weights in one operator; a loop over the 161 weights is far above."""
    for counter in counted(lambda p: variant(momentum(p), 0.05)):
        assert 0 < counter.all["ascent and restore"] <= limit
        assert counter.all["rest"] <= 9  # is the step finite, how many were not, and a copy of each pass's loss


@pytest.mark.parametrize(("variant", "limit"), [(SAM, 131), (ASAM, 137)])
def test_a_learned_radius(variant: type[SharpnessAware], limit: int) -> None:
    """Secant, with everything that is on by default: validation, projection, prior, its limit, burn-in, update, Z, and
    the guard of the validation data, which takes 28 operators on single numbers in the first 2,000 steps.
    """
    for counter in counted(lambda p: variant(momentum(p), LearnedRadius(0.05, interval=1))):
        on_weights = counter.on_weights["rest"] + counter.on_weights["ascent and restore"]
        assert 15 < on_weights <= 24
        assert counter.all["rest"] + counter.all["ascent and restore"] <= limit


def test_low_precision_takes_no_loop_over_the_weights() -> None:
    """But casts of single numbers and of blocks."""
    full, low = (
        counted(lambda p: SAM(momentum(p), LearnedRadius(0.05, interval=1)), dtype)[-1]
        for dtype in (torch.float32, torch.bfloat16)
    )
    assert low.all["rest"] - full.all["rest"] <= 20


@pytest.mark.parametrize("base", [momentum, torch.optim.AdamW, torch.optim.RMSprop])
def test_undoing_a_step(base: Callable[[Any], torch.optim.Optimizer]) -> None:
    """Weights and all of the state, saved and put back; the only loop is over what the very first step makes."""
    for counter in counted(lambda p: SAM(base(p), 0.05)):
        assert counter.all["guard"] <= 4


def test_a_finite_step_copies_no_state() -> None:
    opt, closure = prepared(lambda p: SAM(torch.optim.AdamW(p), 0.05), [(3, 4), (5,)])
    opt.step(closure)
    opt.step(closure)
    copies = opt._parts.guard._buffers.blocks  # pyright: ignore[reportPrivateUsage]
    for block in copies:
        block.fill_(7.0)
    opt.step(closure)
    assert copies
    assert all((block == 7.0).all() for block in copies)


@pytest.mark.parametrize("base", [torch.optim.Adam, torch.optim.AdamW, torch.optim.RMSprop])
def test_the_derivatives_of_adaptive_optimizers(base: Callable[..., torch.optim.Optimizer]) -> None:
    """The two lists of temporary tensors are paid for by portions, of which there is one here."""
    sgd, adaptive = (
        counted(lambda p, make=make: SAM(make(p), LearnedRadius(0.05, interval=1)))[-1]
        for make in (momentum, lambda p: base(p, lr=0.1, foreach=True))
    )
    assert 0 < adaptive.on_weights["rest"] - sgd.on_weights["rest"] <= 16


@pytest.mark.parametrize("lr", [0.1, torch.tensor(0.1)], ids=["number", "tensor"])
@pytest.mark.parametrize("radius", [0.05, "learned"])
@pytest.mark.parametrize("variant", [SAM, ASAM])
def test_every_step_issues_the_same_operators(
    variant: type[SharpnessAware], radius: Any, lr: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which ones does not depend on any value, as a bad step shows; and none brings a number from the host."""
    shapes = resnet50(largest=4)

    def make(params: Any) -> SharpnessAware:
        rho = learned_radius(0.05, interval=1, burn_in=0) if radius == "learned" else radius
        return variant(torch.optim.SGD(params, lr=lr, momentum=0.9, foreach=True), rho)

    opt, closure = prepared(make, shapes)

    infinite = torch.tensor(torch.inf)

    def overflowed() -> Tensor:
        closure()
        return infinite

    def made(value: Any, **options: Any) -> Tensor:
        assert isinstance(value, Tensor), "a number would be copied to the device"
        return value

    monkeypatch.setattr(torch, "tensor", made)
    monkeypatch.setattr(torch, "as_tensor", made)
    sequences = []
    for i in range(6):
        counter = Operators()
        with counter.parts({(torch.optim.SGD, "step"): "base"}), counter:
            opt.step(overflowed if i == 4 else closure, closure)
        sequences.append(counter.names)
    assert opt.metrics["skipped_steps"] == 1
    assert sequences[2] == sequences[3] == sequences[4] == sequences[5]
    assert "_local_scalar_dense" not in sequences[5]


def test_a_pickle_holds_z_once() -> None:
    """Its tensors lie in one block, which each of them would bring along."""
    opt, closure = prepared(lambda p: SAM(momentum(p), LearnedRadius(0.05, interval=1)), resnet50(largest=16))
    opt.step(closure, closure)
    numbers = sum(p.numel() for group in opt.param_groups for p in group["params"])
    assert len(pickle.dumps(opt)) < 4.5 * 4 * numbers  # weights, momentum, Z, and 161 headers of each


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("variant", [SAM, ASAM])
@pytest.mark.parametrize(
    ("radius", "copies"), [(lambda: 0.05, 1), (lambda: LearnedRadius(0.05, interval=1), 2)], ids=["fixed", "learned"]
)
def test_copies_of_the_weights(
    variant: type[SharpnessAware], radius: Callable[[], Any], copies: int, dtype: torch.dtype
) -> None:
    """SGD without momentum has no state, of which undoing would hold one copy more. A norm of bf16 casts a tensor."""
    shapes = resnet50(largest=256)  # 8 million entries
    opt, closure = prepared(lambda p: variant(torch.optim.SGD(p, lr=1e-3, foreach=True), radius()), shapes, dtype)
    found = peak(lambda: opt.step(closure, closure)) / (entries(shapes) * dtype.itemsize)
    assert copies <= found < copies + (0.01 if dtype == torch.float32 else 0.2)
