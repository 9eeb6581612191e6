"""Closures: what a step calls for a pass, and ways to make one.

`closure` has the contract and its checks, `accumulation` a closure over micro-batches, `selection` one over the samples
that the perturbation hurts most.
"""

from .accumulation import accumulated
from .closure import Closure, InParts, checked_closure, evaluate, parts_of, require_gradients
from .selection import selected

__all__ = [
    "Closure",
    "InParts",
    "accumulated",
    "checked_closure",
    "evaluate",
    "parts_of",
    "require_gradients",
    "selected",
]
