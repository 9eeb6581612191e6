"""Radii of R replicas: learned by the library's own parts, which move R radii as they move one, and replayed."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor

from benchmarks.search.batched import Loss, Moment, Pass, Radii, cross_entropy, dot, norm, over
from benchmarks.search.ideas import RelativeAscent
from letsam import LearnedRadius, ReplayedRadius, Secant
from letsam.radius import Ascent, Evidence
from letsam.tangent import Slope


class LearnedRadii(Radii):
    """A `LearnedRadius` for every replica, with Z by the secant; SAM only: eps_hat reaches 1."""

    def __init__(self, starts: Tensor, radius: LearnedRadius, validation_loss: Loss = cross_entropy) -> None:
        super().__init__(starts)
        if not isinstance(radius.hypergradient, Secant) or radius.objective.training_batch != "next":
            raise ValueError(f"`radius` must have the secant and the next batch, got {radius.objective}")
        self.radius, self.validation_loss = copy.deepcopy(radius), validation_loss
        self.radius.rho = starts
        self.radius.rule.start(starts)
        self.finite = torch.ones_like(starts, dtype=torch.bool)
        self.z: list[Tensor] = []  # -lr H_rho eps_hat of the step before

    def validates(self, step: int) -> bool:
        """When the library would."""
        return self.radius.wants(step).validation is not None

    def at(self, moment: Moment) -> Tensor:
        """What a step of `letsam.SAM` tells its radius before it climbs."""
        losses = moment.training.loss, None if moment.validation is None else moment.validation.loss
        evidence = Evidence(moment.step, moment.share, 1.0, *losses)
        if moment.validation is not None and self.z:
            slopes = [self.slope(one.gradients) for one in (moment.validation, moment.training)]
            evidence = Evidence(moment.step, moment.share, 1.0, *losses, *slopes, usable=self.finite)
        self.radius.update(evidence)
        length = norm(moment.training.gradients)
        return self.radius.at(Ascent(moment.step, moment.share, 1.0, moment.training.loss, length, 1))

    def slope(self, gradients: Sequence[Tensor]) -> Slope:
        """Along Z."""
        value = dot(gradients, self.z)
        return Slope(value, (norm(gradients) * norm(self.z)).clamp(min=torch.finfo(value.dtype).tiny))

    def see(self, step: int, lr: float, rho: Tensor, first: Pass, second: Pass) -> None:
        """The end of a step; Z where the next step will use it."""
        rule, hypergradient = self.radius.rule, self.radius.hypergradient
        if self.radius.wants(step).growth:
            rule.observe(first.loss, rho, norm(second.gradients) - norm(first.gradients))
        self.radius.commit(self.finite)
        if not self.radius.wants(step).tangent:
            return
        if isinstance(prior := getattr(rule, "prior", None), RelativeAscent):
            prior.relative_rise = (second.loss - first.loss) / first.loss
        change = [(g1 - g0) / over(rho, g0) for g1, g0 in zip(second.gradients, first.gradients, strict=True)]
        if hypergradient.length_invariant:
            share = getattr(hypergradient, "projected", 1.0) * dot(second.gradients, change)
            share = share / dot(second.gradients, second.gradients)
            change = [z - over(share, g) * g for z, g in zip(change, second.gradients, strict=True)]
        self.z = [-lr * z for z in change]


class ReplayedRadii(Radii):
    """`letsam.ReplayedRadius` for every replica, given the radii of every step of a finished run, (steps, R)."""

    def __init__(self, curves: Tensor, steps: int, burn_in: int) -> None:
        super().__init__(curves[0])
        self.replayed = [ReplayedRadius(curve, steps, burn_in=burn_in) for curve in curves.t().tolist()]

    def at(self, moment: Moment) -> Tensor:
        """The radii that belong to this step."""
        self.rho = self.rho.new_tensor([one.value(moment.step) for one in self.replayed])
        return self.rho
