"""Perturbations: one variant per file."""

from .asam import AdaptiveAscent
from .base import Facts, Perturbation
from .memory import Memory, Remembering
from .sam import SteepestAscent

__all__ = ["AdaptiveAscent", "Facts", "Memory", "Perturbation", "Remembering", "SteepestAscent"]
