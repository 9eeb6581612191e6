"""What the adapters log of a step."""

from __future__ import annotations

from torch import Tensor

from ..optimizer import SharpnessAware

LOGGED = ("rho", "generalization_gap", "hypergradient")


def logged_metrics(optimizer: SharpnessAware) -> dict[str, Tensor]:
    """The radius and what has moved it; a fixed radius has no more than itself. Of many radii, the means (0-dim)."""
    return {name: optimizer.metrics[name].mean() for name in LOGGED if name in optimizer.metrics}
