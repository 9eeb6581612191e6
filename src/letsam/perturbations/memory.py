"""Memory: a tensor for each weight that a perturbation remembers from step to step, and that a skipped step undoes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..tensors import Pair, Tensors, copy_, copy_unless_, scalar_dtype
from ..tensors.shards import local
from .base import Perturbation

State = dict[str, dict[int, Tensor]]


class Memory:
    """One tensor per weight, 0 until the first step that is kept; two copies of the weights.

        begin     the values, copied, to be changed        during a step
        commit    the copies where the step is finite      at its end
        discard   the values of before                     where it comes to nothing

    Which weights have a value yet is known to the device alone: a first step may have been skipped.
    """

    def __init__(self) -> None:
        self._order: list[Tensor] = []
        self._values: dict[Tensor, Tensor] = {}
        self._begun: dict[Tensor, Tensor] = {}  # 0-dim: 1 where there is a value, 0 where there is none yet
        self._work: dict[Tensor, Tensor] = {}
        self._open: list[Tensor] = []

    def attach(self, param_groups: list[dict[str, Any]]) -> None:
        """Remember the order of the weights, by which the memory is saved."""
        self._order = [p for group in param_groups for p in group["params"]]

    def begin(self, weights: Tensors) -> list[Tensor]:
        """The values of these weights, to be changed in place until the step ends."""
        self._make(weights)
        self._open = list(weights)
        for w in weights:
            if w not in self._work or not _fits(self._work[w], w):
                self._work[w] = torch.empty_like(self._values[w])
        work = [self._work[w] for w in weights]
        copy_(work, self.values(weights))
        return work

    def average_(self, weights: Tensors, gradients: Tensors, share: float) -> list[Tensor]:
        """Move the averages of these weights by `share` towards the gradients; a first gradient is taken whole."""
        averages = self.begin(weights)
        for w, average, gradient in zip(weights, averages, gradients, strict=True):
            begun = self._begun[w].to(average.dtype)
            local(average).lerp_(local(gradient), 1 - begun * (1 - share))
        return averages

    def fill_(self, weights: Tensors, parts: Tensors) -> None:
        """After `begin`: these parts (of DTensors, this process's) for weights of which nothing is remembered yet."""
        for w, part in zip(weights, parts, strict=True):
            local(self._work[w]).addcmul_(part, (1 - self._begun[w]).to(part.dtype))

    def values(self, weights: Tensors) -> list[Tensor]:
        """What is remembered of these weights, from the steps before this one; not to be changed."""
        self._make(weights)
        return [self._values[w] for w in weights]

    def values_or_ones(self, weights: Tensors) -> list[Tensor]:
        """The same in new tensors, with 1 for weights of which nothing is remembered yet."""
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
        """Keep the values of the step where `finite` (0-dim bool)."""
        for device in dict.fromkeys(w.device for w in self._open):
            weights = [w for w in self._open if w.device == device]
            flag = finite.to(device)
            copy_unless_(~flag, Pair.of([self._values[w] for w in weights], [self._work[w] for w in weights]))
            for w in weights:
                self._begun[w] = torch.where(flag, torch.ones_like(self._begun[w]), self._begun[w])
        self._open = []

    def discard(self) -> None:
        """Keep the values of before the step."""
        self._open = []

    def state_dict(self) -> State:
        """By the position of the weight among all of the groups."""
        known = [(i, p) for i, p in enumerate(self._order) if p in self._values]
        return {
            "values": {i: self._values[p].clone() for i, p in known},
            "begun": {i: self._begun[p].clone() for i, p in known},
        }

    def loaded(self, state: State) -> Memory:
        """A memory of the same weights with the values that `state_dict` gave, in the dtypes of the weights."""
        new = Memory()
        new._order = self._order
        for i, value in state["values"].items():
            weight = self._order[i]
            new._values[weight] = value.to(weight.device, weight.dtype, copy=True)
            new._begun[weight] = state["begun"][i].to(weight.device, copy=True)
        return new


def _fits(value: Tensor, weight: Tensor) -> bool:
    """Whether the weight is still where, and of the dtype that, it was when its value was made."""
    return value.device == weight.device and value.dtype == weight.dtype


class PerturbationWithMemory(Perturbation):
    """A perturbation with a `memory`: kept at the end of a finite step, undone with any other, saved and loaded.

    Goes first among the bases of a class, whose `__init__` calls this one's.
    """

    def __init__(self) -> None:
        self.memory = Memory()

    def attach(self, param_groups: list[dict[str, Any]]) -> None:
        """Remember by weight."""
        self.memory.attach(param_groups)

    def commit(self, finite: Tensor) -> None:
        """Keep what the step has made of it."""
        self.memory.commit(finite)

    def discard(self) -> None:
        """Keep what was there before."""
        self.memory.discard()

    def state_dict(self) -> dict[str, Any]:
        """What is remembered."""
        return {"memory": self.memory.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self.memory = self.memory.loaded(state["memory"])
