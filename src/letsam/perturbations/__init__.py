"""Perturbations: one variant per file."""

from .asam import ASAMPerturbation
from .base import Facts, Perturbation
from .memory import Memory, PerturbationWithMemory
from .sam import SAMPerturbation

__all__ = ["ASAMPerturbation", "Facts", "Memory", "Perturbation", "PerturbationWithMemory", "SAMPerturbation"]
