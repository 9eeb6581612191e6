"""The errors of the estimators without a further pass, for every variant: secant and diagonal against the exact one."""

from __future__ import annotations

import functools
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

import letsam
from benchmarks.harness import Row
from letsam.hypergradient import HYPERGRADIENTS
from letsam.tasks import load_task
from letsam.training.methods import Method
from letsam.variants import VARIANTS

RADII = (0.02, 0.1, 0.5)
ESTIMATORS = ("secant", "diagonal")
STEPS, BATCH, FIRST = 60, 64, 20


@dataclass(frozen=True)
class Errors(Row):
    """How far estimators are from the exact hypergradients of a variant."""

    variant: str
    rho: float
    count: int  # steps that are compared
    secant: dict[str, float]  # "error": median relative error; "signs": share of equal signs
    diagonal: dict[str, float]

    @property
    def key(self) -> str:
        """The name of its unit."""
        return f"errors/{self.variant}/{self.rho}"


def errors_of(variant: str, rho: float) -> Errors:
    """Measure from step `FIRST` on, in float64; the radius is fixed, so that runs with all estimators are the same.

    "Exact" is `finite_difference`, which the tests compare with central differences of the one-step objective.
    """
    images, labels = _data()
    exact = _run(variant, rho, "finite_difference", images, labels)
    found: dict[str, dict[str, float]] = {}
    for estimator in ESTIMATORS:
        estimated = _run(variant, rho, estimator, images, labels)
        pairs = [(f, e) for f, e in zip(estimated, exact, strict=True) if e != 0]
        found[estimator] = {
            "error": float(f"{statistics.median(abs(f / e - 1) for f, e in pairs):.3g}"),
            "signs": round(statistics.fmean((f > 0) == (e > 0) for f, e in pairs), 3),
        }
    return Errors(variant, rho, sum(value != 0 for value in exact), **found)


@functools.cache
def _data() -> tuple[Tensor, Tensor]:
    samples = list(load_task("digits").train)
    return torch.stack([x for x, _ in samples]).double().flatten(1), torch.tensor([int(y) for _, y in samples])


def _network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(64, 32), nn.LayerNorm(32), nn.Tanh(), nn.Linear(32, 10)).double()


def _run(name: str, rho: float, estimator: str, images: Tensor, labels: Tensor) -> list[float]:
    """The hypergradients of the steps, 0 where there is none."""
    model = _network()
    base = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    rule = letsam.LogAdam(prior=None, burn_in=0, bounds=(rho * (1 - 1e-9), rho * (1 + 1e-9)))
    hypergradient = HYPERGRADIENTS[estimator](length_invariant=False)
    radius = letsam.LearnedRadius(rho, hypergradient=hypergradient, rule=rule, interval=1)
    options: dict[str, Any] = {"steps": STEPS} if Method.parse(name).kind.takes_steps else {}
    opt = VARIANTS[name](base, radius, model=model, **options)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(1))
    held_out, training = order[:BATCH], order[BATCH:]

    def loss_on(indices: Tensor) -> Tensor:
        return nn.functional.cross_entropy(model(images[indices]), labels[indices])

    def closure_on(indices: Tensor) -> Callable[[], Tensor]:
        return letsam.accumulated(loss_on, indices.chunk(opt.perturbation.sub_batches), opt)

    found: list[float] = []
    before = None
    for step in range(STEPS):
        indices = training[torch.arange(step * BATCH, (step + 1) * BATCH) % len(training)]
        opt.step(closure_on(indices), closure_on(held_out))
        value = opt.metrics["hypergradient"].item() if "hypergradient" in opt.metrics else 0.0
        if step >= FIRST:
            found.append(0.0 if value == before else value)  # a step without an update repeats the last one
        before = value
    return found
