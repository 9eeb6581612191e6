"""Running a closure, and what it must leave: a scalar loss, and dense gradients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor

from .. import checks
from ..tensors import Tensors, gradients_of
from ..tensors.shards import complete_gradients

Closure = Callable[[], Tensor]


def checked_closure(closure: Closure | None, name: str = "closure") -> Closure:
    """Return `closure` when it can be called, or raise `ValueError` with the name of the argument."""
    if closure is None or not callable(closure):
        raise ValueError(
            f"`{name}` must be a function that clears the gradients, computes the loss, calls backward() and "
            f"returns the loss, got {checks.shown(closure)}"
        )
    return closure


class InParts:
    """A closure in parts, whose losses and gradients add up to its own, such as that of `letsam.accumulated`.

    Args:
        whole: computes the loss on the batch, as a closure for `step`.
        parts: the same for each micro-batch: each clears the gradients, and its loss is its share of the whole.
    """

    def __init__(self, whole: Closure, parts: Sequence[Closure]) -> None:
        self.whole, self.parts = whole, tuple(parts)

    def __call__(self) -> Tensor:
        """Compute the loss on the batch."""
        return self.whole()


def parts_of(closure: Closure) -> tuple[Closure, ...]:
    """The closures of the micro-batches, the closure itself where it has none.

    Raises:
        ValueError: its attribute `parts` holds no closures.
    """
    if not hasattr(closure, "parts"):
        return (closure,)
    given: object = closure.parts  # pyright: ignore[reportFunctionMemberAccess]
    parts = cast("tuple[Closure, ...]", given) if isinstance(given, list | tuple) else ()
    if not (parts and all(map(callable, parts))):
        raise ValueError(
            f"`parts` of `closure` must hold at least one closure, got {checks.shown(cast(object, given))}"
        )
    return tuple(parts)


def evaluate(closure: Closure, name: str, params: Tensors) -> Tensor:
    """Run one pass whose gradients have been cleared.

    Args:
        closure: computes the loss, calls `backward()` and returns the loss.
        name: of the argument, for the errors.
        params: weights of which at least one must get a gradient.

    Returns:
        The loss (0-dim, detached).

    Raises:
        TypeError: the closure returns no tensor.
        ValueError: it returns no scalar, or leaves no gradients, or sparse ones.
    """
    with torch.enable_grad():
        loss: object = closure()
    if not isinstance(loss, Tensor):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"`{name}` must return the loss as a tensor, got {checks.shown(loss)}")
    if loss.numel() != 1:
        raise ValueError(f"`{name}` must return a scalar loss, got a tensor of shape {tuple(loss.shape)}")
    require_gradients(params, f"`{name}`")
    return loss.detach().reshape(()).clone()  # a closure may give back the same memory at every call


def require_gradients(params: Tensors, name: str) -> None:
    """Raise `ValueError` unless there are gradients, all of them dense; complete those of DTensors."""
    gradients = gradients_of(params)
    if not gradients:
        raise ValueError(f"{name} must leave gradients in the optimizer's parameters, got none: call loss.backward()")
    if {g.layout for g in gradients} != {torch.strided}:
        raise ValueError(f"{name} must leave dense gradients, got sparse ones: use sparse=False in the embedding")
    complete_gradients(params)
