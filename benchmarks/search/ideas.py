"""The ideas: the default of `LearnedRadius` with one thing changed, and the parts that the library does not have."""

from __future__ import annotations

import math
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.search.batched import cross_entropy
from letsam import CalibratedLoss, LearnedRadius, LogAdam, OneSidedGap, Prior, Secant, SquaredGap
from letsam.radius import Ascent, Evidence, Objective, Update

MIX = 0.5  # weight of the gap, relative to the validation loss
RAMP = 100  # steps
DEFAULT = Prior()


class GapAndLoss(Objective):
    """Validation loss + 0.5 gap."""

    uses_training_slope = True

    def derivative(self, evidence: Evidence, validation_slope: Tensor, training_slope: Tensor | None) -> Tensor:
        """(1 + 0.5) times the slope of the validation loss, less 0.5 times that of the training loss."""
        assert training_slope is not None
        return (1 + MIX) * validation_slope - MIX * training_slope


class Ramped(LearnedRadius):
    """The radius rises linearly from 0 to the learned one, over the first 100 steps."""

    def at(self, ascent: Ascent) -> Tensor:
        """The learned radius times the share of the ramp."""
        return super().at(ascent) * min(1.0, (ascent.step + 1) / RAMP)


class WholePrior(Prior):
    """The prior is whole from the first step on, in the burn-in too."""

    def share(self, step: int, burn_in: int) -> float:
        """All of it."""
        return 1.0


class QuadraticPrior(Prior):
    """The pull of the prior grows with the distance without bound."""

    def pull(self, move: Tensor, excess: Tensor, early: float) -> Tensor:
        """`Prior` clamps the distance at 1: a factor makes up for it."""
        return move + excess.abs().clamp(min=1.0) * super().pull(torch.zeros_like(move), excess, early)


class RelativeAscent(Prior):
    """Above the prior, the pull is in proportion to how much the ascent raises the loss."""

    relative_rise = torch.zeros(())  # (L(theta + eps) - L(theta)) / L(theta) of the last step

    def pull(self, move: Tensor, excess: Tensor, early: float) -> Tensor:
        """The rise clamped to 0 and 1 is a factor above the prior."""
        factor = torch.where(excess > 0, self.relative_rise.clamp(0.0, 1.0), 1.0)
        return move + factor * super().pull(torch.zeros_like(move), excess, early)


class RisingPrior(LogAdam):
    """The prior rises from half of its value to one and a half, linearly where the learning rate is a cosine."""

    factor = 1.0

    def propose(self, rho: Tensor, slope: Tensor, update: Update) -> Tensor:
        """The update says how far the learning rate has fallen."""
        self.factor = rising(float(update.lr_share))
        return super().propose(rho, slope, update)

    def log_highest(self, reach: Tensor, step: int, updates: bool) -> tuple[Tensor | None, Tensor | float]:
        """A larger prior is as far away as a shorter reach."""
        return super().log_highest(reach / self.factor, step, updates)


class PartlyInvariant(Secant):
    """Four fifths of the component along the gradient are taken off Z, not all of it."""

    projected = 0.8


def rising(share: float) -> float:
    """A factor that rises from 1/2 to 3/2 over a run in which learning rate / its peak is this share."""
    return 0.5 + math.acos(2 * share - 1) / math.pi


def calibrated(outputs: Tensor, targets: Tensor) -> Tensor:
    """The loss at the best scale of the outputs; as that is a minimum, the scale counts as constant in the gradient."""
    return cross_entropy(best_scale(outputs.detach(), targets)[:, None, None] * outputs, targets)


def expected_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """1 minus the probability of the target, mean over the batch."""
    return 1 - outputs.softmax(-1).gather(-1, targets[..., None])[..., 0].mean(1)


def best_scale(outputs: Tensor, targets: Tensor, iterations: int = 12) -> Tensor:
    """The factor of the outputs (R, B, classes) that minimises the cross-entropy, by Newton's method; (R,)."""
    scale = torch.ones(outputs.shape[0], dtype=outputs.dtype)
    right = outputs.gather(-1, targets[..., None])[..., 0]
    for _ in range(iterations):
        shares = (scale[:, None, None] * outputs).softmax(-1)
        mean = (shares * outputs).sum(-1)
        slope = (mean - right).mean(1)
        curvature = ((shares * outputs.square()).sum(-1) - mean.square()).mean(1)
        moved = scale - slope / (curvature + 1e-6)
        scale = torch.maximum(torch.minimum(moved, 2 * scale), scale / 2).clamp(0.02, 20.0)
    return scale


def adam(prior: Prior | None = DEFAULT, **options: Any) -> LearnedRadius:
    """The default but for the prior and options of the rule."""
    return LearnedRadius(0.1, rule=LogAdam(prior=prior, **options))


RADII = {
    "default": LearnedRadius(0.1),
    "first version": LearnedRadius(0.1, rule=LogAdam(0.02, prior=None, normalize=False, burn_in=0), interval=1),
    "not normalized": adam(normalize=False),
    "no prior": adam(None),
    "one weight, 0.1": adam(Prior(weight=0.1)),
    "one weight, 0.1, prior 0.1": adam(Prior(0.1, weight=0.1, rise=None)),
    "one weight, 0.7": adam(Prior(weight=0.7)),
    "weights 0.4, 0.1": adam(Prior(weight=(0.4, 0.1))),
    "weights 1, 0.1": adam(Prior(weight=(1.0, 0.1))),
    "prior 0.1": adam(Prior(0.1)),
    "no limit of the rise": adam(Prior(rise=None)),
    "rise 0.1": adam(Prior(rise=0.1)),
    "quadratic prior": adam(QuadraticPrior()),
    "prior by relative ascent": adam(RelativeAscent()),
    "rising prior": LearnedRadius(0.1, rule=RisingPrior()),
    "whole prior in the burn-in": adam(WholePrior()),
    "no burn-in": adam(burn_in=0),
    "burn-in 300 steps": adam(burn_in=300),
    "ramp instead of burn-in": Ramped(0.1, rule=LogAdam(burn_in=0)),
    "not length-invariant": LearnedRadius(0.1, hypergradient=Secant(length_invariant=False)),
    "invariant by 80%": LearnedRadius(0.1, hypergradient=PartlyInvariant()),
    "squared gap": LearnedRadius(0.1, objective=SquaredGap()),
    "one-sided gap": LearnedRadius(0.1, objective=OneSidedGap()),
    "gap plus validation loss": LearnedRadius(0.1, objective=GapAndLoss()),
    "one-sided calibration": LearnedRadius(0.1, objective=CalibratedLoss()),
    **{f"interval {steps}": LearnedRadius(0.1, interval=steps) for steps in (1, 4, 10)},
    "rate 0.03": adam(lr=0.03),
    "rate 0.08": adam(lr=0.08),
    "constant rate": adam(follow_lr=False),
}
"""By the names of the ideas; the others have the default."""
LOSSES = {
    "calibrated validation loss": calibrated,
    "expected error": expected_error,
}
"""The losses on the validation batch that replace the cross-entropy."""


@dataclass(frozen=True)
class Idea:
    """One thing tried; ideas.toml documents the fields."""

    name: str
    predicts: str
    decision: str
    share: float = 0.1
    everywhere: bool = True

    @property
    def radius(self) -> LearnedRadius:
        """What is learned."""
        return RADII.get(self.name, RADII["default"])


IDEAS = [Idea(**one) for one in tomllib.loads(Path(__file__).with_suffix(".toml").read_text("utf-8"))["ideas"]]
BY_NAME = {idea.name: idea for idea in IDEAS}
