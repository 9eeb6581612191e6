"""Memory: one tensor per weight that a perturbation keeps from step to step; a skipped step leaves it unchanged."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .. import checks
from ..tensors import Pair, Tensors, copy_, copy_unless_, scalar_dtype
from ..tensors.shards import local
from .base import Perturbation

State = dict[str, dict[int, Tensor]]


class Memory:
    """One tensor per weight, 0 until the first step that is kept. Takes the memory of two copies of the weights.

        begin     during a step: copies of the values, which the step may change
        commit    at its end: keeps the copies if the step is finite
        discard   if the step is abandoned: keeps the old values

    Whether a weight has a value yet is stored on the device, because only the device knows if a step was skipped.

    Example:
        >>> memory, weight = Memory(), torch.zeros(2)
        >>> for finite in (True, False):  # the second step is skipped
        ...     _ = memory.begin([weight])[0].add_(1.0)
        ...     memory.commit(torch.tensor(finite))
        >>> memory.values([weight])
        [tensor([1., 1.])]
    """

    def __init__(self) -> None:
        self._order: list[Tensor] = []
        self._values: dict[Tensor, Tensor] = {}
        self._begun: dict[Tensor, Tensor] = {}  # 0-dim: 1 where there is a value, 0 where there is none yet
        self._work: dict[Tensor, Tensor] = {}
        self._open: list[Tensor] = []

    def attach(self, param_groups: list[dict[str, Any]]) -> None:
        """Store the order of the weights, which the saved state refers to."""
        self._order = [p for group in param_groups for p in group["params"]]

    def begin(self, weights: Tensors) -> list[Tensor]:
        """Copies of the values of these weights, which may be changed in place until the step ends."""
        self._make(weights)
        self._open = list(weights)
        for w in weights:
            if w not in self._work or not _fits(self._work[w], w):
                self._work[w] = torch.empty_like(self._values[w])
        work = [self._work[w] for w in weights]
        copy_(work, self.values(weights))
        return work

    def average_(self, weights: Tensors, gradients: Tensors, share: float) -> list[Tensor]:
        """average <- (1 - share) average + share gradient; the first gradient of a weight becomes its average."""
        averages = self.begin(weights)
        for w, average, gradient in zip(weights, averages, gradients, strict=True):
            begun = self._begun[w].to(average.dtype)
            local(average).lerp_(local(gradient), 1 - begun * (1 - share))
        return averages

    def fill_(self, weights: Tensors, parts: Tensors) -> None:
        """After `begin`: set the weights that have no value yet to these parts (local parts, for DTensors)."""
        for w, part in zip(weights, parts, strict=True):
            local(self._work[w]).addcmul_(part, (1 - self._begun[w]).to(part.dtype))

    def values(self, weights: Tensors) -> list[Tensor]:
        """The values of these weights from the steps before this one; must not be changed."""
        self._make(weights)
        return [self._values[w] for w in weights]

    def values_or_ones(self, weights: Tensors) -> list[Tensor]:
        """Like `values`, in new tensors, with ones for weights that have no value yet."""
        values = self.values(weights)
        return [value + (1 - self._begun[w]).to(value.dtype) for w, value in zip(weights, values, strict=True)]

    def _make(self, weights: Tensors) -> None:
        for w in weights:
            if w not in self._values:
                self._values[w] = torch.zeros_like(w, requires_grad=False)
                self._begun[w] = torch.zeros((), dtype=scalar_dtype([w]), device=w.device)
            elif not _fits(self._values[w], w):
                self._values[w] = self._values[w].to(w.device, w.dtype)
                self._begun[w] = self._begun[w].to(w.device)

    def commit(self, finite: Tensor) -> None:
        """Keep the values of this step if `finite` (0-dim bool)."""
        for device in dict.fromkeys(w.device for w in self._open):
            weights = [w for w in self._open if w.device == device]
            flag = finite.to(device)
            copy_unless_(~flag, Pair.of([self._values[w] for w in weights], [self._work[w] for w in weights]))
            for w in weights:
                self._begun[w] = torch.where(flag, torch.ones_like(self._begun[w]), self._begun[w])
        self._open = []

    def discard(self) -> None:
        """Keep the values from before the step."""
        self._open = []

    def state_dict(self) -> State:
        """The values, by the position of the weight in the param groups."""
        known = [(i, p) for i, p in enumerate(self._order) if p in self._values]
        return {
            "values": {i: self._values[p].clone() for i, p in known},
            "begun": {i: self._begun[p].clone() for i, p in known},
        }

    def loaded(self, state: State) -> Memory:
        """A new memory of the same weights with the saved values, in the dtypes of the weights."""
        new = Memory()
        new._order = self._order
        if state["values"].keys() != state["begun"].keys():
            raise ValueError("`begun` must be given for the weights with `values` alone")
        for i, value in state["values"].items():
            if i not in range(len(self._order)):
                raise ValueError(f"`values` must be of weights 0 to {len(self._order) - 1}, got {checks.shown(i)}")
            weight = self._order[i]
            checks.saved(f"values[{i}]", value, weight.shape)
            checks.saved(f"begun[{i}]", state["begun"][i], lowest=0.0)
            new._values[weight] = value.to(weight.device, weight.dtype, copy=True)
            new._begun[weight] = state["begun"][i].to(weight.device, scalar_dtype([weight]), copy=True)
        return new


def _fits(value: Tensor, weight: Tensor) -> bool:
    """Whether the weight still has the device and dtype of its value."""
    return value.device == weight.device and value.dtype == weight.dtype


class PerturbationWithMemory(Perturbation):
    """A perturbation with a `memory` that finite steps update, other steps leave unchanged, and `state_dict` saves.

    With several base classes, list this one first, and call `super().__init__()` in the subclass.

    Example:
        >>> class Delayed(PerturbationWithMemory):  # climbs along the previous gradient
        ...     def direction(self, weights, gradients, gradient_norm):
        ...         previous = [value.clone() for value in self.memory.values(weights)]
        ...         copy_(self.memory.begin(weights), gradients)
        ...         copy_(gradients, previous)
        ...         return torch.ones_like(gradient_norm)
        >>> perturbation, weight = Delayed(), torch.zeros(2)
        >>> for g in (torch.tensor([3.0, 0.0]), torch.tensor([0.0, 4.0])):
        ...     factor = perturbation.direction([weight], [g], g.norm())
        ...     perturbation.commit(torch.tensor(True))
        >>> factor * g
        tensor([3., 0.])
    """

    def __init__(self) -> None:
        self.memory = Memory()

    def attach(self, param_groups: list[dict[str, Any]]) -> None:
        """Pass the param groups on to the memory."""
        self.memory.attach(param_groups)

    def commit(self, finite: Tensor) -> None:
        """Keep the memory of this step if it is finite."""
        self.memory.commit(finite)

    def discard(self) -> None:
        """Keep the memory from before the step."""
        self.memory.discard()

    def state_dict(self) -> dict[str, Any]:
        """The memory's state."""
        return {"memory": self.memory.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state that `state_dict` returned."""
        self.memory = self.memory.loaded(state["memory"])
