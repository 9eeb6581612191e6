"""The passes of a step: closures are run, with buffers, random numbers, loss scaling and ranks as they must be."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ..closures import Closure, evaluate
from . import precision
from .randomness import devices_of
from .ranks import Ranks
from .replay import Replay


class Passes:
    """Runs closures.

    Args:
        optimizer: whose gradients are cleared before each pass, and which a gradient scaler knows.
        ranks: the processes over which losses are averaged.

    Attributes:
        model: whose buffers a step moves once; None leaves buffers alone.
        replay: buffers and random numbers of the step under way.
        scaler: of the step under way.
    """

    def __init__(self, optimizer: Optimizer, ranks: Ranks) -> None:
        self._optimizer = optimizer
        self.ranks = ranks
        self.scaler: torch.amp.GradScaler | None = None
        self.look_after(None)

    def look_after(self, model: nn.Module | None) -> None:
        """Move the buffers of this model once a step."""
        self.model = model
        self.replay = Replay(model)

    def begin(self, params: list[Tensor]) -> None:
        """Before the first pass of a step."""
        self.replay.begin(devices_of(params))

    def scale_by(self, grad_scaler: object) -> None:
        """Unscale the gradients of all passes of this step by a gradient scaler, or by none."""
        self.scaler = precision.begin(grad_scaler, self._optimizer)

    def unscale_(self, params: list[Tensor]) -> None:
        """Unscale the gradients of a pass."""
        precision.unscale_(self.scaler, self._optimizer, params)

    def train(self, closure: Closure, params: list[Tensor]) -> Tensor:
        """A training pass: buffers and random numbers as in every other one of this step. Returns the loss."""
        self.replay.again()
        return self._run(closure, "closure", params)

    def validate(self, closure: Closure, params: list[Tensor], step: int) -> Tensor:
        """A validation pass: it leaves no trace, and its random numbers are its own. Returns the loss."""
        self.replay.aside(step)
        return self._run(closure, "validation_closure", params)

    def along_own_gradient(self, applies: bool = True) -> AbstractContextManager[Any]:
        """A context for the pass that the ascent climbs along; with m-sharpness its gradient is not averaged."""
        return self.ranks.ascent_pass(self.model if applies else None)

    def end(self, finite: Tensor) -> None:
        """After the last pass of a step."""
        self.replay.end(finite)
        precision.record(self.scaler, self._optimizer, finite)

    def _run(self, closure: Closure, name: str, params: list[Tensor]) -> Tensor:
        self._optimizer.zero_grad()  # a closure without backward() must not pass with the gradients of the pass before
        torch.clear_autocast_cache()  # casts of the weights before they moved, where autocast is around the whole step
        loss = evaluate(closure, name, params)
        self.unscale_(params)
        return self.ranks.mean(loss)
