"""The constant radius of SAM as published (arXiv:2010.01412)."""

from __future__ import annotations

import copy

from torch import Tensor

from .. import checks
from .base import Radius, Wants


class FixedRadius(Radius):
    """rho_t = rho.

    Args:
        rho: > 0, in units of the weights (ASAM: relative to them); 0 gives the base optimizer's own steps, bit for bit.

    Raises:
        ValueError: `rho` is negative, infinite or NaN.

    Example:
        >>> FixedRadius(0.05).rho
        tensor(0.0500, dtype=torch.float64)

    Reference:
        arXiv:2010.01412, equation (2).
    """

    def __init__(self, rho: float) -> None:
        super().__init__(checks.not_negative("rho", rho, "the base optimizer alone"))

    def wants(self, step: int) -> Wants:
        """Nothing: the radius is constant."""
        return Wants(first_pass=False)


def as_radius(rho: object) -> Radius:
    """A copy of a radius, or a `FixedRadius` for a number.

    Args:
        rho: a `Radius`, or a number >= 0 (a 0-dim tensor is possible).

    Returns:
        A radius that belongs to the caller.

    Raises:
        TypeError: `rho` is neither.
        ValueError: a number < 0.
    """
    if isinstance(rho, Radius):
        return copy.deepcopy(rho)
    if isinstance(rho, Tensor) and rho.ndim == 0:
        rho = rho.item()
    if isinstance(rho, bool) or not isinstance(rho, (int, float)):
        raise TypeError(f"`rho` must be a number > 0, a schedule or a LearnedRadius, got {checks.shown(rho)}")
    return FixedRadius(float(rho))
