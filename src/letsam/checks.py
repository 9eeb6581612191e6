"""Checks of arguments. Each error is one line with the argument's name, what was expected and what was given."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from numbers import Real
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler

from .results.nearest import did_you_mean

Part = TypeVar("Part")


def shown(value: object) -> str:
    """A short representation of a value for an error message."""
    try:
        text = " ".join(repr(value).split())
    except Exception:  # Python does not write integers of more than 4300 digits
        text = f"an object of type {type(value).__name__}"
    return text if len(text) <= 80 else f"{type(value).__name__} {text[:60]}..."


def number(name: str, value: object, place: str = "") -> float:
    """Return `value` as a float, or raise `TypeError` if it is not a real number, `ValueError` if a float overflows.

    `place` follows the name in the errors.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"`{name}`{place} must be a number, got {shown(value)}")
    try:
        return float(value)
    except OverflowError:
        raise ValueError(f"`{name}`{place} must be a number that a float can hold, got {shown(value)}") from None


def positive(name: str, value: object) -> float:
    """Return `value` as a finite float > 0, or raise."""
    checked = number(name, value)
    if not (checked > 0 and math.isfinite(checked)):
        raise ValueError(f"`{name}` must be > 0, got {checked}")
    return checked


def not_negative(name: str, value: object, zero_means: str | None = None, place: str = "") -> float:
    """Return `value` as a finite float >= 0, or raise; `zero_means` says in the error what the value 0 does."""
    checked = number(name, value, place)
    if not (checked >= 0 and math.isfinite(checked)):
        if zero_means is None:
            raise ValueError(f"`{name}`{place} must be >= 0, got {checked}")
        raise ValueError(f"`{name}`{place} must be > 0, got {checked} (0 is allowed: {zero_means})")
    return checked


def share(name: str, value: object) -> float:
    """Return `value` as a float >= 0 and < 1, or raise."""
    checked = number(name, value)
    if not 0 <= checked < 1:
        raise ValueError(f"`{name}` must be >= 0 and < 1, got {checked}")
    return checked


def positive_share(name: str, value: object) -> float:
    """Return `value` as a float > 0 and <= 1, or raise."""
    checked = positive(name, value)
    if checked > 1:
        raise ValueError(f"`{name}` must be > 0 and <= 1, got {value}")
    return checked


def whole(name: str, value: object, minimum: int) -> int:
    """Return `value` as an int >= `minimum`, or raise."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"`{name}` must be a whole number >= {minimum}, got {shown(value)}")
    if value < minimum:
        raise ValueError(f"`{name}` must be a whole number >= {minimum}, got {shown(value)}")
    return value


def seed(name: str, value: object) -> int:
    """Return `value` as a whole number from 0 to 2**63 - 1, or raise."""
    checked = whole(name, value, 0)
    if checked >= 2**63:
        raise ValueError(f"`{name}` must be a whole number below 2**63, got {shown(checked)}")
    return checked


def flag(name: str, value: object) -> bool:
    """Return `value` if it is True or False, or raise."""
    if not isinstance(value, bool):
        raise TypeError(f"`{name}` must be True or False, got {shown(value)}")
    return value


def choice(name: str, value: object, allowed: Sequence[str]) -> str:
    """Return `value` if it is one of `allowed`, or raise."""
    if not isinstance(value, str):
        raise TypeError(f"`{name}` must be one of {', '.join(allowed)}, got {shown(value)}")
    if value not in allowed:
        hint = did_you_mean(value, allowed)
        raise ValueError(f"`{name}` must be one of {', '.join(allowed)}, got {value!r}{hint}")
    return value


def learning_rate(group: dict[str, Any]) -> float | Tensor:
    """The learning rate of a param group: a number, or a 0-dim tensor.

    It is 1.0 where the group has none, or None: that optimizer finds its step sizes itself.

    Raises:
        ValueError: neither a number, nor a tensor with one element, nor None.
    """
    lr: object = group.get("lr")
    if isinstance(lr, float):
        return lr
    if lr is None:
        return 1.0
    if isinstance(lr, Tensor) and lr.numel() == 1 and not lr.is_complex():
        return lr if lr.ndim == 0 else lr.reshape(())
    if not isinstance(lr, bool) and isinstance(lr, Real):
        return float(lr)
    raise ValueError(
        f"`lr` of a param group must be a number, a tensor with one element or None, got {shown(cast(object, lr))}"
    )


def saved(
    name: str,
    value: object,
    shape: Sequence[int] | None = (),
    *,
    lowest: float | None = None,
    above: float | None = None,
    finite: bool = True,
) -> Tensor:
    """Check a number, or a tensor of numbers, of a saved state.

    Args:
        name: of the number, for the error.
        value: what the state holds.
        shape: the shape that it must have; None for any.
        lowest: the smallest value allowed; None: no limit.
        above: all values must be greater; None: no limit.
        finite: whether all values must be finite.

    Returns:
        `value` as a tensor.

    Raises:
        ValueError: another shape, or a value that is not finite or too small.
        TypeError: not a number or a tensor of real numbers.
    """
    if isinstance(value, (str, bytes, dict)) or value is None:
        raise TypeError(f"`{name}` must be a number, got {shown(cast(object, value))}")
    tensor = torch.as_tensor(value).detach()
    if tensor.is_complex():
        raise TypeError(f"`{name}` must be real, got {shown(tensor)}")
    if shape is not None and tensor.shape != tuple(shape):
        raise ValueError(f"`{name}` must have the shape {tuple(shape)}, got {tuple(tensor.shape)}")
    if finite and not bool(tensor.isfinite().all()):
        raise ValueError(f"`{name}` must be finite, got {shown(tensor)}")
    if lowest is not None and not bool((tensor >= lowest).all()):
        raise ValueError(f"`{name}` must be >= {lowest}, got {shown(tensor)}")
    if above is not None and not bool((tensor > above).all()):
        raise ValueError(f"`{name}` must be > {above}, got {shown(tensor)}")
    return tensor


def checked_module(model: object) -> nn.Module:
    """Return `model` if it is a module, or raise `TypeError`."""
    if not isinstance(model, nn.Module):
        raise TypeError(f"`model` must be a torch.nn.Module, got {shown(model)}")
    return model


def checked_scaler(grad_scaler: object) -> GradScaler | None:
    """Return `grad_scaler`, or None if it is None or disabled; raise `TypeError` if it is no scaler."""
    if grad_scaler is None:
        return None
    if not isinstance(grad_scaler, GradScaler):
        raise TypeError(f"`grad_scaler` must be a torch.amp.GradScaler or None, got {shown(grad_scaler)}")
    return grad_scaler if grad_scaler.is_enabled() else None


def part(name: str, value: object, kind: type[Part], default: Callable[[], Part]) -> Part:
    """Return a copy of `value` when it is a `kind`, a default one for None, or raise `TypeError`."""
    if value is None:
        return default()
    if not isinstance(value, kind):
        raise TypeError(f"`{name}` must be a letsam {kind.__name__} object or None, got {shown(value)}")
    return copy.deepcopy(value)
