"""The ideas: the default of `LearnedRadius` with one thing changed. What the library has no argument for is here."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
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

    Outputs (R, B, classes), targets (R, B) -> (R,), between 0.02 and 20; an iteration changes it by at most 2.

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
    """One thing tried; ideas.toml says what the fields are."""

    name: str
    predicts: str
    options: Mapping[str, Any]
    radii: Callable[..., LearnedRadii]
    share: float = 0.1
    everywhere: bool = True

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> Idea:
        """From ideas.toml."""
        given = fields.get("options", {}).items()
        options = {name: None if value == "none" else value for name, value in given}
        radii = globals()[fields.get("radii", "LearnedRadii")]
        return cls(**{**fields, "options": options, "radii": radii})

    @property
    def decision(self) -> str:
        """What became of it: "kept", "dropped", or "argument", dropped as the default but left to choose."""
        if self.radii is not LearnedRadii or self.share != 0.1:
            return "dropped"
        return "argument" if self.options else "kept"


IDEAS = [Idea.of(one) for one in tomllib.loads(Path(__file__).with_suffix(".toml").read_text("utf-8"))["ideas"]]
BY_NAME = {idea.name: idea for idea in IDEAS}
