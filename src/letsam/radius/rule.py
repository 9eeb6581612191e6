"""Rule: the base class of how a slope changes a learned radius."""

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
    """What an update of the radius is given in addition to rho and the slope.

    Attributes:
        step: number of optimizer steps before this one.
        steps: how many steps this update stands for, >= 1.
        lr_share: base learning rate divided by its peak, 0 to 1.
        reach: how far the last perturbation reached per unit of rho, see `Perturbation.reach` (0-dim, or one value per
            radius).
        usable: whether the slope comes from a finite step (0-dim bool); if not, the radius must not change.
        training_loss: at the weights of the update (0-dim); None where it is not known.
        validation_loss: at the same weights.
        gain: how much the validation loss would gain with labels drawn at random; None: not known.
        calibrated: whether the objective has removed what is due to confidence.
    """

    step: int
    steps: int
    lr_share: float | Tensor
    reach: Tensor
    usable: Tensor
    training_loss: Tensor | None = None
    validation_loss: Tensor | None = None
    gain: Tensor | None = None
    calibrated: bool = False


class Rule:
    """rho <- move(rho, slope), clamped to the bounds.

    A rule of your own overrides `move`. A rule with state also overrides `start` and `grow` (make the state), `to`,
    `commit` (keep the state that `move` proposed), `discard`, `state_dict` and `load_state_dict`. No method may read a
    tensor's value on the host.

    Args:
        bounds: (lowest, highest) rho, 0 < lowest < highest.

    Raises:
        ValueError: `bounds` are out of range.
        TypeError: `bounds` is not a pair of numbers.

    Example:
        >>> import letsam
        >>> class SignDescent(Rule):  # rho <- rho exp(-0.02 sign(slope)) per step
        ...     def move(self, rho, slope, update):
        ...         return rho * (-0.02 * update.steps * slope.sign()).exp()
        >>> letsam.LearnedRadius(0.05, rule=SignDescent(bounds=(0.01, 1.0))).rule.bounds
        (0.01, 1.0)

    Reference:
        arXiv:2408.08222, algorithm 1, whose rule is gradient descent on rho.
    """

    normalize: bool = True
    """Whether slopes are cosines between the gradient and Z; if not, rho times the derivative with respect to rho."""

    burn_in: int = 0
    """Number of steps at the beginning in which `limit` is called, and the radius is updated in every step unless
    `LearnedRadius` has an `interval`."""

    uses_reach: bool = False
    """Whether `move` or `limit` uses the reach of the perturbation, which is then measured."""

    @property
    def label_noise(self) -> Tensor | None:
        """Share of the labels that are wrong in training and right in validation (0-dim); None: nothing is known."""
        return None

    def __init__(self, bounds: tuple[float, float] = BOUNDS) -> None:
        self.bounds = _bounds(bounds)

    def move(self, rho: Tensor, slope: Tensor, update: Update) -> Tensor:
        """The new radius.

        Args:
            rho: the current radius, > 0 (0-dim, or one value per radius).
            slope: derivative of the upper level with respect to log(rho), up to a positive factor (same shape).
            update: what else is known.

        Returns:
            The new radius, in the shape of rho. `propose` clamps it to the bounds, and keeps the old one if the slope
            is not usable or the new radius is not finite.
        """
        raise NotImplementedError

    def propose(self, rho: Tensor, slope: Tensor, update: Update) -> Tensor:
        """The radius after an update, or rho if the slope is not usable; `commit` decides whether it is kept.

        Args:
            rho: as for `move`.
            slope: as for `move`.
            update: as for `move`.

        Returns:
            The new radius within the bounds, in the shape of rho.
        """
        new = self.move(rho, slope, update).clamp(*self.bounds)
        return torch.where(update.usable & new.isfinite(), new, rho)

    def limit(self, rho: Tensor, step: int, reach: Tensor, updates: bool) -> Tensor:
        """The radius that a step of the burn-in uses, at most rho; called from step 1 to the end of the burn-in.

        Args:
            rho: the radius after the update of this step, if there is one.
            step: of the optimizer, from 0.
            reach: as in `Update`.
            updates: whether this step updates the radius.

        Returns:
            The limited radius, in the shape of rho.
        """
        return rho

    def shrink(self, rho: Tensor, overflow: Tensor) -> Tensor:
        """The radius after a step, halved if the step was finite at the weights but not at the perturbed weights.

        Otherwise every further step could fail in the same way. A rule whose state contains the radius extends this.

        Args:
            rho: the radius before the step.
            overflow: whether to halve it (0-dim, 1.0 or 0.0).

        Returns:
            The radius, not below the lower bound, in the shape of rho.
        """
        return torch.addcmul(rho, rho, overflow, value=-0.5).clamp(min=self.bounds[0])

    def start(self, rho: Tensor) -> None:
        """Start at these radii (0-dim; or of shape (R,), for R runs that are trained together)."""

    def grow(self, count: int, rho: float) -> None:
        """From now on there are `count` radii, one per group or layer; new ones start at rho."""

    def to(self, device: torch.device, dtype: torch.dtype) -> None:
        """Move the state to the device and dtype of the weights."""

    def measures(self, step: int) -> bool:
        """Whether `observe` is to be called at this step."""
        return False

    def observe(self, loss: Tensor, distance: Tensor, growth: Tensor) -> None:
        """Use the measurements of an ascent; `commit` decides whether the result is kept.

        Args:
            loss: training loss at the weights (0-dim).
            distance: how far the perturbation reached, in units of the weights (0-dim).
            growth: ||g_rho|| - ||g_0|| (0-dim).
        """

    def commit(self, finite: Tensor) -> None:
        """End of a step: keep what this step proposed if `finite` (0-dim bool), else drop it."""

    def discard(self) -> None:
        """A closure raised: drop what this step proposed."""

    def state_dict(self) -> dict[str, Any]:
        """The state to be saved; tensors are copies."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state that `state_dict` returned; `state` has the keys of `LearnedRadius` as well."""

    def checked_start(self, rho: object) -> float:
        """Return rho if it is a number > 0 within the bounds; raise otherwise."""
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
