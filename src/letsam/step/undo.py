"""Undo a step of the base optimizer depending on a flag on the device, without reading the flag.

If the host read the flag, it would have to wait for the device at every step. Instead the base optimizer always steps,
and its state is restored afterwards if the flag says so. This takes the memory of a copy of the state. Copying and
restoring are a few operators, which write nothing in a finite step.

Only tensors can be restored in this way. For base optimizers that keep anything else (see `python_state`), the host
reads the flag, and leaves out the step of the base optimizer if it is not finite.
"""

from __future__ import annotations

from operator import is_
from typing import Any, cast

import torch
from torch import Tensor
from torch.optim import Optimizer

from ..checks import learning_rate
from ..joint import optimizers_in
from ..tensors import Buffers, Pair, Tensors, copy_, copy_unless_, gradients_of
from ..tensors.shards import local
from ..tensors.subclasses import dense_parts, filled_like
from .python_state import PythonValues, StateGraph, is_known, keeps_tensors_only

BEGINS_AT_ONE = ("mu_product", "mu")  # NAdam, ASGD
BEGINS_AT_LR = ("step_size", "eta")  # Rprop, ASGD

Place = tuple[dict[str, Any], str]


class StepGuard:
    """Prepares a step of the base optimizer, and takes it back if it must not count."""

    def __init__(self) -> None:
        self._buffers = Buffers()
        self._found: list[Any] = []  # all state tensors, and the dicts that hold them
        self._places: list[Place] = []  # of the tensors with at least one entry
        self._live: list[Tensor] = []  # their memory: several tensors for a quantized one
        self._wrapped = False  # whether `_live` are other tensors than the state holds
        self._copied = False  # whether the buffers hold the state before this step, whatever the flag says
        self._trusted = False  # whether the last step of an unknown base optimizer has changed tensors only
        self._on_host = False  # whether this step is left to the host
        self._values: PythonValues | None = None  # of an unknown base optimizer
        self._graph: StateGraph | None = None  # the same, if the host may have to undo a finite step

    def save(self, base: Optimizer, finite: Tensor, params: Tensors, later: bool) -> bool:
        """Prepare for a step of the base optimizer that may be undone.

        State in tensors is copied unless `finite`. If the copy is made because the step is not finite, the state itself
        may contain anything afterwards: the step will be undone. For base optimizers that keep anything else, the host
        reads the flag.

        A base optimizer that is not torch's own never sees a gradient that is not finite, because it could raise. Where
        the device undoes its step, it is given the weights as gradients.

        Args:
            base: the base optimizer, before its step.
            finite: 0-dim bool.
            params: the trainable weights.
            later: whether the step may have to be undone although it is finite; then the state is always copied.

        Returns:
            Whether the base optimizer is to step.
        """
        known = is_known(base)
        self._on_host = not (known or self._trusted)
        self._values = self._graph = None
        self._copied = later
        if (self._on_host or _begins_otherwise(base)) and not bool(finite):
            self._copied = False
            return False
        if not known:
            self._values = PythonValues(base)
        if self._on_host:
            self._graph = StateGraph(base, params) if later else None
            return True
        if not known:
            present = [p for p in params if p.grad is not None]
            copy_unless_(finite, Pair.of(gradients_of(present), present))
        found = _found(base)
        if not _same(found, self._found):
            self._found, self._places = found, _places(base)
            self._live = _dense(self._places)
            self._wrapped = len(self._live) != len(self._places) or any(
                state[name] is not live for (state, name), live in zip(self._places, self._live, strict=True)
            )
        if later:
            self._buffers.copy_of(self._live)
        else:
            copy_unless_(finite, self._buffers.taking(self._live))
        return True

    def settle(self, base: Optimizer, finite: Tensor, params: Tensors, weights: Buffers) -> None:
        """Keep the base optimizer's step if `finite`, else restore its state and the weights.

        If the step is undone, state that it created gets the initial value that torch's optimizers use. A step counter
        on another device than the flag keeps counting, because combining them would make the host wait. A step that has
        been undone must not be settled again with False.

        Args:
            base: the base optimizer, after its step.
            finite: 0-dim bool; the one that `save` was given, if any.
            params: the weights that the base optimizer has changed.
            weights: copies of their values before the step.
        """
        if self._on_host:
            self._settle_on_host(finite, params, weights)
            return
        if self._values is not None and self._values.changed():
            self._trusted = False
            if not bool(finite):
                self._values.put_back()
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

    def judge(self, base: Optimizer) -> None:
        """After a step that was left to the host: whether the device can undo the next one."""
        if self._on_host and self._values is not None:
            only_tensors = all(keeps_tensors_only(one) for one in optimizers_in(base))
            self._trusted = only_tensors and not self._values.changed()

    def interrupt(self, base: Optimizer, params: Tensors, weights: Buffers) -> None:
        """The base optimizer's step was interrupted: restore the weights, and the state as far as it was copied.

        State that the step has created is removed, so that the next step makes it. Without a copy, some moments may
        have been updated.
        """
        copy_(params, weights.like(params))
        if self._graph is not None:
            self._graph.put_back()
        elif self._values is not None:
            self._values.put_back()
        if self._on_host:
            return
        if self._copied:
            live = _dense(self._places)
            copy_(live, self._buffers.like(live))
        before = {id(found) for found in self._found}
        states: dict[Any, Any] = dict(base.state)
        for key, state in states.items():
            if isinstance(state, dict) and id(cast(Any, state)) not in before:
                del base.state[key]

    def _settle_on_host(self, finite: Tensor, params: Tensors, weights: Buffers) -> None:
        if self._graph is not None and not bool(finite):
            copy_(params, weights.like(params))
            self._graph.put_back()


def _begins_otherwise(base: Optimizer) -> bool:
    """Whether the step makes a momentum of SGD with dampening: its first value is a gradient, without dampening."""
    groups = [group for group in base.param_groups if group.get("dampening") and group.get("momentum")]
    params = [p for group in groups for p in group["params"] if p.grad is not None]
    return any(base.state.get(p, {}).get("momentum_buffer") is None for p in params)


def _begins_at(group: dict[str, Any], name: str) -> Any:
    """The initial value of a state tensor in torch's optimizers."""
    if name == "sum":  # Adagrad
        return group.get("initial_accumulator_value", 0.0)
    return learning_rate(group) if name in BEGINS_AT_LR else float(name in BEGINS_AT_ONE)


def _found(base: Optimizer) -> list[Any]:
    """All tensors in the base optimizer's state, and the dicts that hold them; loading a state replaces the dicts."""
    states = _states(base)
    return states + [value for state in states for value in state.values() if isinstance(value, Tensor)]


def _states(base: Optimizer) -> list[dict[Any, Any]]:
    """The state dicts of the parameters, and `base.state` itself, which may hold further entries by name."""
    states: list[dict[Any, Any]] = [state for state in base.state.values() if isinstance(state, dict)]
    return [*states, base.state]


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
