"""The default with one rule left out or replaced, in one run on all settings: what each of them gives."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.evidence.last_gradient import LastGradientSAM
from letsam import SAM, CalibratedLoss, GapOnset, LearnedRadius, LogAdam, OneSidedGap, Prior
from letsam.radius import Ascent, Evidence, Update, Wants
from letsam.training.methods import BURN_IN, QUICK_INTERVAL, Kind, register
from letsam.variants import Variant


class NoSlopes(LogAdam):
    """Every slope counts as 0."""

    def propose(self, rho: Tensor, slope: Tensor, update: Update) -> Tensor:
        """The prior alone moves the radius."""
        return super().propose(rho, torch.zeros_like(slope), update)


class ThenPrior(LearnedRadius):
    """After `until`, the radius is that of the prior."""

    def at(self, ascent: Ascent) -> Tensor:
        """The radius at which the perturbation reaches as far as the prior."""
        rho = super().at(ascent)
        if self.until is None or ascent.step < self.until:
            return rho
        assert isinstance(self.rule, LogAdam)
        assert self.rule.prior is not None
        self.rho = self.rule.prior.log_radius(self.reach, 1.0).exp()
        return self.rho


class ThenTrend(LearnedRadius):
    """After `until`, the radius goes on as a (t + 1)^b, fitted to log(rho) by least squares after the burn-in."""

    def __init__(self, rho: float, **options: Any) -> None:
        super().__init__(rho, **options)
        self.seen: list[tuple[float, float]] = []
        self.fit: tuple[float, float] | None = None

    def at(self, ascent: Ascent) -> Tensor:
        """The learned radius, then its trend."""
        rho, step = super().at(ascent), ascent.step
        if self.until is None or step < self.until:
            if step >= self.rule.burn_in:
                self.seen.append((math.log(step + 1), math.log(float(rho))))
            return rho
        if self.fit is None:
            self.fit = power_law(self.seen) if len(self.seen) > 1 else (math.log(float(rho)), 0.0)
        low, high = self.rule.bounds
        value = math.exp(self.fit[0] + self.fit[1] * math.log(step + 1))
        self.rho = torch.full_like(self.rho, min(max(value, low), high))
        return self.rho


def power_law(points: list[tuple[float, float]]) -> tuple[float, float]:
    """(a, b) of y = a + b x by least squares, with b at least 0: a radius that falls stays at its mean."""
    x, y = torch.tensor(points, dtype=torch.float64).unbind(1)
    apart = x - x.mean()
    b = max(0.0, float((apart * y).sum() / apart.square().sum()))
    return float(y.mean()) - b * float(x.mean()), b


class Onset(LearnedRadius):
    """Steps of the base optimizer until `GapOnset`; from there on, the radius is learned.

    Every fourth step measures the gap on a validation batch. The onset is after `LATEST` of `until` at the latest, or
    after as many steps as a burn-in has where nothing is released.
    """

    EVERY, ERRORS, LATEST = 4, 3.0, 0.5

    def __init__(self, rho: float, **options: Any) -> None:
        super().__init__(rho, **options)
        latest = BURN_IN if self.until is None else max(1, round(self.LATEST * self.until))
        self.gap = GapOnset(latest, errors=self.ERRORS)

    @property
    def onset(self) -> int:
        """The first step that climbs, as far as is known."""
        return self.gap.latest if self.gap.onset is None else self.gap.onset

    def wants(self, step: int) -> Wants:
        """A validation pass now and then; after the onset what a learned radius wants, counted from there."""
        if not self.gap(step):
            return Wants(validation="before" if step % self.EVERY == 0 else None, climbs=False)
        if self.until is not None:
            self._times.until = max(1, self.until - self.onset)
        return super().wants(step - self.onset)

    def update(self, evidence: Evidence) -> None:
        """Look for the onset, or learn."""
        if self.gap(evidence.step):
            super().update(replace(evidence, step=evidence.step - self.onset))
        elif evidence.validation_loss is not None:
            assert evidence.training_loss is not None
            self.gap.observe(evidence.step, evidence.training_loss, evidence.validation_loss)

    def at(self, ascent: Ascent) -> Tensor:
        """The radius, 0 before the onset."""
        if not self.gap(ascent.step):
            return torch.zeros_like(self.rho)
        return super().at(replace(ascent, step=ascent.step - self.onset))


def rule(**options: Any) -> Callable[..., LearnedRadius]:
    """Makes the default but for these options of `LogAdam`."""
    return lambda rho, **more: LearnedRadius(rho, rule=LogAdam(**options), **more)


def without_slopes(rho: float, **options: Any) -> LearnedRadius:
    """The prior with its warm-up and its limit."""
    return LearnedRadius(rho, rule=NoSlopes(), **options)


@dataclass(frozen=True)
class Change:
    """One thing changed in the default."""

    title: str  # of its column
    radius: Callable[..., LearnedRadius]
    variant: type[Variant] = SAM


CHANGES = {
    "lets-sam-prior-alone": Change("prior, no slopes", without_slopes),
    "lets-sam-slopes-alone": Change("slopes, no prior", rule(prior=None)),
    "lets-sam-one-weight": Change("one weight, 0.1", rule(prior=Prior(weight=0.1))),
    "lets-sam-no-limit": Change("no limit by curvature", rule(prior=Prior(rise=None))),
    "lets-sam-no-burn-in": Change("no burn-in", rule(burn_in=0)),
    "lets-sam-calibrated": Change("calibrated loss", partial(LearnedRadius, objective=CalibratedLoss())),
    "lets-sam-gap": Change("one-sided gap", partial(LearnedRadius, objective=OneSidedGap())),
    "lets-sam-then-prior": Change("then the prior", ThenPrior),
    "lets-sam-then-trend": Change("then its trend", ThenTrend),
    "lets-sam-onset": Change("learned onset", Onset),
    "lets-sam-last": Change("last step's gradient", partial(LearnedRadius, interval=QUICK_INTERVAL), LastGradientSAM),
}
"""By the names of their methods."""
for _name, _change in CHANGES.items():  # so that their names are those of methods, in worker processes too
    _burn_in = _change.radius(0.1).rule.burn_in
    register(_name, Kind(f"SAM, learned radius: {_change.title}", _change.variant, _change.radius, burn_in=_burn_in))
