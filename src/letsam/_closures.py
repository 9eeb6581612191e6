"""Running a closure, and what it must leave: a scalar loss, and dense gradients."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from . import _checks
from ._tensors import Tensors, complete_gradients, gradients_of

Closure = Callable[[], Tensor]


def checked_closure(closure: Closure | None) -> Closure:
    """Return `closure` when it can be called, or raise `ValueError`."""
    if closure is None or not callable(closure):
        raise ValueError(
            "`closure` must be a function that clears the gradients, computes the loss, calls backward() and "
            f"returns the loss, got {_checks.shown(closure)}"
        )
    return closure


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
        raise TypeError(f"`{name}` must return the loss as a tensor, got {_checks.shown(loss)}")
    if loss.numel() != 1:
        raise ValueError(f"`{name}` must return a scalar loss, got a tensor of shape {tuple(loss.shape)}")
    require_gradients(params, f"`{name}`")
    return loss.detach().reshape(())


def require_gradients(params: Tensors, name: str) -> None:
    """Raise `ValueError` unless there are gradients, all of them dense; complete those of DTensors."""
    gradients = gradients_of(params)
    if not gradients:
        raise ValueError(f"{name} must leave gradients in the optimizer's parameters, got none: call loss.backward()")
    if any(g.layout != torch.strided for g in gradients):
        raise ValueError(f"{name} must leave dense gradients, got sparse ones: use sparse=False in the embedding")
    complete_gradients(params)
