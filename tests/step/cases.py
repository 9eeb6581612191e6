"""What the tests of steps share: radii, closures with a scaler or that fail, steps by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from learned_radius import learned_radius
from letsam import LearnedRadius, ReplayedRandomness, SharpnessAware
from oracle.problems import Batch, batch, closure_on, loss_on

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


def step_by_hand(model: nn.Module, opt: SharpnessAware, closure: Callable[[], Tensor]) -> None:
    """A step of two passes with equal dropout masks, as loops without closures make it."""
    same_masks = ReplayedRandomness(model)
    with same_masks:
        closure()
    opt.ascent_step()
    with same_masks:
        closure()
    opt.descent_step()


def failing_in(model: nn.Module, fail_at: int) -> Callable[[int], Callable[[], Tensor]]:
    """Makes closures on the batch of a seed; of all their calls together, number `fail_at` (from 1) raises."""
    calls = [0]

    def failing(seed: int) -> Callable[[], Tensor]:
        def closure() -> Tensor:
            calls[0] += 1
            loss = closure_on(model, batch(seed))()
            if calls[0] == fail_at:
                raise KeyboardInterrupt
            return loss

        return closure

    return failing
