"""Closures: the functions that a step calls to run a forward and backward pass.

`closure` has the contract and its checks, `returned` what a closure gives back, `accumulation` a closure over
micro-batches, `selection` a closure that descends on the samples whose loss the perturbation raises most,
`subset_ascent` one whose ascent uses a part of the batch, `batches` an endless iterator over validation batches.
"""

from .accumulation import accumulated
from .batches import EndlessBatches, endless
from .closure import Closure, InParts, ascent_of, checked_closure, evaluate, parts_of, require_gradients
from .returned import Returned, SkipStep, outputs_of, unpacked
from .selection import selected
from .subset_ascent import subset_ascent

__all__ = [
    "Closure",
    "EndlessBatches",
    "InParts",
    "Returned",
    "SkipStep",
    "accumulated",
    "ascent_of",
    "checked_closure",
    "endless",
    "evaluate",
    "outputs_of",
    "parts_of",
    "require_gradients",
    "selected",
    "subset_ascent",
    "unpacked",
]
