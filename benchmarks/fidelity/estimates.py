"""What the library's own code says: a copy of the run makes the step, and the optimizer's metrics are read."""

from __future__ import annotations

import copy
import itertools
from dataclasses import dataclass

import torch
from torch import Tensor

import letsam
from benchmarks.fidelity.exact import Moment, closure_on, hypergradient
from letsam.hypergradient import HYPERGRADIENTS

ESTIMATORS = ("secant", "finite_difference", "diagonal")
OBJECTIVES = {"validation_loss": letsam.ValidationLoss, "squared_gap": letsam.SquaredGap}
TRAINING_BATCHES = ("next", "same")


@dataclass(frozen=True, order=True)
class Variant:
    """A way to estimate the hypergradient; the fields are arguments of `LearnedRadius`."""

    objective: str
    training_batch: str
    length_invariant: bool
    estimator: str

    @property
    def target(self) -> tuple[str, str, bool]:
        """What the estimator aims at: variants with the same target share one exact value."""
        return (self.objective, self.training_batch, self.length_invariant)


VARIANTS = tuple(
    Variant(*fields)
    for fields in itertools.product(OBJECTIVES, TRAINING_BATCHES, (True, False), ESTIMATORS)
    if fields[:2] != ("validation_loss", "same")  # no training loss in it: the same number as with "next"
)


def estimates(moment: Moment, rho: float, variant: Variant, per: str = "all") -> Tensor:
    """The hypergradients of one step by the real optimizer, on copies of the model and the base optimizer.

    They are `metrics["hypergradient"]` of the update that this step's derivative enters.
    """
    model = copy.deepcopy(moment.model)
    base = torch.optim.SGD(model.parameters(), lr=0.1)
    base.load_state_dict(copy.deepcopy(moment.base.state_dict()))
    objective = OBJECTIVES[variant.objective](training_batch=variant.training_batch)
    hypergradient = HYPERGRADIENTS[variant.estimator](length_invariant=variant.length_invariant)
    rule = letsam.LogAdam(bounds=(1e-6, 1e3), prior=None, burn_in=0)  # nothing but `rho` sets the radius of the step
    parts = {"objective": objective, "hypergradient": hypergradient, "rule": rule}
    radius = letsam.LearnedRadius(rho, **parts, interval=1, per=per)
    opt = letsam.SAM(base, rho=radius)
    closure, validation = (closure_on(opt, model, moment.loss, data) for data in (moment.batch, moment.validation))
    opt.step(closure, validation)
    if variant.training_batch == "next":  # its update comes with the first pass of the step after
        opt.step(closure_on(opt, model, moment.loss, moment.next_batch), validation)
    return opt.metrics["hypergradient"]


def compare(moment: Moment, rho: float) -> dict[Variant, tuple[float, float]]:
    """(estimate, exact) of every variant at one step."""
    truths = {
        target: hypergradient(moment, rho, target[0], target[1], keeps_length=target[2])
        for target in dict.fromkeys(variant.target for variant in VARIANTS)
    }
    return {variant: (estimates(moment, rho, variant).item(), truths[variant.target]) for variant in VARIANTS}
