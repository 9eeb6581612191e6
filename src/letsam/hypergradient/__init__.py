"""Estimators of the curvature term in the hypergradient: one per file."""

from .base import Hypergradient
from .diagonal import Diagonal
from .finite_difference import FiniteDifference
from .secant import Secant

HYPERGRADIENTS: dict[str, type[Hypergradient]] = {
    "secant": Secant,
    "finite_difference": FiniteDifference,
    "diagonal": Diagonal,
}

__all__ = ["HYPERGRADIENTS", "Diagonal", "FiniteDifference", "Hypergradient", "Secant"]
