"""What the tests of radii share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from letsam import SAM
from letsam.radius import Radius
from oracle.problems import batch, closure_on, network


def radii(radius: Radius, steps: int, scheduler: Callable[[Any], Any] | None = None, lr: float = 0.1) -> list[float]:
    """The radii that a training run really uses."""
    model = network()
    opt = SAM(torch.optim.SGD(model.parameters(), lr=lr), rho=radius)
    schedule = scheduler(opt) if scheduler else None
    used = []
    for i in range(steps):
        opt.step(closure_on(model, batch(i)))
        assert opt.metrics["rho"] == opt.rho
        used.append(opt.rho.item())
        if schedule:
            schedule.step()
    return used
