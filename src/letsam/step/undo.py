"""Undo a step of the base optimizer depending on a flag on the device, without reading the flag.

If the host read the flag, it would have to wait for the device at every step. Instead the base optimizer always steps,
and its state is restored afterwards if the flag says so. This takes the memory of a copy of the state. Copying and
restoring are a few operators, which write nothing in a finite step.
"""

from __future__ import annotations

from operator import is_
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from ..checks import learning_rate
from ..tensors import Buffers, Tensors, copy_unless_
from ..tensors.shards import local
from ..tensors.subclasses import dense_parts, filled_like

BEGINS_AT_ONE = ("mu_product", "mu")  # NAdam, ASGD
BEGINS_AT_LR = ("step_size", "eta")  # Rprop, ASGD

Place = tuple[dict[str, Any], str]


class StepGuard:
    """Copies the state of a base optimizer before its step, and restores it if the step was not finite."""

    def __init__(self) -> None:
        self._buffers = Buffers()
        self._found: list[Any] = []  # all state tensors, and the dicts that hold them
        self._places: list[Place] = []  # of the tensors with at least one entry
        self._live: list[Tensor] = []  # their memory: several tensors for a quantized one
        self._wrapped = False  # whether `_live` are other tensors than the state holds

    def save(self, base: Optimizer, finite: Tensor | None) -> None:
        """Copy the state unless `finite`.

        If the copy is made because the step is not finite, the state itself may contain anything afterwards: the step
        will be undone.

        Args:
            base: the base optimizer, before its step.
            finite: 0-dim bool; None: always copy.
        """
        found = _found(base)
        if not _same(found, self._found):
            self._found, self._places = found, _places(base)
            self._live = _dense(self._places)
            self._wrapped = len(self._live) != len(self._places) or any(
                state[name] is not live for (state, name), live in zip(self._places, self._live, strict=True)
            )
        if finite is None:
            self._buffers.copy_of(self._live)
        else:
            copy_unless_(finite, self._buffers.taking(self._live))

    def settle(self, base: Optimizer, finite: Tensor, params: Tensors, weights: Buffers) -> None:
        """Keep the base optimizer's step if `finite`, else restore its state and the weights.

        If the step is undone, state that it created gets the initial value that torch's optimizers use. (SGD has no
        initial momentum buffer; 0 is used, which makes a difference only with dampening.) A step counter on another
        device than the flag keeps counting, because combining them would make the host wait. A step that has been
        undone must not be settled again with False.

        Args:
            base: the base optimizer, after its step.
            finite: 0-dim bool; the one that `save` was given, if any.
            params: the weights that the base optimizer has changed.
            weights: copies of their values before the step.
        """
        unchanged = _same(_found(base), self._found)
        # an optimizer may have replaced a state tensor by a new one
        live = self._live if unchanged and not self._wrapped else _dense(self._places)
        copy_unless_(finite, weights.giving(params), self._buffers.giving(live))
        if unchanged:
            return
        known = {(id(state), name) for state, name in self._places}
        for group in base.param_groups:
            for name, whole in _fresh(base, group, known):
                value = _begins_at(group, name)
                for tensor, begun in zip(dense_parts(whole), dense_parts(filled_like(whole, value)), strict=True):
                    if tensor.device == finite.device:
                        torch.where(finite, local(tensor), local(begun), out=local(tensor))


def _begins_at(group: dict[str, Any], name: str) -> Any:
    """The initial value of a state tensor in torch's optimizers."""
    if name == "sum":  # Adagrad
        return group.get("initial_accumulator_value", 0.0)
    return learning_rate(group) if name in BEGINS_AT_LR else float(name in BEGINS_AT_ONE)


def _found(base: Optimizer) -> list[Any]:
    """All tensors in the base optimizer's state, and the dicts that hold them; loading a state replaces the dicts."""
    states = _states(base)
    return [*states, *(value for state in states for value in state.values() if isinstance(value, Tensor))]


def _states(base: Optimizer) -> list[dict[Any, Any]]:
    """The state dicts of the parameters, and `base.state` itself, which may hold further entries by name."""
    return [*(state for state in base.state.values() if isinstance(state, dict)), base.state]


def _same(some: list[Any], others: list[Any]) -> bool:
    return len(some) == len(others) and all(map(is_, some, others))


def _places(base: Optimizer) -> list[Place]:
    """Where the base optimizer keeps tensors: pairs of a state dict and a name in it."""
    return [(state, name) for state in _states(base) for name, value in state.items() if _holds(value)]


def _dense(places: list[Place]) -> list[Tensor]:
    """The tensors at these places, or those that they are made of."""
    return [part for state, name in places for part in dense_parts(state[name])]


def _fresh(base: Optimizer, group: dict[str, Any], known: set[tuple[int, str]]) -> list[tuple[str, Tensor]]:
    """The state tensors of a group that this step has created, with their names."""
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
    params = {p for group in base.param_groups for p in group["params"]}  # the state may have other keys
    return {p for p in params if p not in base.state or all(value is None for value in base.state[p].values())}
