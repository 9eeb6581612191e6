"""Ideas for the default that are tried on the settings themselves; `benchmarks.search` has the many."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor

from letsam import SAM, LearnedRadius
from letsam.radius.log_radius import LogRadius
from letsam.training.methods import KINDS, Kind


class _WholeLogRadius(LogRadius):
    """The prior is whole from the first step on, in the burn-in too."""

    def share(self, step: int) -> float:
        return 1.0


class _SteepLogRadius(LogRadius):
    """Where the loss, linearized, rises by more than `rise` at the prior, the prior falls with the square."""

    @property
    def log_prior(self) -> Tensor:
        return self._given + 2 * (super().log_prior - self._given)


class _OtherPrior(LearnedRadius):
    """The default with another rule for the prior, and another share that limits it where one is given."""

    def __init__(self, rule: type[LogRadius], rho: float, **options: Any) -> None:
        super().__init__(rho, **options)
        args = self.bounds, self.prior, self.prior_weight, self.burn_in, self.prior_rise
        self._nu: LogRadius = rule(float(self.rho), *args)


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


IDEAS = {
    "lets-sam-whole-prior": Idea(
        "whole prior in the burn-in", "the default before; some starts do not begin to train",
        partial(_OtherPrior, _WholeLogRadius),
    ),
    "lets-sam-rise-0.2": Idea(
        "`prior_rise=0.2`", "larger radii where gradients are long: vit", partial(LearnedRadius, prior_rise=0.2)
    ),
    "lets-sam-steep-rise": Idea(
        "the same, squared", "larger radii on vit with noise, the same as now on text",
        partial(_OtherPrior, _SteepLogRadius, prior_rise=0.2),
    ),
}  # fmt: skip
for _name, _idea in IDEAS.items():  # so that their names are those of methods, in worker processes too
    KINDS[_name] = Kind(f"SAM, learned radius: {_idea.title}", SAM, _idea.radius)
