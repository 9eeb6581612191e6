"""Estimators of the curvature term in the hypergradient, under their public name; the code is in `letsam.tangent`."""

from .tangent.diagonal import Diagonal
from .tangent.estimator import Hypergradient
from .tangent.finite_difference import FiniteDifference
from .tangent.secant import Secant

HYPERGRADIENTS: dict[str, type[Hypergradient]] = {
    "secant": Secant,
    "finite_difference": FiniteDifference,
    "diagonal": Diagonal,
}

__all__ = ["HYPERGRADIENTS", "Diagonal", "FiniteDifference", "Hypergradient", "Secant"]
