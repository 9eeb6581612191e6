"""The metrics of a step that the adapters log."""

from __future__ import annotations

from torch import Tensor

from ..optimizer import SharpnessAware

LOGGED = ("rho", "generalization_gap", "hypergradient")


def logged_metrics(optimizer: SharpnessAware) -> dict[str, Tensor]:
    """The radius and, if it is learned, the generalization gap and hypergradient.

    Args:
        optimizer: a letsam optimizer that has taken at least one step.

    Returns:
        0-dim tensors by name; with many radii, means over them.
    """
    return {name: optimizer.metrics[name].mean() for name in LOGGED if name in optimizer.metrics}
