"""Undoing a step of the base optimizer on the device, where a flag says so, without reading the flag.

A host that looked at the flag would have to wait for the device at every step. Instead the base optimizer always
steps, and its state is put back afterwards where the flag says so. What that takes is memory for a copy of the state;
copying it and putting it back are a few operators that touch nothing in a finite step.
"""

from __future__ import annotations

from operator import is_
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from ..tensors import Buffers, Tensors, copy_unless_
from ..tensors.shards import local

BEGINS_AT_ONE = ("mu_product", "mu")  # NAdam, ASGD
BEGINS_AT_LR = ("step_size", "eta")  # Rprop, ASGD

Place = tuple[dict[str, Any], str]


class StepGuard:
    """Copies the state of a base optimizer before its step, and puts it back where the step was not finite."""

    def __init__(self) -> None:
        self._buffers = Buffers()
        self._found: list[Any] = []  # all of the state, and the dicts that it is in
        self._places: list[Place] = []  # that hold something, and what they hold
        self._live: list[Tensor] = []

    def save(self, base: Optimizer, finite: Tensor | None) -> None:
        """Copy the state unless `finite` (0-dim bool), None: in any case.

        Where the copy is made, the state may hold anything afterwards: this step is undone.
        """
        found = _found(base)
        if not _same(found, self._found):
            self._found, self._places = found, _places(base)
            self._live = [state[name] for state, name in self._places]
        if finite is None:
            self._buffers.copy_of(self._live)
        else:
            copy_unless_(finite, self._buffers.taking(self._live))

    def settle(self, base: Optimizer, finite: Tensor, params: Tensors, weights: Buffers) -> None:
        """Keep the base optimizer's step where `finite`, else put back its state and the weights.

        State that this step has made becomes what torch's optimizers begin it with where it is undone (SGD has none to
        begin with: its first buffer then counts as 0, which only dampening tells from a first one). A step
        counter on another device than the flag keeps counting: comparing them would make the host wait.
        A step that is undone is so once and for all: it must not be settled again with False.

        Args:
            base: the base optimizer, after its step.
            finite: 0-dim bool; the one that `save` was given, if any.
            params: the weights it has moved.
            weights: hold a copy of their values before.
        """
        unchanged = _same(_found(base), self._found)
        # an optimizer may put a new tensor in the place of an old one
        live = self._live if unchanged else [state[name] for state, name in self._places]
        copy_unless_(finite, weights.giving(params), self._buffers.giving(live))
        if unchanged:
            return
        known = {(id(state), name) for state, name in self._places}
        for group in base.param_groups:
            for name, whole in _fresh(base, group, known):
                tensor = local(whole)
                if tensor.device == finite.device:
                    begun = (torch.zeros_like(tensor) + _begins_at(base, group, name)).to(tensor.dtype)
                    torch.where(finite, tensor, begun, out=tensor)


def _begins_at(base: Optimizer, group: dict[str, Any], name: str) -> Any:
    """The value that torch's optimizers begin a state with."""
    if name == "sum":  # Adagrad
        return base.defaults.get("initial_accumulator_value", 0.0)
    return group["lr"] if name in BEGINS_AT_LR else float(name in BEGINS_AT_ONE)


def _found(base: Optimizer) -> list[Any]:
    """All tensors in the base optimizer's state, and the dicts that they are in, which loading makes anew."""
    states = _states(base)
    return [*states, *(value for state in states for value in state.values() if isinstance(value, Tensor))]


def _states(base: Optimizer) -> list[dict[Any, Any]]:
    """Those of the parameters, and the whole, which may hold more under names."""
    return [*(state for state in base.state.values() if isinstance(state, dict)), base.state]


def _same(some: list[Any], others: list[Any]) -> bool:
    return len(some) == len(others) and all(map(is_, some, others))


def _places(base: Optimizer) -> list[Place]:
    """Where the base optimizer keeps tensors: the state of a parameter or the whole, and a name in it."""
    return [(state, name) for state in _states(base) for name, value in state.items() if _holds(value)]


def _fresh(base: Optimizer, group: dict[str, Any], known: set[tuple[int, str]]) -> list[tuple[str, Tensor]]:
    """The named state tensors of a group that this step has made."""
    states = [base.state[param] for param in group["params"] if param in base.state]
    return [
        (name, value)
        for state in states
        for name, value in state.items()
        if _holds(value) and (id(state), name) not in known
    ]


def _holds(value: object) -> bool:
    return isinstance(value, Tensor) and value.numel() > 0


def without_state(base: Optimizer) -> set[Tensor]:
    """The parameters for which the base optimizer has no state yet."""
    params = {p for group in base.param_groups for p in group["params"]}  # the state may hold more than theirs
    return {p for p in params if p not in base.state or all(value is None for value in base.state[p].values())}
