"""The contract of a closure, and how a step runs one: it must return a scalar loss and leave dense gradients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor

from .. import checks
from ..tensors import Tensors, gradients_of
from ..tensors.shards import complete_gradients
from .returned import Returned, SkipStep, detached, unpacked

Closure = Callable[[], Any]
"""Returns the loss (0-dim), or a pair of the loss and whatever else of the pass is wanted, such as the model's outputs.
"""


def checked_closure(closure: Closure | None, name: str = "closure") -> Closure:
    """Return `closure` if it is callable, or raise `ValueError` with the name of the argument."""
    if closure is None or not callable(closure):
        raise ValueError(
            f"`{name}` must be a function that clears the gradients, computes the loss, calls backward() and "
            f"returns the loss, got {checks.shown(closure)}"
        )
    return closure


class InParts:
    """A closure with parts whose losses and gradients add up to its own, such as that of `letsam.accumulated`.

    Args:
        whole: closure on the whole batch.
        parts: closures on the micro-batches. Each clears the gradients first; its loss is its term of the whole loss.
        ascent: closure on a part of the batch, for the first pass of a step; its loss is the mean over its own samples.
            None: the first pass is on the whole batch.

    Example:
        >>> closure = InParts(lambda: torch.tensor(3.0), [lambda: torch.tensor(1.0), lambda: torch.tensor(2.0)])
        >>> closure(), sum(part() for part in parts_of(closure))
        (tensor(3.), tensor(3.))
    """

    def __init__(self, whole: Closure, parts: Sequence[Closure], ascent: Closure | None = None) -> None:
        self.whole, self.parts, self.ascent = whole, tuple(parts), ascent

    def __call__(self) -> Tensor:
        """Compute the loss on the batch."""
        return self.whole()


def parts_of(closure: Closure) -> tuple[Closure, ...]:
    """The closures of the micro-batches; the closure itself if it has no attribute `parts`.

    Args:
        closure: a closure, with or without an attribute `parts`.

    Returns:
        At least one closure.

    Raises:
        ValueError: the attribute `parts` is not a list or tuple of closures, or is empty.
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


def ascent_of(closure: Closure) -> Closure | None:
    """The closure of the first pass of a step; None: `closure` itself.

    Args:
        closure: a closure, with or without an attribute `ascent`.

    Returns:
        A closure on a part of the batch, or None.

    Raises:
        ValueError: the attribute is no function.
    """
    given: object = getattr(closure, "ascent", None)
    if given is not None and not callable(given):
        raise ValueError(f"`ascent` of `closure` must be a function, got {checks.shown(given)}")
    return cast("Closure | None", given)


def evaluate(closure: Closure, name: str, params: Tensors) -> Returned:
    """Run one pass; the caller has cleared the gradients.

    Args:
        closure: computes the loss, calls `backward()` and returns the loss, or a pair (loss, outputs).
        name: name of the argument, for error messages.
        params: the weights; at least one must get a gradient.

    Returns:
        The loss (0-dim, detached), and the outputs (detached; None if there are none).

    Raises:
        TypeError: the closure returns no tensor.
        ValueError: it returns no scalar, or leaves no gradients or sparse ones.
        RuntimeError: it raises StopIteration, which would end the caller's loop as if the data were used up.

    Example:
        >>> weight = torch.nn.Parameter(torch.tensor([3.0]))
        >>> def closure():
        ...     loss = weight.square().sum()
        ...     loss.backward()
        ...     return loss
        >>> evaluate(closure, "closure", [weight]), weight.grad
        (Returned(loss=tensor(9.), outputs=None), tensor([6.]))
    """
    try:
        with torch.enable_grad():
            returned: object = closure()
    except StopIteration as error:
        raise RuntimeError(
            f"`{name}` must find a batch in every call, got StopIteration: its iterator has ended; start a new one, or "
            "use letsam.endless(loader)"
        ) from error
    except SkipStep:
        raise
    except Exception as error:
        error.add_note(_note(name, error))
        raise
    loss, outputs = unpacked(returned, name)
    if not isinstance(loss, Tensor):
        hint = " (to skip a batch, raise letsam.SkipStep)" if loss is None else ""
        raise TypeError(f"`{name}` must return the loss as a tensor, got {checks.shown(loss)}{hint}")
    if loss.numel() != 1:
        raise ValueError(f"`{name}` must return a scalar loss, got a tensor of shape {tuple(loss.shape)}")
    require_gradients(params, f"`{name}`")
    # a closure may return the same memory at every call
    return Returned(loss.detach().reshape(()).clone(), detached(outputs))


def one_row(error: Exception) -> bool:
    """Whether a normalization layer has refused a batch of one row, which has no variance."""
    return isinstance(error, ValueError) and "more than 1 value per channel" in str(error)


def _note(name: str, error: Exception) -> str:
    advice = ": BatchNorm needs more than one row, use drop_last=True in the loader" if one_row(error) else ""
    return f"This was raised in a step of the letsam optimizer, by `{name}`{advice}."


def require_gradients(params: Tensors, name: str) -> None:
    """Raise `ValueError` unless there are gradients and all are dense; redistributes the gradients of DTensors."""
    gradients = gradients_of(params)
    if not gradients:
        raise ValueError(f"{name} must leave gradients in the optimizer's parameters, got none: call loss.backward()")
    if {g.layout for g in gradients} != {torch.strided}:
        raise ValueError(f"{name} must leave dense gradients, got sparse ones: use sparse=False in the embedding")
    complete_gradients(params)
