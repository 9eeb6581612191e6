"""The prior of a learned radius: how far the perturbation reaches unless the slopes say otherwise."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor

from .. import checks
from .scheduled import warmed_up

SUMS = ("curved_growth", "curved_scale")  # sums of d (||g_rho|| - ||g_0||) and of d^2 L
MEASURED = 25  # the curvature is measured in the steps before this one, except in step 0
STEEPNESS = 2.0  # the power in min(1, rise / R)^2
BURN_IN_WEIGHT = 3.6  # factor of the weight above the prior at the beginning of the burn-in


class Prior:
    """pull = weight * clamp(log(reach of the perturbation / prior), -1, 1), which draws log(rho) to the prior.

    The rule adds the pull to Adam's term and subtracts both from log(rho). The reach (see `Perturbation.reach`) is
    defined so that the same prior suits SAM, where it is rho, and ASAM.

    The pull has two weights, one for radii below the prior and one for radii above it. In the first part of almost
    every run the slopes of single steps ask for smaller radii, whichever radius is best in the end, so the weight below
    is the larger one. During the burn-in the prior rises linearly from a tenth to its full value, and the weight above
    it decreases linearly from 3.6 times its value.

    If the loss has high curvature, the prior is multiplied by min(1, rise / R)^2. R is the relative increase of the
    loss that is due to curvature, at the distance of the prior:

        R = prior^2 c / (2 L),  c / L = sum of d (||g_rho|| - ||g_0||) / sum of d^2 L

    d is the distance of an ascent, and c is the growth of the gradient norm per distance. The sums are over steps 1 to
    24. Step 0 is left out because it uses the initial radius, which may be far too large.

    **A constant that is added to the loss changes this limit**, and with it the learned radius, because R is relative
    to the loss: a positive constant weakens the limit, and with a negative loss there is none. If the loss has no
    meaningful zero (a log-likelihood of continuous data, a loss with a constant or negative term), use `rise=None`: the
    radius then does not depend on the constant. `letsam.check` reports a loss that is negative, or so large that the
    limit cannot act.

    Args:
        reach: the prior, > 0, in units of the weights. For SAM it is a radius, for ASAM rho ||T g|| / ||g||.
        weight: >= 0, relative to Adam's term, which is mostly between -1 and 1; one number, or (below, above).
        rise: relative increase of the loss, > 0, that the prior may cause by curvature. None: no such limit, for a loss
            without a meaningful zero, or if the second pass uses other samples than the first (`letsam.selected`).
            With m-sharpness across processes there is no limit either.

    Raises:
        ValueError: an argument out of range.
        TypeError: an argument of the wrong type.

    Example:
        >>> prior = Prior(0.2)
        >>> prior.log_radius(torch.ones(()), prior.share(0, 100)).exp()  # a tenth of the prior at step 0
        tensor(0.0200, dtype=torch.float64)

    Reference:
        Measured in docs/search.md and docs/evidence.md; there is no prior in arXiv:2408.08222.
    """

    def __init__(
        self, reach: float = 0.2, *, weight: float | tuple[float, float] = (0.7, 0.1), rise: float | None = 0.2
    ) -> None:
        self.reach = checks.positive("reach", reach)
        self.weight = _weights(weight)
        self.rise = rise if rise is None else checks.positive("rise", rise)
        self._sums = torch.zeros(2, dtype=torch.float64)
        self._proposed: Tensor | None = None
        self._constants()

    def _constants(self) -> None:
        """Make the constants that operators need as tensors, on the device of the weights."""
        self._zero = self._sums.new_zeros(())
        self._given = self._sums.new_tensor(math.log(self.reach))
        self._log_reach: Tensor | None = None

    def start(self, rho: Tensor) -> None:
        """Start with new sums in the shape of rho: 0-dim, or (R,) for R runs that are trained together."""
        self._sums = torch.zeros(2, *rho.shape, dtype=rho.dtype, device=rho.device)
        self._proposed = None
        self._constants()

    def to(self, device: torch.device, dtype: torch.dtype) -> None:
        """Move the state to the device and dtype of the weights."""
        self._sums = self._sums.to(device=device, dtype=dtype)
        self._constants()

    def measures(self, step: int) -> bool:
        """Whether `observe` is to be called at this step."""
        return self.rise is not None and 0 < step < MEASURED

    def observe(self, loss: Tensor, distance: Tensor, growth: Tensor) -> None:
        """Add a step to the sums; see `Rule.observe`."""
        seen = torch.stack([growth.to(self._sums), distance * loss.to(self._sums)])
        self._proposed = torch.addcmul(self._sums, seen, distance)
        self._log_reach = None

    @property
    def log_reach(self) -> Tensor:
        """The logarithm of the prior: as given, or less if the loss has high curvature."""
        if self._log_reach is None:
            self._log_reach = self._given
            if self.rise is not None:
                growth, scale = (self._sums if self._proposed is None else self._proposed).unbind()
                # without curvature the ratio is NaN or infinite
                ratio = (scale / growth.relu() * (2 * self.rise / self.reach**2)).log()
                self._log_reach = self._given.add(ratio.fmin(self._zero), alpha=STEEPNESS)
        return self._log_reach

    def share(self, step: int, burn_in: int) -> float:
        """The fraction of the prior that is used at this step, > 0: it rises during the burn-in, then it is 1."""
        return warmed_up(step, burn_in)

    def log_radius(self, reach: Tensor, share: float) -> Tensor:
        """The logarithm of the radius at which the perturbation reaches as far as this fraction of the prior.

        Args:
            reach: how far the perturbation reaches per unit of rho (0-dim, or one value per radius).
            share: as `share` returns it.
        """
        prior = self.log_reach if share == 1 else self.log_reach + math.log(share)
        return prior - reach.log()

    def pull(self, move: Tensor, excess: Tensor, early: float) -> Tensor:
        """Add the pull to Adam's term.

        Args:
            move: Adam's term; the rule subtracts the result from log(rho).
            excess: log(rho) minus `log_radius` (in the shape of `move`).
            early: decreases linearly from 1 at the beginning of the burn-in to 0 at its end.

        Returns:
            The sum, in the shape of `move`.
        """
        below, above = self.weight
        above = above * (1 + (BURN_IN_WEIGHT - 1) * early)
        return move.add(excess.clamp(-1, 0), alpha=below).add(excess.clamp(0, 1), alpha=above)

    def commit(self, finite: Tensor) -> None:
        """Keep the sums of this step if `finite` (0-dim bool)."""
        if self._proposed is not None:
            self._sums = torch.where(finite, self._proposed, self._sums)
        self.discard()

    def discard(self) -> None:
        """Drop the sums of this step."""
        if self._proposed is not None:
            self._proposed = self._log_reach = None

    def state_dict(self) -> dict[str, Tensor]:
        """The sums; tensors are copies."""
        return {name: value.clone() for name, value in zip(SUMS, self._sums.unbind(), strict=True)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state that `state_dict` returned."""
        loaded = [checks.saved(name, state[name], self._sums.shape[1:]) for name in SUMS]
        self._sums = torch.stack([value.to(self._sums) for value in loaded])
        self._proposed = self._log_reach = None


def _weights(weight: object) -> tuple[float, float]:
    if isinstance(weight, int | float):
        return checks.not_negative("weight", weight), checks.not_negative("weight", weight)
    try:
        below, above = cast(Sequence[object], weight)
    except (TypeError, ValueError) as error:
        raise ValueError(f"`weight` must be one number or two, (below, above), got {checks.shown(weight)}") from error
    return checks.not_negative("weight", below), checks.not_negative("weight", above)
