"""What the tests of precision share: radii, and closures with a scaler."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from learned_radius import learned_radius
from letsam import LearnedRadius
from oracle.problems import Batch, batch, loss_on

Scaler = torch.amp.GradScaler

RADII: dict[str, Callable[[], Any]] = {
    "fixed": lambda: 0.1,
    "secant": lambda: learned_radius(0.1, interval=1, burn_in=0),
    "finite difference": lambda: learned_radius(0.1, hypergradient="finite_difference", interval=1),
    "paper": lambda: LearnedRadius.paper(0.1),
}


def scaled(model: nn.Module, data: Batch, scaler: Scaler | None) -> Callable[[], Tensor]:
    """A closure that scales where there is a scaler, and returns the loss itself."""

    def closure() -> Tensor:
        model.zero_grad()
        loss = loss_on(model, data)
        (loss if scaler is None else scaler.scale(loss)).backward()
        return loss

    return closure


def half(i: int) -> Batch:
    return batch(i, dtype=torch.float32)
