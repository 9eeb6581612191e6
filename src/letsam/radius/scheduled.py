"""Radii that follow a given schedule. Each stays within the interval between its end points."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, cast

import torch
from torch import Tensor

from .. import checks
from ..tangent.blocks import PER, Blocks
from .base import Ascent, Radius, Wants

BEGINNING = 0.1  # see `warmed_up`


class ChangingRadius(Radius):
    """A radius that each step sets anew; a step that is abandoned leaves that of the step before."""

    _before: Tensor | None = None

    def _set(self, rho: Tensor) -> Tensor:
        self._before, self.rho = self.rho, rho
        return rho

    def commit(self, finite: Tensor) -> None:
        """Keep the radius: it depends on the step alone, finite or not."""
        self._before = None

    def discard(self) -> None:
        """Restore the radius from before the step."""
        if self._before is not None:
            self.rho, self._before = self._before, None

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state that `state_dict` returned."""
        if self.per == "all":
            checks.saved("rho", state["rho"])
        super().load_state_dict(state)


class ScheduledRadius(ChangingRadius):
    """rho_t = end + (start - end) * weight(min(t / steps, 1)), with a weight that decreases from 1 to 0.

    The base class of `LinearRadius` and `CosineRadius`. A schedule of your own overrides `weight`. A step whose radius
    is 0 is the base optimizer's own, in one pass.

    Args:
        start: radius of the first step, >= 0.
        end: radius from step `steps` on, >= 0.
        steps: length of the schedule in optimizer steps, >= 1.

    Raises:
        ValueError: an argument out of range.
    """

    def __init__(self, start: float, end: float, steps: int) -> None:
        self.start = checks.not_negative("start", start)
        self.end = checks.not_negative("end", end)
        self.steps = checks.whole("steps", steps, 1)
        super().__init__(self.start)

    def weight(self, fraction: float) -> float:
        """The weight of `start` (0 to 1) after this fraction of the schedule (0 to 1)."""
        raise NotImplementedError

    def wants(self, step: int) -> Wants:
        """Nothing: the step is enough."""
        return Wants(first_pass=False, climbs=self._value(step) > 0)

    def at(self, ascent: Ascent) -> Tensor:
        """The radius of this step; constant after the end of the schedule."""
        return self._set(torch.full_like(self.rho, self._value(ascent.step)))

    def _value(self, step: int) -> float:
        return _between(self.end, self.start, self.weight(min(step / self.steps, 1.0)))


class LinearRadius(ScheduledRadius):
    """rho_t = start + (end - start) * t / steps, then end.

    Args:
        start: radius of the first step, >= 0.
        end: radius from step `steps` on, >= 0. While the radius is 0, the base optimizer steps alone, in one pass.
        steps: length of the schedule in optimizer steps, >= 1.

    Raises:
        ValueError: an argument out of range.

    Example:
        >>> LinearRadius(0.2, 0.1, steps=10).weight(0.25)
        0.75
    """

    def weight(self, fraction: float) -> float:
        """1 - fraction."""
        return 1.0 - fraction


class CosineRadius(ScheduledRadius):
    """rho_t = end + (start - end) * (1 + cos(pi * t / steps)) / 2, then end.

    Args:
        start: radius of the first step, >= 0.
        end: radius from step `steps` on, >= 0. While the radius is 0, the base optimizer steps alone, in one pass.
        steps: length of the schedule in optimizer steps, >= 1.

    Raises:
        ValueError: an argument out of range.

    Example:
        >>> CosineRadius(0.2, 0.1, steps=10).weight(0.5)
        0.5
    """

    def weight(self, fraction: float) -> float:
        """(1 + cos(pi * fraction)) / 2."""
        return min(max(0.5 * (1.0 + math.cos(math.pi * fraction)), 0.0), 1.0)


class ProportionalRadius(ChangingRadius):
    """rho_t = minimum + (maximum - minimum) * lr_t / lr_max: the radius follows the base learning rate.

    lr_max is the largest learning rate so far; a scheduler's `initial_lr` counts. A line through (lr_min, rho_min), as
    published, becomes negative if the learning rate is below lr_min during warm-up. This one is never below `minimum`.

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
        self.maximum = checks.positive("maximum", maximum)
        self.minimum = checks.positive("minimum", minimum)
        if self.minimum > self.maximum:
            raise ValueError(f"`minimum` must be at most `maximum` = {self.maximum}, got {self.minimum}")
        super().__init__(self.maximum)

    def wants(self, step: int) -> Wants:
        """Nothing: the step and the learning rate are enough."""
        return Wants(first_pass=False)

    def at(self, ascent: Ascent) -> Tensor:
        """The radius for the learning rate of this step."""
        share = learning_rate_share(ascent.lr, ascent.peak_lr)
        rho = self.rho.new_zeros(()) + self.minimum + (self.maximum - self.minimum) * share
        return self._set(rho.clamp(self.minimum, self.maximum))


class ReplayedRadius(ChangingRadius):
    """rho_t = a recorded schedule at t, stretched to `steps` steps by linear interpolation.

    It is used to train again on all the data, with the schedule that a run with a learned radius has recorded.

    Args:
        schedule: the recorded radii, >= 0, at least one, in the order of the steps; with `per`, one list per step, with
            one radius for each group or layer, frozen ones included, like `LearnedRadius.rho`.
        steps: length of this run in optimizer steps, >= 1; the last radius is used after it.
        burn_in: number of recorded steps, >= 0, in which the radius is limited: it is at most a fraction of the radius
            recorded after them, which increases linearly from a tenth to 1. There, a learned radius still depends on
            its initial value, which may be too large for training to start.
        per: which weights share a radius, as for `LearnedRadius`: "all", "group" or "layer".

    Raises:
        ValueError: an argument out of range; when the optimizer is made, a different number of groups or layers.
        TypeError: an argument of the wrong type.

    Example:
        >>> ReplayedRadius([0.1, 0.3], steps=3).value(1)
        0.2
        >>> ReplayedRadius([[0.1, 0.5], [0.3, 0.5]], steps=3, per="layer").value(1)
        (0.2, 0.5)
        >>> ReplayedRadius([0.7, 0.01, 0.5], steps=3, burn_in=2).schedule
        (0.05, 0.01, 0.5)
    """

    def __init__(
        self,
        schedule: Sequence[float] | Sequence[Sequence[float]],
        steps: int,
        *,
        burn_in: int = 0,
        per: str = "all",
    ) -> None:
        self.per = checks.choice("per", per, PER)
        self._rows = _warmed_up_rows(_rows(schedule, per), checks.whole("burn_in", burn_in, 0))
        self.steps = checks.whole("steps", steps, 1)
        super().__init__(self._rows[0][0])
        self._read()

    @property
    def schedule(self) -> tuple[float, ...] | tuple[tuple[float, ...], ...]:
        """The radii that are replayed, after the limit of the burn-in; with `per`, one tuple per step."""
        return self._rows if self.per != "all" else tuple(row[0] for row in self._rows)

    def value(self, step: int) -> float | tuple[float, ...]:
        """The radius of step `step` (from 0); with `per`, a tuple of radii."""
        left, right, share = self._position(step)
        values = tuple(_between(a, b, share) for a, b in zip(self._rows[left], self._rows[right], strict=True))
        return values if self.per != "all" else values[0]

    def attach(self, param_groups: list[dict[str, Any]], ascends: Callable[[int], bool]) -> None:
        """Assign the radii to the weights; refuse a number of groups or layers other than that of the schedule."""
        if self.per == "all":
            return
        blocks = Blocks(self.per)
        blocks.place(param_groups)
        if blocks.count != len(self._rows[0]):
            raise ValueError(
                f"`schedule` must have one radius for each {self.per}, {blocks.count} in all, got {len(self._rows[0])}"
            )
        self.blocks = blocks

    def to(self, device: torch.device, dtype: torch.dtype) -> None:
        """Move the radii to the device and dtype of the weights."""
        super().to(device, dtype)
        self._table = self._table.to(device=device, dtype=dtype)

    def wants(self, step: int) -> Wants:
        """Nothing: the step is enough."""
        left, right, share = self._position(step)
        rows = self._rows[left], self._rows[right]
        climbs = any(_between(a, b, share) > 0 for a, b in zip(*rows, strict=True))
        return Wants(first_pass=False, climbs=climbs)

    def at(self, ascent: Ascent) -> Tensor:
        """The radius of this step (0-dim); with `per`, one value per weight."""
        if self.per == "all":
            return self._set(torch.full_like(self.rho, cast(float, self.value(ascent.step))))
        left, right, share = self._position(ascent.step)
        return self.blocks.spread(self._set(torch.lerp(self._table[left], self._table[right], share)))

    def metrics(self) -> dict[str, Tensor]:
        """The radii: one per group or layer, whereas the step uses one per weight."""
        return {"rho": self.rho}

    def state_dict(self) -> dict[str, Any]:
        """The current radius, the schedule and its length."""
        return super().state_dict() | {"schedule": self.schedule, "steps": self.steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state that `state_dict` returned."""
        rows = _rows(state["schedule"], self.per)
        if self.per != "all" and len(rows[0]) != len(self._rows[0]):
            raise ValueError(f"`schedule` must have {len(self._rows[0])} radii at each step, got {len(rows[0])}")
        rho = checks.saved("rho", state["rho"], None)
        if rho.ndim:  # with `per`, from the first step on
            checks.saved("rho", rho, (len(rows[0]),))
        super().load_state_dict(state)
        rho, self._rows, self.steps = self.rho, rows, checks.whole("steps", state["steps"], 1)
        self._read()
        self.to(rho.device, rho.dtype)
        self.rho: Tensor = rho

    def _read(self) -> None:
        """With `per`, make a table of all radii, so that no step copies radii to the device."""
        many = self.per != "all"
        self._table = torch.tensor(self._rows if many else (), dtype=self.rho.dtype)
        if many:
            self.rho = self._table[0]

    def _position(self, step: int) -> tuple[int, int, float]:
        """The recorded steps before and after step `step`, and its relative position between them (0 to 1)."""
        last = len(self._rows) - 1
        position = min(step / max(self.steps - 1, 1), 1.0) * last
        left = min(int(position), last)
        return left, min(left + 1, last), position - left


def _rows(schedule: object, per: str) -> tuple[tuple[float, ...], ...]:
    """The schedule as rows of radii; a row has a single radius if all weights share it."""
    values = _listed(schedule, "hold the radii of all steps")
    if not values:
        raise ValueError("`schedule` must hold at least one radius, got none")
    if per == "all":
        if isinstance(values[0], (list, tuple)):
            found = checks.shown(cast(object, values[0]))
            raise TypeError(f"`schedule` must hold one number for each step unless `per` is given, got {found}")
        return tuple((checks.not_negative("schedule", value),) for value in values)
    rows: list[tuple[float, ...]] = []
    for value in values:
        row = _listed(value, f"hold a list of radii for each step, with one for each {per}")
        if not row or len(row) != len(rows[0] if rows else row):
            expected = f"{len(rows[0])} radii" if rows else "at least one radius"
            raise ValueError(f"`schedule` must hold {expected} for each step, got {len(row)} for step {len(rows)}")
        rows.append(tuple(checks.not_negative("schedule", one) for one in row))
    return tuple(rows)


def _listed(value: object, expected: str) -> list[object]:
    try:
        return list(cast(Iterable[object], value))
    except TypeError:
        raise TypeError(f"`schedule` must {expected}, got {checks.shown(value)}") from None


def _warmed_up_rows(rows: tuple[tuple[float, ...], ...], burn_in: int) -> tuple[tuple[float, ...], ...]:
    """The rows, limited in the burn-in to a fraction of the row after it."""
    burn_in = min(burn_in, len(rows) - 1)
    after = rows[burn_in]
    return tuple(
        tuple(min(now, warmed_up(step, burn_in) * then) for now, then in zip(row, after, strict=True))
        if step < burn_in
        else row
        for step, row in enumerate(rows)
    )


def warmed_up(step: int, burn_in: int) -> float:
    """The fraction of a radius that is used at a step of the burn-in: linear from a tenth to 1, then 1.

    Example:
        >>> warmed_up(0, 100), warmed_up(50, 100), warmed_up(500, 100)
        (0.1, 0.55, 1.0)
    """
    return 1.0 if step >= burn_in else BEGINNING + (1 - BEGINNING) * (step / burn_in)


def _between(first: float, second: float, share: float) -> float:
    """(1 - share) * first + share * second, clamped so that rounding does not leave the interval."""
    value = (1.0 - share) * first + share * second
    return min(max(value, min(first, second)), max(first, second))


def learning_rate_share(lr: float | Tensor, peak_lr: float | Tensor) -> float | Tensor:
    """lr / peak_lr: 1 at the peak, and 1 if no learning rate has been above 0; 0 if `lr` is not finite.

    Example:
        >>> learning_rate_share(0.05, 0.2)
        0.25
    """
    if isinstance(lr, Tensor) or isinstance(peak_lr, Tensor):
        tiny = torch.finfo(torch.float32).tiny
        share = torch.as_tensor(lr) / torch.as_tensor(peak_lr).clamp(min=tiny)
        return share.nan_to_num(0.0, 0.0, 0.0)
    if not math.isfinite(lr):
        return 0.0
    return lr / peak_lr if peak_lr > 0 else 1.0
