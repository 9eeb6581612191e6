"""Ideas for the default that are tried on the settings of the evidence; `benchmarks.search` has the other ideas."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from benchmarks.search.ideas import WholePrior
from letsam import SAM, LearnedRadius, LogAdam, Prior
from letsam.radius import Ascent, Evidence
from letsam.radius.prior import MEASURED
from letsam.training.methods import Kind, register


class LengthLimited(Prior):
    """The prior is limited by the length of the gradients: multiplied by min(1, r / prior)^power.

    r = rise * L / ||g_0||, a geometric mean over the first 25 steps, is where the linearized loss has risen by `rise`.
    """

    def __init__(self, rise: float, power: int) -> None:
        super().__init__(rise=None)
        self.share_of_loss, self.power, self.logs = rise, power, list[Tensor]()

    def see(self, loss: Tensor, gradient_norm: Tensor) -> None:
        """Add one of the first steps to the mean."""
        self.logs.append((self.share_of_loss / self.reach * loss / gradient_norm).log())

    @property
    def log_reach(self) -> Tensor:
        """The logarithm of the prior."""
        return math.log(self.reach) + self.power * torch.stack(self.logs).mean().clamp(max=0.0)


class LengthLimitedRadius(LearnedRadius):
    """Its prior sees the gradient norm before a step updates the radius."""

    def __init__(self, rho: float, *, rise: float, power: int) -> None:
        super().__init__(rho, rule=LogAdam(prior=LengthLimited(rise, power)))
        self.waiting: Evidence | None = None

    def update(self, evidence: Evidence) -> None:
        """Keep the losses until the gradient norm is known, which `at` receives."""
        if evidence.validation_loss is None:
            super().update(evidence)
        else:
            self.waiting = evidence

    def at(self, ascent: Ascent) -> Tensor:
        """The radius, after the update that was postponed."""
        waiting, self.waiting = self.waiting, None
        if ascent.step < MEASURED and ascent.loss is not None:
            self.rule.prior.see(ascent.loss, ascent.gradient_norm)
        if waiting is not None:
            super().update(waiting)
        return super().at(ascent)


def whole_prior(rho: float) -> LearnedRadius:
    """The prior is whole from the first step on."""
    return LearnedRadius(rho, rule=LogAdam(prior=WholePrior()))


@dataclass(frozen=True)
class Idea:
    """One thing changed in the default."""

    title: str  # of its column
    predicts: str  # what should happen if it is right
    radius: Callable[[float], LearnedRadius]  # makes the radius from its start


IDEAS = {
    "lets-sam-whole-prior": Idea("whole prior in the burn-in", "some starts do not begin to train", whole_prior),
    "lets-sam-length": Idea(
        "limit by length",
        "the earlier default, at most 0.1 L / ||g||: the prior is too small on vit, too large on text",
        partial(LengthLimitedRadius, rise=0.1, power=1),
    ),
    "lets-sam-length-squared": Idea(
        "the same, 0.2, squared",
        "larger radii on vit with noise, the same on text",
        partial(LengthLimitedRadius, rise=0.2, power=2),
    ),
}
for _name, _idea in IDEAS.items():  # so that their names are those of methods, in worker processes too
    register(_name, Kind(f"SAM, learned radius: {_idea.title}", SAM, _idea.radius))
