"""Radii that follow a schedule given beforehand. None ever leaves the interval between its end points."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .. import _checks
from .base import Ascent, Radius


class ScheduledRadius(Radius):
    """rho_t = end + (start - end) * weight(min(t / steps, 1)), with a weight that falls from 1 to 0.

    Args:
        start: radius of the first step, > 0.
        end: radius from step `steps` on, > 0.
        steps: length of the schedule in optimizer steps, >= 1.

    Raises:
        ValueError: an argument out of range.
    """

    def __init__(self, start: float, end: float, steps: int) -> None:
        self.start = _checks.positive("start", start)
        self.end = _checks.positive("end", end)
        self.steps = _checks.whole("steps", steps, 1)
        super().__init__(self.start)

    def weight(self, fraction: float) -> float:
        """The share of `start` in the radius after this fraction of the schedule (0 to 1)."""
        raise NotImplementedError

    def reads_ascent(self, step: int) -> bool:
        """The step and the learning rate are enough."""
        return False

    def at(self, ascent: Ascent) -> Tensor:
        """The radius of this step; constant after the end of the schedule."""
        weight = self.weight(min(ascent.step / self.steps, 1.0))
        self.rho = torch.full_like(self.rho, _between(self.end, self.start, weight))
        return self.rho


class LinearRadius(ScheduledRadius):
    """rho_t = start + (end - start) * t / steps, then end.

    Args:
        start: radius of the first step, > 0.
        end: radius from step `steps` on, > 0.
        steps: length of the schedule in optimizer steps, >= 1.

    Raises:
        ValueError: an argument out of range.

    Example:
        >>> LinearRadius(0.2, 0.1, steps=10).weight(0.25)
        0.75
    """

    def weight(self, fraction: float) -> float:
        """A straight line."""
        return 1.0 - fraction


class CosineRadius(ScheduledRadius):
    """rho_t = end + (start - end) * (1 + cos(pi * t / steps)) / 2, then end.

    Args:
        start: radius of the first step, > 0.
        end: radius from step `steps` on, > 0.
        steps: length of the schedule in optimizer steps, >= 1.

    Raises:
        ValueError: an argument out of range.

    Example:
        >>> CosineRadius(0.2, 0.1, steps=10).weight(0.5)
        0.5
    """

    def weight(self, fraction: float) -> float:
        """Half a cosine."""
        return min(max(0.5 * (1.0 + math.cos(math.pi * fraction)), 0.0), 1.0)


class ProportionalRadius(Radius):
    """rho_t = minimum + (maximum - minimum) * lr_t / lr_max: the radius follows the base learning rate.

    lr_max is the largest learning rate so far, a scheduler's initial one included. Published forms that extrapolate
    a line through (lr_min, rho_min) turn negative during warm-up; this one is at least `minimum` at any lr >= 0.

    Args:
        maximum: radius at the largest learning rate, > 0.
        minimum: radius at learning rate 0, > 0 and at most `maximum`.

    Raises:
        ValueError: an argument out of range.

    Example:
        >>> ProportionalRadius(0.1, minimum=0.02).rho
        tensor(0.1000, dtype=torch.float64)

    Reference:
        The schedule of GSAM, arXiv:2203.08065, algorithm 1, whose line goes through (lr_min, rho_min) instead.
    """

    def __init__(self, maximum: float, minimum: float) -> None:
        self.maximum = _checks.positive("maximum", maximum)
        self.minimum = _checks.positive("minimum", minimum)
        if self.minimum > self.maximum:
            raise ValueError(f"`minimum` must be at most `maximum` = {self.maximum}, got {self.minimum}")
        super().__init__(self.maximum)

    def reads_ascent(self, step: int) -> bool:
        """The step and the learning rate are enough."""
        return False

    def at(self, ascent: Ascent) -> Tensor:
        """The radius that belongs to this step's learning rate."""
        share = learning_rate_share(ascent)
        rho = self.rho.new_zeros(()) + self.minimum + (self.maximum - self.minimum) * share
        self.rho = rho.clamp(self.minimum, self.maximum)
        return self.rho


class ReplayedRadius(Radius):
    """rho_t read off a recorded schedule, stretched to `steps` steps by linear interpolation.

    Trains again, on all the data, with the schedule that a run with a learned radius has found.

    Args:
        schedule: radii > 0 in the order of the recorded steps, at least one.
        steps: length of this run in optimizer steps, >= 1; the last value holds after it.

    Raises:
        ValueError: an argument out of range.

    Example:
        >>> ReplayedRadius([0.1, 0.3], steps=3).value(1)
        0.2
    """

    def __init__(self, schedule: Sequence[float], steps: int) -> None:
        if len(schedule) == 0:
            raise ValueError("`schedule` must hold at least one radius, got none")
        self.schedule = tuple(_checks.positive("schedule", value) for value in schedule)
        self.steps = _checks.whole("steps", steps, 1)
        super().__init__(self.schedule[0])

    def value(self, step: int) -> float:
        """The radius of step `step` (from 0)."""
        last = len(self.schedule) - 1
        position = min(step / max(self.steps - 1, 1), 1.0) * last
        left = min(int(position), last)
        right = min(left + 1, last)
        return _between(self.schedule[left], self.schedule[right], position - left)

    def reads_ascent(self, step: int) -> bool:
        """The step and the learning rate are enough."""
        return False

    def at(self, ascent: Ascent) -> Tensor:
        """The radius of this step."""
        self.rho = torch.full_like(self.rho, self.value(ascent.step))
        return self.rho

    def state_dict(self) -> dict[str, Any]:
        """The radius and the schedule it came from."""
        return super().state_dict() | {"schedule": self.schedule, "steps": self.steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        super().load_state_dict(state)
        self.schedule, self.steps = tuple(state["schedule"]), state["steps"]


def _between(first: float, second: float, share: float) -> float:
    """(1 - share) * first + share * second, and not by a rounding outside the two."""
    value = (1.0 - share) * first + share * second
    return min(max(value, min(first, second)), max(first, second))


def learning_rate_share(ascent: Ascent) -> float | Tensor:
    """lr / peak lr: 1 at the peak, falling to 0 with the schedule; 1 where no learning rate was ever above 0."""
    if isinstance(ascent.lr, Tensor) or isinstance(ascent.peak_lr, Tensor):
        tiny = torch.finfo(torch.float32).tiny
        return torch.as_tensor(ascent.lr) / torch.as_tensor(ascent.peak_lr).clamp(min=tiny)
    return ascent.lr / ascent.peak_lr if ascent.peak_lr > 0 else 1.0
