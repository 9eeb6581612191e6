"""The passes of a step: runs closures, and handles state, random numbers, loss scaling and ranks around them."""

from __future__ import annotations

import weakref
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ..closures import Closure, Returned, evaluate
from ..radius import Wants
from . import precision
from .calibration import OutputCalibration
from .leftovers import Leftovers
from .randomness import devices_of
from .ranks import Ranks
from .replay import Replay


class Passes:
    """Runs the closures of a step.

    Args:
        optimizer: its gradients are cleared before each pass; a gradient scaler keeps its state under this object.
        ranks: the processes over which losses are averaged.

    Attributes:
        model: the network whose state changes once per step; None: its state is not handled.
        replay: state of the modules and random numbers of the current step.
        scaler: gradient scaler of the current step.
        leftovers: the gradients that the last step left.
    """

    def __init__(self, optimizer: Optimizer, ranks: Ranks) -> None:
        self._owner = weakref.ref(optimizer)  # which holds these passes: memory must be freed with the last reference
        self.ranks = ranks
        self.leftovers = Leftovers()
        self.scaler: torch.amp.GradScaler | None = None
        self.handle_state_of(None)

    @property
    def _optimizer(self) -> Optimizer:
        owner = self._owner()
        assert owner is not None
        return owner

    def handle_state_of(self, model: nn.Module | None) -> None:
        """Change the state of this model only once per step."""
        self.model = model
        self.replay = Replay(model)

    def begin(self, params: list[Tensor]) -> None:
        """Before the first pass of a step."""
        self.replay.begin(devices_of(params), params)

    def conclude(self, finite: Tensor) -> None:
        """Before the base optimizer's step: what it draws at random or changes on modules is not taken back."""
        self.replay.conclude(finite)

    def scale_by(self, grad_scaler: object) -> None:
        """Set the gradient scaler of this step, or None; the gradients of all passes are unscaled with it."""
        self.scaler = precision.begin(grad_scaler, self._optimizer)

    def unscale_(self, params: list[Tensor]) -> None:
        """Unscale the gradients of a pass."""
        precision.unscale_(self.scaler, self._optimizer, params)

    def train(
        self, closure: Closure, params: list[Tensor], context: AbstractContextManager[Any] | None = None
    ) -> Returned:
        """A training pass, within a context if there is one; all of a step start from the same state."""
        self.replay.before_training()
        with context or nullcontext():
            return self._run(closure, "closure", params)

    def validate(self, closure: Closure, params: list[Tensor], step: int, wants: Wants) -> tuple[Tensor, Tensor | None]:
        """A validation pass; it leaves no trace on modules and generators, and has its own random stream.

        Returns:
            The loss, and what it would gain with random labels (0-dim): None if its outputs are not known.
        """
        self.replay.before_validation(step)
        if not wants.calibrates and wants.label_noise is None:
            return self._run(closure, "validation_closure", params).loss, None
        with OutputCalibration(wants.label_noise, one_sided=wants.calibrates) as calibration:
            loss = self._evaluated(closure, "validation_closure", params).loss
        if calibration.gain is None:
            return self.ranks.mean(loss), None
        gain = calibration.gain if self.scale is None else calibration.gain / self.scale
        loss, gain = self.ranks.mean(torch.stack([loss, gain.to(loss)])).unbind()
        return loss, gain

    def along_own_gradient(self, applies: bool = True) -> AbstractContextManager[Any]:
        """A context for the pass whose gradient the ascent uses; with m-sharpness, processes do not average it."""
        return self.ranks.ascent_pass(self.model if applies else None)

    @property
    def scale(self) -> Tensor | None:
        """The factor of the losses in the passes of this step (0-dim); None without a gradient scaler."""
        return precision.scale_of(self.scaler)

    def end(self, finite: Tensor, held_out: Tensor | None) -> None:
        """After the last pass of a step; the flags (0-dim bool) are of its training and validation passes."""
        self.replay.end(finite)
        precision.record(self.scaler, self._optimizer, finite, held_out)

    def skip(self) -> None:
        """A closure has skipped the step: leave no gradients, and let the scaler's `update()` keep its scale."""
        self._optimizer.zero_grad()
        precision.record_skipped(self.scaler, self._optimizer)

    def _run(self, closure: Closure, name: str, params: list[Tensor]) -> Returned:
        loss, outputs = self._evaluated(closure, name, params)
        return Returned(self.ranks.mean(loss), outputs)

    def _evaluated(self, closure: Closure, name: str, params: list[Tensor]) -> Returned:
        self._optimizer.zero_grad()  # else a closure without backward() would go unnoticed: old gradients are there
        torch.clear_autocast_cache()  # it holds casts of weights that have moved since, if autocast is around the step
        returned = evaluate(closure, name, params)
        self.unscale_(params)
        return returned
