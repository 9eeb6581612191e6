"""Undoing a step of the base optimizer on the device, where a flag says so, without reading the flag.

A host that looked at the flag would have to wait for the device at every step. Instead the base optimizer always
steps, and its state is selected afterwards. What it costs is one copy of the base optimizer's state.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from ._tensors import Buffers, Tensors

BEGINS_AT_ONE = ("mu_product", "mu")  # NAdam, ASGD
BEGINS_AT_LR = ("step_size", "eta")  # Rprop, ASGD


class StepGuard:
    """Copies the state of a base optimizer before its step, and puts it back where the step was not finite."""

    def __init__(self) -> None:
        self._buffers = Buffers()
        self._live: list[Tensor] = []
        self._copies: list[Tensor] = []

    def save(self, base: Optimizer) -> set[Tensor]:
        """Copy the state; returns the parameters that have none yet."""
        self._live = [t for t in _state_tensors(base) if t.numel() > 0]
        self._copies = self._buffers.copy_of(self._live) if self._live else []
        return {p for group in base.param_groups for p in group["params"] if not _has_state(base, p)}

    def settle(self, base: Optimizer, finite: Tensor, params: Tensors, weights: Tensors) -> None:
        """Keep the base optimizer's step where `finite`, else put back its state and the weights.

        State that this step has made becomes what torch's optimizers begin it with where it is undone (SGD has none to
        begin with: its first buffer then counts as 0, which only dampening tells from a first one). A step
        counter on another device than the flag keeps counting: comparing them would make the host wait.

        Args:
            base: the base optimizer, after its step.
            finite: 0-dim bool.
            params: the weights it has moved.
            weights: their values before.
        """
        for tensor, copy in (*zip(params, weights, strict=True), *zip(self._live, self._copies, strict=True)):
            if tensor.device == finite.device:
                torch.where(finite, tensor, copy, out=tensor)
        known = {id(tensor) for tensor in self._live}
        for group in base.param_groups:
            for name, tensor in _fresh(base, group, known):
                if tensor.device == finite.device:
                    begins_at = group["lr"] if name in BEGINS_AT_LR else float(name in BEGINS_AT_ONE)
                    torch.where(finite, tensor, torch.zeros_like(tensor) + begins_at, out=tensor)


def _state_tensors(base: Optimizer) -> list[Tensor]:
    return [value for state in base.state.values() for value in state.values() if isinstance(value, Tensor)]


def _fresh(base: Optimizer, group: dict[str, Any], known: set[int]) -> list[tuple[str, Tensor]]:
    """The named state tensors of a group that this step has made."""
    states = [base.state[param] for param in group["params"] if param in base.state]
    named = [(name, value) for state in states for name, value in state.items()]
    return [(name, value) for name, value in named if isinstance(value, Tensor) and id(value) not in known]


def _has_state(base: Optimizer, param: Tensor) -> bool:
    return any(value is not None for value in base.state.get(param, {}).values())
