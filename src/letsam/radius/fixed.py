"""A radius that never changes: SAM as published (arXiv:2010.01412), and the constant schedule."""

from __future__ import annotations

from .. import _checks
from .base import Radius


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
        super().__init__(_checks.not_negative("rho", rho, "the base optimizer alone"))

    def reads_ascent(self, step: int) -> bool:
        """There is nothing to decide."""
        return False
