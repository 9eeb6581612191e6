"""The library's own rule, for R replicas at once: `LearnedRadius` gives the options, `LogRadius` moves the radii."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from benchmarks.search.batched import Moment, Pass, Radii, dot, norm, over
from letsam import LearnedRadius, ReplayedRadius
from letsam.radius.log_radius import LogRadius


class LearnedRadii(Radii):
    """`letsam.LearnedRadius`, with the secant and the next batch, for every replica; SAM only: eps_hat reaches 1.

    Args:
        starts: radii to start from, (R,).
        **options: of `LearnedRadius`, which has the defaults and checks the values.

    Raises:
        ValueError: another hypergradient or training batch.

    Example:
        >>> LearnedRadii(torch.tensor([0.01, 1.0])).nu.values[0].exp()
        tensor([0.0100, 1.0000])
    """

    projected = 1.0  # share of the component along the gradient that length invariance takes off

    def __init__(self, starts: Tensor, **options: Any) -> None:
        super().__init__(starts)
        if left := {"hypergradient", "training_batch"} & options.keys():
            raise ValueError(f"`{left.pop()}` must be the default here, got {options}")
        self.rule = rule = LearnedRadius(0.1, **options)
        self.nu = LogRadius(0.1, rule.bounds, rule.prior, rule.prior_weight, rule.burn_in, rule.prior_rise)
        self.nu.to(starts.device, starts.dtype)
        self.nu.values = torch.stack([starts.log(), *[torch.zeros_like(starts)] * 3])
        self.nu.curved = torch.zeros(2, *starts.shape, dtype=starts.dtype)
        self.reach = torch.ones_like(starts)
        self.change: list[Tensor] = []  # Z = -lr H_rho eps_hat of the step before
        self.rise = torch.zeros_like(starts)  # of the loss along the last ascent, relative to the loss

    def validates(self, step: int) -> bool:
        """When the library would."""
        return self.rule.validates_before(step)

    def at(self, moment: Moment) -> Tensor:
        """`LearnedRadius.at`."""
        rule, nu = self.rule, self.nu
        if moment.validation is not None and self.change:
            rate = rule.lr * rule._interval_at(moment.step) * (moment.share if rule.follow_lr else 1.0)
            usable = torch.ones_like(self.rho, dtype=torch.bool)
            slope = self.slope(moment, moment.validation)
            room = None if rule.prior is None else self.room(moment)
            if room is not None:
                factor = self.factor(nu.values[0] - room)
                nu.weights = tuple(weight * factor for weight in rule.prior_weight)  # pyright: ignore[reportAttributeAccessIssue]  # an idea's may be (R,)
            highest = nu.highest(room, moment.step)
            self.rho = nu.propose(self.rho, slope, rate, room, highest, moment.step, usable)
            self.nu.commit(usable)
        if 0 < moment.step < rule.burn_in and rule.prior is not None:
            self.rho = self.rho.clamp(max=torch.as_tensor(nu.highest(self.room(moment), moment.step)).exp())
        return self.rho

    def see(self, step: int, lr: float, rho: Tensor, first: Pass, second: Pass) -> None:
        """Z by the secant, projected if asked for, where the next step will use it."""
        if self.nu.measures(step):
            self.nu.see_curvature(first.loss, rho, norm(second.gradients) - norm(first.gradients))
            self.nu.commit(torch.ones_like(rho, dtype=torch.bool))
        if not self.validates(step + 1):
            return
        self.rise = (second.loss - first.loss) / first.loss
        pairs = zip(second.gradients, first.gradients, strict=True)
        change = [(g1 - g0) / over(rho, g0) for g1, g0 in pairs]
        if self.rule.length_invariant:
            share = self.projected * dot(second.gradients, change) / dot(second.gradients, second.gradients)
            change = [z - over(share, g) * g for z, g in zip(change, second.gradients, strict=True)]
        self.change = [-lr * z for z in change]

    def slope(self, moment: Moment, validation: Pass) -> Tensor:
        """The slope of the upper level along nu, (R,)."""
        slope = self.along(validation.gradients)
        if self.rule.objective == "squared_gap":
            slope = (validation.loss - moment.training.loss) * (slope - self.along(moment.training.gradients))
        return slope

    def along(self, gradients: Sequence[Tensor]) -> Tensor:
        """The cosine with Z, or rho times the dot product."""
        slope = dot(gradients, self.change)
        if not self.rule.normalize:
            return slope * self.rho
        return slope / (norm(gradients) * norm(self.change)).clamp(min=torch.finfo(slope.dtype).tiny)

    def factor(self, excess: Tensor) -> float | Tensor:
        """Of the weights of the prior at this update, given log(reach of the perturbation / prior), (R,)."""
        return 1.0

    def room(self, moment: Moment) -> Tensor:
        """`LogRadius.room`, (R,)."""
        return self.nu.room(self.reach, moment.step if moment.validation is not None else self.rule.burn_in)


class ReplayedRadii(Radii):
    """`letsam.ReplayedRadius` for every replica.

    Args:
        curves: the radii of every step of a finished run, (steps, R).
        steps: length of this run.
        burn_in: of the finished run.
    """

    def __init__(self, curves: Tensor, steps: int, burn_in: int) -> None:
        super().__init__(curves[0])
        self.replayed = [ReplayedRadius(curve, steps, burn_in=burn_in) for curve in curves.t().tolist()]

    def at(self, moment: Moment) -> Tensor:
        """The radii that belong to this step."""
        self.rho = self.rho.new_tensor([one.value(moment.step) for one in self.replayed])
        return self.rho
