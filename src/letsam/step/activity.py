"""Which steps are active: may perturb the weights. In the others the base optimizer steps alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias, cast

from .. import checks

Active: TypeAlias = "range | Callable[[int], bool]"


def checked_active(active: object) -> Active | None:
    """Return `active` if it is a range, a function or None; raise otherwise.

    Raises:
        TypeError: it is none of these.
        ValueError: a range without a step, such as `range(0)`.

    Example:
        >>> checked_active(range(100, 200))
        range(100, 200)
    """
    if isinstance(active, range):
        if not any(step >= 0 for step in active):
            raise ValueError(f"`active` must hold at least one step (from 0), got {active}")
        return active
    if active is None or callable(active):
        return cast("Active | None", active)
    raise TypeError(f"`active` must be a range of steps, a function of the step or None, got {checks.shown(active)}")


def is_active(active: Active, step: int) -> bool:
    """Whether step number `step` (from 0) is active.

    Raises:
        TypeError: the function returned neither True nor False.

    Example:
        >>> is_active(range(100, 200), 99), is_active(lambda step: step >= 100, 500)
        (False, True)
    """
    return step in active if isinstance(active, range) else checks.flag("active", active(step))
