"""The ideas: the default of `LearnedRadius` with one thing changed. What the library has no argument for is here."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from benchmarks.search.batched import Moment, Pass, cross_entropy
from benchmarks.search.radii import LearnedRadii

MIX = 0.5  # weight of the gap beside the validation loss
RAMP = 100  # steps


class GapAndLoss(LearnedRadii):
    """Upper level: validation loss + 0.5 gap."""

    def slope(self, moment: Moment, validation: Pass) -> Tensor:
        """(1 + 0.5) times the slope of the validation loss, less 0.5 times that of the training loss."""
        return (1 + MIX) * self.along(validation.gradients) - MIX * self.along(moment.training.gradients)


class Calibrated(LearnedRadii):
    """Upper level: the validation loss after the outputs are scaled by what fits the batch best."""

    def validation_loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The loss at the best scale; as that is a minimum, the scale counts as constant in the gradient."""
        scale = best_scale(outputs.detach(), targets)
        return cross_entropy(scale[:, None, None] * outputs, targets)


class ExpectedError(LearnedRadii):
    """Upper level: the error to be expected, 1 - p(target)."""

    def validation_loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """1 less the probability of the target, mean over the batch."""
        return 1 - outputs.softmax(-1).gather(-1, targets[..., None])[..., 0].mean(1)


class Ramped(LearnedRadii):
    """The radius rises in a line from 0 to what is learned, over the first 100 steps."""

    def at(self, moment: Moment) -> Tensor:
        """The learned radius times the share of the ramp."""
        return super().at(moment) * min(1.0, (moment.step + 1) / RAMP)


class QuadraticPrior(LearnedRadii):
    """The pull grows with the distance from the prior without bound."""

    def factor(self, excess: Tensor) -> float | Tensor:
        """`LogRadius` clamps the distance at 1: the weight makes up for it."""
        return excess.abs().clamp(min=1.0)


class RelativeAscent(LearnedRadii):
    """Above the prior, the pull is in proportion to how much the ascent raises the loss."""

    def factor(self, excess: Tensor) -> float | Tensor:
        """clamp((L(theta + eps) - L(theta)) / L(theta), 0, 1) above the prior, 1 below."""
        return torch.where(excess > 0, self.rise.clamp(0.0, 1.0), 1.0)


class RisingPrior(LearnedRadii):
    """The prior rises from half of what it is to one and a half, in a line where the learning rate is a cosine."""

    def room(self, moment: Moment) -> Tensor:
        """log(rho) at the prior of this step."""
        return super().room(moment) + math.log(rising(moment.share))


class WholePriorAtOnce(LearnedRadii):
    """The prior is whole from the first step on, in the burn-in too."""

    def room(self, moment: Moment) -> Tensor:
        """log(rho) at the prior."""
        return self.nu.room(self.reach, self.rule.burn_in)


class PartlyInvariant(LearnedRadii):
    """Four fifths of the component along the gradient are taken off Z, not all of it."""

    projected = 0.8


def rising(share: float) -> float:
    """A factor that rises from 1/2 to 3/2 over a run in which learning rate / its peak is this share.

    Example:
        >>> rising(1.0), rising(0.5), rising(0.0)
        (0.5, 1.0, 1.5)
    """
    return 0.5 + math.acos(2 * share - 1) / math.pi


def best_scale(outputs: Tensor, targets: Tensor, iterations: int = 12) -> Tensor:
    """The factor of the outputs that minimises the cross-entropy, by Newton's method: 1 / temperature.

    Args:
        outputs: (R, B, classes).
        targets: (R, B).
        iterations: each changes the factor by at most 2.

    Returns:
        (R,), between 0.02 and 20.

    Example:
        >>> outputs = torch.tensor([[[4.0, 0.0], [4.0, 0.0], [4.0, 0.0]]])  # sure of what is right in 2 of 3
        >>> scale = best_scale(outputs, torch.tensor([[0, 0, 1]]))
        >>> (scale[:, None, None] * outputs).softmax(-1)[0, 0, 0]
        tensor(0.6667)
    """
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


@dataclass(frozen=True)
class Idea:
    """One thing tried.

    Attributes:
        name: in the record and the table.
        predicts: what should happen if the idea is right, or what it should cost, in one line.
        options: arguments of `LearnedRadius` that differ from the default.
        radii: the rule; `LearnedRadii` is the library's.
        share: held out for validation.
        everywhere: whether it is tried in all settings, not only in those of `settings.FOR_ALL`.
    """

    name: str
    predicts: str
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    radii: Callable[..., LearnedRadii] = LearnedRadii
    share: float = 0.1
    everywhere: bool = False

    @property
    def decision(self) -> str:
        """What became of it: "kept", "dropped", or "argument", dropped as the default but left to choose."""
        if self.radii is not LearnedRadii or self.share != 0.1:
            return "dropped"
        return "argument" if self.options else "kept"


FIRST = {"normalize": False, "prior": None, "burn_in": 0, "length_invariant": True, "interval": 1, "lr": 0.02}
IDEAS = (
    Idea("default", "near the best fixed radius from any start", everywhere=True),
    Idea("first version", "plain Adam on the hypergradient finds the radius alone", FIRST, everywhere=True),
    Idea("not normalized", "late slopes fade with the loss: the start decides", {"normalize": False}, everywhere=True),
    Idea("no prior", "where the slope is noise the radius stays near its start", {"prior": None}, everywhere=True),
    Idea(
        "one weight, 0.1",
        "the radius falls early, and with it what keeps wrong labels from being learned",
        {"prior_weight": 0.1},
        everywhere=True,
    ),
    Idea(
        "one weight, 0.1, prior 0.1",
        "an earlier default: near the best fixed radius from any start",
        {"prior_weight": 0.1, "prior": 0.1, "prior_rise": None},
        everywhere=True,
    ),
    Idea("one weight, 0.7", "holds the prior against late evidence too", {"prior_weight": 0.7}, everywhere=True),
    Idea("weights 0.4, 0.1", "falls where the evidence for that lasts", {"prior_weight": (0.4, 0.1)}, everywhere=True),
    Idea("weights 1, 0.1", "never falls below the prior", {"prior_weight": (1.0, 0.1)}, everywhere=True),
    Idea("prior 0.1", "better on clean data, later where labels are wrong", {"prior": 0.1}, everywhere=True),
    Idea("no limit of the rise", "too large a prior where the loss is curved", {"prior_rise": None}, everywhere=True),
    Idea("rise 0.1", "smaller radii where the loss is rather curved", {"prior_rise": 0.1}, everywhere=True),
    Idea("quadratic prior", "one start forgets as fast as another", {}, QuadraticPrior, everywhere=True),
    Idea(
        "prior by relative ascent",
        "noise makes the ascent small beside the loss: little pull there",
        {},
        RelativeAscent,
        everywhere=True,
    ),
    Idea(
        "rising prior",
        "training is not slowed at first; late, when labels are learned by heart, more is asked",
        {},
        RisingPrior,
        everywhere=True,
    ),
    Idea(
        "whole prior in the burn-in",
        "some starts do not begin to train",
        {},
        WholePriorAtOnce,
        everywhere=True,
    ),
    Idea("no burn-in", "a start at 1 may never begin to train", {"burn_in": 0}, everywhere=True),
    Idea("burn-in 300 steps", "safer, later away from the prior", {"burn_in": 300}),
    Idea(
        "ramp instead of burn-in", "training begins before the radius is felt", {"burn_in": 0}, Ramped, everywhere=True
    ),
    Idea(
        "not length-invariant",
        "stronger slopes; a longer step may be mistaken for a flatter place",
        {"length_invariant": False},
        everywhere=True,
    ),
    Idea("invariant by 80%", "the good of both", {}, PartlyInvariant, everywhere=True),
    Idea("squared gap", "the paper's objective: lowers the gap", {"objective": "squared_gap"}),
    Idea("gap plus validation loss", "memorised noise shows in the gap first", {}, GapAndLoss),
    Idea("calibrated validation loss", "overconfidence is not taken for sharpness", {}, Calibrated, everywhere=True),
    Idea("expected error", "steers by what accuracy is, not by what the loss is", {}, ExpectedError, everywhere=True),
    Idea("interval 1", "the most evidence, at three passes a step", {"interval": 1}),
    Idea("interval 4", "the same cost, but fewer updates while the start is forgotten", {"interval": 4}),
    Idea("interval 10", "as good with a tenth of the updates", {"interval": 10}),
    Idea("rate 0.03", "slower: less noise, less reach", {"lr": 0.03}, everywhere=True),
    Idea("rate 0.08", "faster: more reach, more noise", {"lr": 0.08}),
    Idea("constant rate", "late slopes count as much as early ones", {"follow_lr": False}),
    Idea("held-out share 20%", "truer slopes, less to train on meanwhile", share=0.2),
)
BY_NAME = {idea.name: idea for idea in IDEAS}
