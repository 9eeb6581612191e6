"""Perturbations: one variant per file."""

from .asam import AdaptiveAscent
from .base import Perturbation
from .sam import SteepestAscent

__all__ = ["AdaptiveAscent", "Perturbation", "SteepestAscent"]
