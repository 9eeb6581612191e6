"""nu = log(rho): how the upper level moves the radius, given a slope."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ..tangent.blocks import grown
from .scheduled import begun

NAMES = ("nu", "exp_avg", "exp_avg_sq", "updates")
CURVED = ("curved_growth", "curved_scale")  # sums of d (||g_rho|| - ||g_0||) and of d^2 L
BETAS = (0.9, 0.999)
EPSILON = 1e-16  # far below the hypergradients of a well-trained network, which fall with its loss
BURN_IN_RATE = 2.0  # how many times faster the first step of the burn-in is
BURN_IN_GROWTH = 2.0  # logarithm of the multiple of the prior that is allowed at the end of the burn-in
BURN_IN_WEIGHT = 3.6  # how many times heavier the prior weighs above itself then
STEEPNESS = 2.0  # with which power the prior falls where the loss would rise too much
MEASURED = 25  # steps at the beginning in which the curvature is measured, but for the first


class LogRadius:
    """nu <- nu - rate * (Adam(slope) + pull), pull = weight * clamp(log(reach / prior), -1, 1).

    `reach` is how far the perturbation goes, in a measure that lets one prior serve SAM (where it is rho) and ASAM, see
    `Perturbation.reach`. Adam's term is about mean / deviation of the slopes, mostly within -1 and 1: evidence
    e below `weight` holds the radius within exp(e / weight) times the prior, evidence above it carries the radius as
    far as it lasts.
    There are two weights, as the slopes of single steps speak for a smaller radius in the first part of almost every
    run, whatever is best in the end.

    The prior is multiplied by min(1, rise / R)^2, where R is the rise of the loss over the prior that is due to its
    curvature, as a share of the loss: with c the growth of the gradient's norm per distance d of the ascent,

        R = prior^2 c / (2 L),  c / L = sum of d (||g_rho|| - ||g_0||) / sum of d^2 L

    The sums go over the first 25 steps but one: where the very first leads is the starting radius' affair.

    During the burn-in, `burn_in` steps, the prior rises in a line, from a tenth of itself to the whole. The rate is up
    to 2 times and the weight above the prior up to 3.6 times as high, both falling in a line, and the perturbation
    reaches at most exp(2 step / burn_in) times as far as the prior.

    Args:
        rho: starting radius.
        bounds: (lowest, highest) rho.
        prior: reach of the perturbation that is held without evidence, > 0; None for no prior.
        weights: of the prior (below it, above it), >= 0.
        burn_in: steps, >= 0.
        rise: share of the loss, > 0; None for no such limit.
    """

    def __init__(
        self,
        rho: float,
        bounds: tuple[float, float],
        prior: float | None,
        weights: tuple[float, float],
        burn_in: int,
        rise: float | None = None,
    ) -> None:
        self.bounds, self.prior, self.weights, self.burn_in, self.rise = bounds, prior, weights, burn_in, rise
        self.values = torch.tensor([math.log(rho), 0.0, 0.0, 0.0], dtype=torch.float64)  # see NAMES
        self.curved = torch.zeros(2, dtype=torch.float64)  # see CURVED
        self.proposed: Tensor | None = None
        self.proposed_curved: Tensor | None = None
        self._constants()

    def _constants(self) -> None:
        """Numbers that operators take as tensors, where the weights are."""
        like: dict[str, Any] = {"dtype": self.values.dtype, "device": self.values.device}
        self._betas = torch.tensor(BETAS, **like)
        self._powers = torch.tensor((1.0, 2.0), **like)
        self._zero = torch.zeros((), **like)
        self._lowest = torch.tensor(math.log(self.bounds[0]), **like)
        self._given = torch.tensor(math.log(self.prior or 1.0), **like)
        self._log_prior: Tensor | None = None

    def to(self, device: torch.device, dtype: torch.dtype) -> None:
        """Move to where the weights are."""
        self.values = self.values.to(device=device, dtype=dtype)
        self.curved = self.curved.to(device=device, dtype=dtype)
        self._constants()

    def grow(self, count: int, rho: float) -> None:
        """One value for each of `count` radii; new ones start at rho."""
        start = (math.log(rho), 0.0, 0.0, 0.0)
        self.values = torch.stack([grown(v, count, x) for v, x in zip(self.values.unbind(), start, strict=True)])

    def measures(self, step: int) -> bool:
        """Whether `see_curvature` counts at this step."""
        return self.prior is not None and self.rise is not None and 0 < step < MEASURED

    def see_curvature(self, loss: Tensor, distance: Tensor, growth: Tensor) -> None:
        """Take a step into the sums; `commit` decides.

        Args:
            loss: L at the weights (0-dim).
            distance: d, how far the perturbation reached (0-dim).
            growth: ||g_rho|| - ||g_0|| (0-dim).
        """
        seen = torch.stack([growth.to(self.curved), distance * loss.to(self.curved)])
        self.proposed_curved = torch.addcmul(self.curved, seen, distance)
        self._log_prior = None

    @property
    def log_prior(self) -> Tensor:
        """The logarithm of the prior: as given, or less where the loss would rise by more than the share `rise`."""
        if self._log_prior is None:
            self._log_prior = self._given
            if self.rise is not None and self.prior is not None:
                growth, scale = (self.curved if self.proposed_curved is None else self.proposed_curved).unbind()
                over = (scale / growth.relu() * (2 * self.rise / self.prior**2)).log()  # no curvature: NaN or infinite
                self._log_prior = self._given.add(over.fmin(self._zero), alpha=STEEPNESS)
        return self._log_prior

    def share(self, step: int) -> float:
        """How much of the prior there is at this step, > 0: in the burn-in it rises, then it is 1."""
        return begun(step, self.burn_in)

    def room(self, reach: Tensor, step: int) -> Tensor:
        """log(rho) at which the perturbation goes as far as the prior of this step (0-dim)."""
        share = self.share(step)
        prior = self.log_prior if share == 1 else self.log_prior + math.log(share)
        return prior - reach.log()

    def highest(self, room: Tensor | None, step: int) -> Tensor | float:
        """The logarithm of the largest rho at this step: of the upper bound, in the burn-in also as the prior grows."""
        low, high = map(math.log, self.bounds)
        if room is None or step >= self.burn_in:
            return high
        return (room + BURN_IN_GROWTH * step / self.burn_in).clamp(low, high)

    def propose(
        self,
        rho: Tensor,
        slope: Tensor,
        rate: float | Tensor,
        room: Tensor | None,
        highest: Tensor | float,
        step: int,
        usable: Tensor,
    ) -> Tensor:
        """One update; `commit` decides whether it counts.

        Args:
            rho: now (0-dim, or one value for each radius).
            slope: of the upper level along nu, up to a positive factor (of the shape of rho).
            rate: of this update.
            room: what `room` returned; None without a prior.
            highest: what `highest` returned.
            step: of the optimizer, from 0.
            usable: whether the slope comes from finite passes (0-dim bool); where not, nothing moves.

        Returns:
            The proposed radius (of the shape of rho).
        """
        old_nu, _, _, updates = self.values.unbind()
        betas, powers = (pair.view(2, *[1] * slope.ndim) for pair in (self._betas, self._powers))
        early = max(0.0, 1 - step / self.burn_in) if self.burn_in else 0.0
        updates = updates + 1
        moments = (slope**powers).lerp(self.values[1:3], betas)
        first, second = (moments / (1 - betas**updates)).unbind()
        move = first / (second.sqrt() + EPSILON)
        if room is not None:
            excess = old_nu - room
            below, above = self.weights
            above = above * (1 + (BURN_IN_WEIGHT - 1) * early)
            move = _plus(_plus(move, below, excess.clamp(-1, 0)), above, excess.clamp(0, 1))
        nu = _plus(old_nu, -rate * (1 + (BURN_IN_RATE - 1) * early), move)
        if isinstance(highest, Tensor):
            nu = nu.clamp(self._lowest, highest)
        else:
            nu = nu.clamp(math.log(self.bounds[0]), highest)
        valid = usable & (moments[1] < torch.inf)  # the square of a slope that is not finite is not finite either
        self.proposed = torch.where(valid, torch.stack([nu, *moments.unbind(), updates]), self.values)
        return torch.where(valid, nu.exp().clamp(*self.bounds), rho)

    def commit(self, finite: Tensor) -> None:
        """Adopt what was proposed where `finite`."""
        if self.proposed is not None:
            self.values = torch.where(finite, self.proposed, self.values)
        if self.proposed_curved is not None:
            self.curved = torch.where(finite, self.proposed_curved, self.curved)
        self.discard()

    def discard(self) -> None:
        """Forget what was proposed."""
        self.proposed = None
        if self.proposed_curved is not None:
            self.proposed_curved = self._log_prior = None

    def state_dict(self) -> dict[str, Tensor]:
        """Under the names in NAMES and CURVED."""
        named = [*zip(NAMES, self.values.unbind(), strict=True), *zip(CURVED, self.curved.unbind(), strict=True)]
        return {name: value.clone() for name, value in named}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self.values = torch.stack([torch.as_tensor(state[name]).to(self.values) for name in NAMES])
        self.curved = torch.stack([torch.as_tensor(state[name]).to(self.curved) for name in CURVED])
        self.proposed = self.proposed_curved = self._log_prior = None


def _plus(value: Tensor, factor: float | Tensor, change: Tensor) -> Tensor:
    """value + factor * change: one operator where the factor is a number."""
    return value + factor * change if isinstance(factor, Tensor) else value.add(change, alpha=factor)
