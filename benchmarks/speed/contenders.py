"""Implementations of a step with SGD, without its passes: gradients that were computed before are put in place."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from letsam import ASAM, SAM, LearnedRadius
from letsam.step.undo import StepGuard
from letsam.tensors import Buffers, all_finite, gradients_of, lengths

Step = Callable[[], Any]
RHO = 0.05
OPTIONS: dict[str, Any] = {"lr": 1e-3, "momentum": 0.9, "foreach": True}


class Passes:
    """Weights, and the gradients of the two passes of every step."""

    def __init__(self, shapes: list[tuple[int, ...]], dtype: torch.dtype) -> None:
        generator = torch.Generator().manual_seed(0)
        made = [[torch.randn(shape, generator=generator).to(dtype) for shape in shapes] for _ in range(3)]
        self.params = [torch.nn.Parameter(weight) for weight in made[0]]
        self._made = made[1:]
        self._gradients = [[gradient.clone() for gradient in some] for some in self._made]
        self._calls = 0
        self._loss = torch.ones(())

    def renew(self, clear: bool = True) -> None:
        """Give the gradients the values that they had: some contenders work on them in place.

        letsam begins a step without gradients of others; sam-pytorch needs those of a pass before (`clear=False`).
        """
        for now, before in zip(self._gradients, self._made, strict=True):
            torch._foreach_copy_(now, before)  # pyright: ignore[reportPrivateUsage, reportPrivateImportUsage]
        if clear:
            for param in self.params:
                param.grad = None

    def __call__(self) -> Tensor:
        """The next pass: no operator, only references."""
        for param, gradient in zip(self.params, self._gradients[self._calls % 2], strict=True):
            param.grad = gradient
        self._calls += 1
        return self._loss


def norm(tensors: Sequence[Tensor]) -> Tensor:
    """Of all of them together."""
    return torch.stack([tensor.detach().norm() for tensor in tensors]).norm()


@torch.no_grad()
def climb(params: Sequence[Tensor], rho: float) -> list[Tensor]:
    """The ascent of SAM written out; returns by how much the weights have moved."""
    gradients = [p.grad for p in params if p.grad is not None]
    moved = [rho / norm(gradients) * g for g in gradients]
    torch._foreach_add_(list(params), moved)  # pyright: ignore[reportPrivateUsage, reportPrivateImportUsage]
    return moved


def base_alone(passes: Passes, adaptive: bool) -> Step:
    """SGD alone, which is also the base optimizer of every contender."""
    base = torch.optim.SGD(passes.params, **OPTIONS)
    passes()
    return base.step


def letsam(passes: Passes, adaptive: bool) -> Step:
    """This library, with its protection against steps that are not finite."""
    opt = (ASAM if adaptive else SAM)(torch.optim.SGD(passes.params, **OPTIONS), RHO)
    return lambda: opt.step(passes)


def learned(passes: Passes, adaptive: bool) -> Step:
    """This library with a learned radius: a third pass, and the curvature along the ascent kept in Z."""
    opt = (ASAM if adaptive else SAM)(torch.optim.SGD(passes.params, **OPTIONS), LearnedRadius(RHO, interval=1))
    return lambda: opt.step(passes, passes)


def textbook(passes: Passes, adaptive: bool) -> Step:
    """The published algorithm, weight after weight."""
    params, base = passes.params, torch.optim.SGD(passes.params, **OPTIONS)

    @torch.no_grad()
    def step() -> None:
        passes()
        gradients = [p.grad for p in params if p.grad is not None]
        scales = [p.abs() if adaptive else 1.0 for p in params]
        length = torch.stack([(s * g).norm() for s, g in zip(scales, gradients, strict=True)]).norm()
        saved = []
        for p, s, g in zip(params, scales, gradients, strict=True):
            saved.append(p.clone())
            p.add_(s * s * g * (RHO / (length + 1e-12)))
        passes()
        for p, weight in zip(params, saved, strict=True):
            p.copy_(weight)
        base.step()

    return step


def pytorch_optimizer(foreach: bool) -> Callable[[Passes, bool], Step]:
    """PyPI pytorch_optimizer, one of its two forms."""

    def make(passes: Passes, adaptive: bool) -> Step:
        kind = importlib.import_module("pytorch_optimizer").SAM
        opt = kind(passes.params, torch.optim.SGD, rho=RHO, adaptive=adaptive, **OPTIONS | {"foreach": foreach})
        # `foreach` is passed on to the base, which is the same for all.
        opt.base_optimizer.param_groups[0]["foreach"] = True
        opt.base_optimizer.defaults["foreach"] = True
        if not foreach:
            opt.can_use_foreach = lambda *args, **kwargs: False

        def step() -> None:
            passes()
            opt.step(passes)

        return step

    return make


def sam_pytorch(passes: Passes, adaptive: bool) -> Step | None:
    """PyPI sam-pytorch; it has no ASAM."""
    if adaptive:
        return None
    kind = importlib.import_module("sam.sam").SAM
    opt = kind(passes.params, torch.optim.SGD(passes.params, **OPTIONS), rho=RHO)
    return lambda: opt.step(passes)


def checking(passes: Passes, adaptive: bool) -> Step:
    """The part of letsam's step that checks whether the gradient of the descent is finite."""
    passes()
    return lambda: all_finite(lengths(gradients_of(passes.params)))


@torch.no_grad()
def guarding(passes: Passes, adaptive: bool) -> Step:
    """The part of letsam's step that could undo it, around a finite step of a base optimizer that does nothing."""
    base = torch.optim.SGD(passes.params, **OPTIONS)
    for param in passes.params:
        base.state[param]["momentum_buffer"] = torch.zeros_like(param)
    guard, weights, finite = StepGuard(), Buffers(), torch.tensor(True)
    weights.copy_of(passes.params)

    def step() -> None:
        guard.save(base, finite, passes.params, False)
        guard.settle(base, finite, passes.params, weights)

    return step


PARTS: dict[str, Callable[[Passes, bool], Step]] = {"is it finite?": checking, "to undo it": guarding}
LEARNED: dict[str, Callable[[Passes, bool], Step]] = {"letsam, learned": learned}  # another step than the others'
CONTENDERS: dict[str, Callable[[Passes, bool], Step | None]] = {
    "SGD alone": base_alone,
    "letsam": letsam,
    "textbook loop": textbook,
    "pytorch_optimizer, loop": pytorch_optimizer(False),
    "pytorch_optimizer, foreach": pytorch_optimizer(True),
    "sam-pytorch": sam_pytorch,
}
