"""How a slope moves the radius: the base class of rules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from .. import checks

BOUNDS = (1e-4, 10.0)


@dataclass(frozen=True)
class Update:
    """What an update of the radius is given next to rho and the slope.

    Attributes:
        step: steps of the optimizer before this one.
        steps: how many steps this update stands for, >= 1.
        lr_share: base learning rate divided by its peak, 0 to 1.
        reach: how far the last perturbation reached for each unit of rho (see `Perturbation.reach`).
        usable: whether the slope comes from finite passes (0-dim bool); where not, the radius must stay.
    """

    step: int
    steps: int
    lr_share: float | Tensor
    reach: Tensor
    usable: Tensor


class Rule:
    """rho <- move(rho, slope), within bounds.

    A rule of your own overrides `move`. State that it keeps between updates is changed in `commit`, saved in
    `state_dict` and sized in `start` and `grow`.

    Args:
        bounds: (lowest, highest) rho, 0 < lowest < highest.

    Raises:
        ValueError: `bounds` are out of range.
        TypeError: `bounds` is no pair of numbers.
    """

    normalize: bool = True
    """Whether slopes are cosines between the gradient and Z (else: rho times the derivative along rho)."""

    burn_in: int = 0
    """Steps at the beginning in which every step updates the radius, unless `LearnedRadius` is given an interval."""

    uses_reach: bool = False
    """Whether `Update.reach` and `limit` need to know how far the perturbation reaches."""

    def __init__(self, bounds: tuple[float, float] = BOUNDS) -> None:
        self.bounds = _bounds(bounds)

    def move(self, rho: Tensor, slope: Tensor, update: Update) -> Tensor:
        """The new radius.

        Args:
            rho: now, > 0 (0-dim, or one for each radius).
            slope: of the upper level along log(rho), up to a positive factor (in the shape of rho).
            update: what else is known.

        Returns:
            The new radius, in the shape of rho. `propose` keeps it within the bounds, and keeps the old one where the
            slope is not usable or the new radius is not finite.
        """
        raise NotImplementedError

    def propose(self, rho: Tensor, slope: Tensor, update: Update) -> Tensor:
        """The radius after an update, or rho where the slope is not usable; `commit` decides whether it counts."""
        new = self.move(rho, slope, update).clamp(*self.bounds)
        return torch.where(update.usable & new.isfinite(), new, rho)

    def limit(self, rho: Tensor, step: int, reach: Tensor, updates: bool) -> Tensor:
        """The radius with which a step of the burn-in climbs, at most rho.

        Args:
            rho: after the update of this step, if there is one.
            step: of the optimizer, from 0; called from step 1 to the end of the burn-in.
            reach: as in `Update`.
            updates: whether this step updates the radius.
        """
        return rho

    def start(self, rho: Tensor) -> None:
        """Begin at these radii (0-dim; or of shape (R,), for R runs that are trained side by side)."""

    def grow(self, count: int, rho: float) -> None:
        """There are `count` radii from now on, one for each group or layer; new ones start at rho."""

    def to(self, device: torch.device, dtype: torch.dtype) -> None:
        """Move to where the weights are."""

    def measures(self, step: int) -> bool:
        """Whether `observe` is to be called at this step."""
        return False

    def observe(self, loss: Tensor, distance: Tensor, growth: Tensor) -> None:
        """Take in an ascent; `commit` decides whether it counts.

        Args:
            loss: at the weights (0-dim).
            distance: how far the perturbation reached (0-dim).
            growth: ||g_rho|| - ||g_0|| (0-dim).
        """

    def commit(self, finite: Tensor) -> None:
        """End of a step: keep what it proposed where `finite` (0-dim bool)."""

    def discard(self) -> None:
        """Forget what the step proposed."""

    def state_dict(self) -> dict[str, Any]:
        """What must survive a save and load."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave; other keys are not its own."""

    def checked_start(self, rho: object) -> float:
        """Return rho when it is a number > 0 within the bounds, or raise."""
        start = checks.positive("rho", rho)
        if not self.bounds[0] <= start <= self.bounds[1]:
            raise ValueError(f"`rho` must be within `bounds` = {self.bounds}, got {start}")
        return start


def _bounds(bounds: object) -> tuple[float, float]:
    try:
        low, high = cast(Sequence[object], bounds)
    except (TypeError, ValueError) as error:
        raise TypeError(f"`bounds` must be a pair (lowest, highest), got {checks.shown(bounds)}") from error
    lowest, highest = checks.positive("bounds", low), checks.positive("bounds", high)
    if not lowest < highest:
        raise ValueError(f"`bounds` must be (lowest, highest) with lowest < highest, got ({lowest}, {highest})")
    return lowest, highest
