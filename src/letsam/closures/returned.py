"""What a closure gives back: the loss, a pair (loss, outputs), or `SkipStep`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

from torch import Tensor
from torch.utils._pytree import tree_map_only


class SkipStep(Exception):
    """Raised by a closure whose batch is to be skipped.

    In the training closure, it ends the step: weights, the base optimizer's state, radius, buffers and random numbers
    are as before the step, the gradients are cleared, and `step` returns NaN. Neither `metrics["skipped_steps"]` nor
    any other counter counts the step, so schedules of the radius do not move. In the validation closure, only the
    update of the radius is left out.

    With several processes, all must raise it in the same pass; the others would wait for ever.

    Example:
        >>> import torch, letsam
        >>> weight = torch.nn.Parameter(torch.tensor([3.0, 4.0]))
        >>> opt = letsam.SAM(torch.optim.SGD([weight], lr=0.1))
        >>> def closure():
        ...     raise letsam.SkipStep("the batch has no labels")
        >>> opt.step(closure), weight.detach()
        (tensor(nan), tensor([3., 4.]))
    """


class Returned(NamedTuple):
    """What a closure has returned: the loss, and the second part of a pair (None if it returned the loss alone)."""

    loss: Any
    outputs: Any = None


def unpacked(value: object, name: str) -> Returned:
    """Split the pair (loss, outputs) that a closure may return.

    Args:
        value: what the closure returned.
        name: name of the argument, for error messages.

    Returns:
        The loss, unchecked, and the outputs.

    Raises:
        TypeError: a tuple of another length.

    Example:
        >>> unpacked((1.0, "logits"), "closure")
        Returned(loss=1.0, outputs='logits')
    """
    if not isinstance(value, tuple):
        return Returned(value)
    parts = cast("tuple[object, ...]", value)
    if len(parts) != 2:
        raise TypeError(f"`{name}` must return the loss, or a pair (loss, outputs), got a tuple of {len(parts)}")
    return Returned(*parts)


def packed(loss: Tensor, outputs: Any) -> Any:
    """What a closure returns: the loss alone if there are no outputs."""
    return loss if outputs is None else (loss, outputs)


def detached(outputs: Any) -> Any:
    """The outputs without their autograd graph: tensors in tuples, lists, dicts and other pytrees are detached."""
    return outputs if outputs is None else tree_map_only(Tensor, Tensor.detach, outputs)


def outputs_of(outputs: Sequence[Any]) -> list[Any] | None:
    """The outputs of the micro-batches; None if none has any.

    Example:
        >>> outputs_of([1, None]), outputs_of([None, None])
        ([1, None], None)
    """
    return None if all(each is None for each in outputs) else list(outputs)
