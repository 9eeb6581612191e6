"""Ideas for the default that are tried on the settings themselves; `benchmarks.search` has the many."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from letsam import SAM, LearnedRadius
from letsam.radius import Ascent
from letsam.radius.log_radius import LogRadius
from letsam.training.methods import KINDS, Kind


class _WholeLogRadius(LogRadius):
    def share(self, step: int) -> float:
        return 1.0


class _WholePrior(LearnedRadius):
    """The prior is whole from the first step on, in the burn-in too."""

    def __init__(self, rho: float) -> None:
        super().__init__(rho)
        args = self.bounds, self.prior, self.prior_weight, self.burn_in, self.prior_rise
        self._nu = _WholeLogRadius(float(self.rho), *args)


class _LengthLimited(LearnedRadius):
    """The prior is limited by the length of the gradients, not by the curvature.

    It is multiplied by min(1, r / prior)^power, where r = rise * L / ||g_0||, the geometric mean over the first 25
    steps, is how far the loss, linearized, has risen by this share of itself.
    """

    def __init__(self, rho: float, *, rise: float, power: int) -> None:
        super().__init__(rho, prior_rise=None)
        self._rise, self._power, self._logs = rise, power, list[Tensor]()

    def at(self, ascent: Ascent) -> Tensor:
        assert self.prior is not None
        if ascent.step < 25 and ascent.loss is not None:
            self._logs.append((self._rise / self.prior * ascent.loss / ascent.gradient_norm).log())
            limit = torch.stack(self._logs).mean().clamp(max=0.0)
            self._nu._given = math.log(self.prior) + self._power * limit
            self._nu._log_prior = None
        return super().at(ascent)


@dataclass(frozen=True)
class Idea:
    """One thing changed in the default."""

    title: str  # of its column
    predicts: str  # what should happen if it is right
    radius: Callable[[float], LearnedRadius]  # makes the radius from its start


IDEAS = {
    "lets-sam-whole-prior": Idea("whole prior in the burn-in", "some starts do not begin to train", _WholePrior),
    "lets-sam-length": Idea(
        "limit by length",
        "the default before, at most 0.1 L / ||g||: too small a prior on vit, too large on text",
        partial(_LengthLimited, rise=0.1, power=1),
    ),
    "lets-sam-length-squared": Idea(
        "the same, 0.2, squared",
        "larger radii on vit with noise, the same on text",
        partial(_LengthLimited, rise=0.2, power=2),
    ),
}
for _name, _idea in IDEAS.items():  # so that their names are those of methods, in worker processes too
    KINDS[_name] = Kind(f"SAM, learned radius: {_idea.title}", SAM, _idea.radius)
