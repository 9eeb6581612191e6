"""Gradients between two steps: those that the last step left, and those that a loop has accumulated since.

A step runs its own passes and clears the gradients before each of them. Gradients that a loop has accumulated before
the step would be lost without a sign, so they are an error. Gradients that the last step left are not.

Compared are the tensor objects and torch's version counters, both of which the host knows without waiting.
"""

from __future__ import annotations

import weakref
from operator import attrgetter

from torch import Tensor

from ..tensors import Tensors, norm

Known = tuple[weakref.ReferenceType[Tensor] | None, int, int]  # gradient, its version, the version of the weight

_version = attrgetter("_version")
_living: list[weakref.ReferenceType[Leftovers]] = []


class Leftovers:
    """The gradients of the last step, by weight, held weakly so that clearing them frees their memory.

    The last step may be that of another letsam optimizer whose closure reaches the same weights.
    """

    def __init__(self) -> None:
        self._params: Tensors = ()
        self._known: dict[int, Known] = {}
        _living.append(weakref.ref(self, _living.remove))
        self._cleared_in_place = False  # whether the loop was seen to set gradients to zero by itself

    def note(self, params: Tensors) -> None:
        """Remember the present gradients as ones that nobody has accumulated."""
        gradients = [param.grad for param in params]
        held = [None if gradient is None else weakref.ref(gradient) for gradient in gradients]
        versions = [0 if gradient is None else gradient._version for gradient in gradients]
        known = zip(held, versions, map(_version, params), strict=True)
        self._params, self._known = params, dict(zip(map(id, params), known, strict=True))

    def step_ended(self, params: Tensors) -> None:
        """Remember what this step has left, also in the weights of other optimizers (two parts of a network, GANs)."""
        self.note(params)
        for reference in tuple(_living):
            other = reference()
            if other is not None and other is not self and other._touched():
                other.note(other._params)

    def _touched(self) -> bool:
        """Whether the first weight with a gradient has another one than at the last `note`."""
        for param in self._params:
            if (gradient := param.grad) is not None:
                left, version, _ = self._known[id(param)]
                return left is None or left() is not gradient or gradient._version != version
        return False

    def check(self, params: Tensors) -> None:
        """Raise `ValueError` if gradients have been accumulated since `note`.

        Weights that something else has changed since then, such as a step of the base optimizer alone or a loaded
        checkpoint, do not count: their gradients are older than this change. A loop may set gradients to zero in place
        by other means than the optimizer, which is visible only in their values. In that case the host reads one
        number, once in the life of an optimizer.
        """
        new: list[Tensor] = []
        changed: list[Tensor] = []
        for param in params:
            gradient = param.grad
            if gradient is None:
                continue
            left, version, weight = self._known.get(id(param), (None, 0, param._version))
            if param._version != weight:
                continue
            if left is None or left() is not gradient:
                new.append(gradient)
            elif gradient._version != version:
                changed.append(gradient)
        if changed and not new and not self._cleared_in_place:
            self._cleared_in_place = bool(norm(changed) == 0)
        if new or (changed and not self._cleared_in_place):
            count = len(new) + len(changed)
            raise ValueError(
                f"`step` must begin without gradients other than those of the last step, got others in {count} of "
                f"{len(params)} weights. It runs its own passes and would drop them. To accumulate gradients, give "
                "all micro-batches of a step to letsam.accumulated(); to drop them, call zero_grad() before step()"
            )
