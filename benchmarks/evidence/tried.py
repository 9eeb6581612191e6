"""Ideas for the default that are tried on the settings themselves; `benchmarks.search` has the many."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from benchmarks.search.ideas import low_at_first, rising
from letsam import SAM, LearnedRadius
from letsam.radius import Ascent
from letsam.radius.log_radius import LogRadius
from letsam.radius.scheduled import learning_rate_share
from letsam.training.methods import KINDS, Kind


class _ShiftedLogRadius(LogRadius):
    shift = 0.0  # of the logarithm of the prior

    @property
    def log_prior(self) -> Tensor:
        return super().log_prior + self.shift


class MovingPrior(LearnedRadius):
    """The prior is multiplied by a factor of the step.

    Args:
        rho: starting radius.
        factor: from what is known at a step to the factor, > 0.
    """

    def __init__(self, rho: float, factor: Callable[[Ascent], float]) -> None:
        super().__init__(rho)
        self.factor = factor
        args = self.bounds, self.prior, self.prior_weight, self.burn_in, self.prior_rise
        self._nu: _ShiftedLogRadius = _ShiftedLogRadius(float(self.rho), *args)

    def at(self, ascent: Ascent) -> Tensor:
        """The radius of this step, drawn to the prior of this step."""
        self._nu.shift = math.log(self.factor(ascent))
        return super().at(ascent)


@dataclass(frozen=True)
class Idea:
    """One thing changed in the default.

    Attributes:
        title: of its column.
        predicts: what should happen if it is right.
        radius: makes the radius from its start.
    """

    title: str
    predicts: str
    radius: Callable[[float], LearnedRadius]


def _rising(rho: float) -> LearnedRadius:
    return MovingPrior(rho, lambda ascent: rising(float(learning_rate_share(ascent))))


def _low_at_first(rho: float) -> LearnedRadius:
    return MovingPrior(rho, lambda ascent: low_at_first(ascent.step))


def _longer_rise(rho: float) -> LearnedRadius:
    return LearnedRadius(rho, prior_rise=0.2)


def _lighter(rho: float) -> LearnedRadius:
    return LearnedRadius(rho, prior_weight=(0.4, 0.1))


IDEAS = {
    "lets-sam-rising-prior": Idea(
        "rising prior", "training is not slowed at first, and more is asked when labels are learned by heart", _rising
    ),
    "lets-sam-low-at-first": Idea("low prior in the burn-in", "no start fails to begin to train", _low_at_first),
    "lets-sam-rise-0.2": Idea("`prior_rise=0.2`", "vit and digits get the larger radii they want", _longer_rise),
    "lets-sam-lighter": Idea("`prior_weight=(0.4, 0.1)`", "the radius falls where the evidence is for it", _lighter),
}  # fmt: skip
for _name, _idea in IDEAS.items():  # so that their names are those of methods, in worker processes too
    KINDS[_name] = Kind(f"SAM, learned radius: {_idea.title}", SAM, _idea.radius)
