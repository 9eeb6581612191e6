"""Perturbations: the direction in which a step climbs and the gradient that it descends with; one variant per file.

`base` has the interface, `memory` keeps tensors from one step to the next, `units` scales the perturbation by the size
of the weights, `decoupled` applies an update past the base optimizer.
"""

from .asam import ASAMPerturbation
from .base import Facts, Perturbation
from .memory import Memory, PerturbationWithMemory
from .sam import SAMPerturbation

__all__ = ["ASAMPerturbation", "Facts", "Memory", "Perturbation", "PerturbationWithMemory", "SAMPerturbation"]
