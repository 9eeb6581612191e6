"""What is kept of a run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.harness import Row
from letsam.results import Run

POINTS = 20
"""The most points of a kept curve."""


@dataclass(frozen=True)
class Record(Row):
    """One run without its history; a number that is not finite is NaN here and null in JSON."""

    method: str
    seed: int
    accuracy: float  # on the test set, 0 to 1
    loss: float  # on the test set
    train_loss: float  # on what was trained on
    gap: float  # `loss - train_loss`
    rho: float | None  # after the last step, or what a search chose; None without a radius
    passes: int  # gradient passes, those of a search included
    seconds: float  # of training, those of a search included
    curve: tuple[float, ...] | None = None  # the learned radius at evenly spaced steps; None for other methods
    setting: str = ""  # in the file once for all its runs, as is the environment of the latest of them
    environment: dict[str, Any] = field(default_factory=dict[str, Any], compare=False)

    @classmethod
    def of(cls, run: Run, setting: str, environment: dict[str, Any]) -> Record:
        """What is kept of `run`."""
        losses = run.test_accuracy, run.test_loss, run.train_loss, run.generalization_gap
        curve = thinned(run.mean_radii) if run.mean_radii else None
        price = run.gradient_passes, run.seconds
        return cls(run.method, run.seed, *losses, run.rho_final, *price, curve, setting, environment)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Record:
        """Take back what `as_json` gave."""
        fields = dict(value)
        for name in ("accuracy", "loss", "train_loss", "gap"):
            fields[name] = math.nan if fields[name] is None else fields[name]
        if curve := fields.get("curve"):
            fields["curve"] = tuple(math.nan if rho is None else rho for rho in curve)
        return cls(**fields)

    def as_json(self) -> dict[str, Any]:
        """The fields of a line; a missing curve is left out."""
        left_out = {"setting", "environment"} | ({"curve"} if self.curve is None else set())
        return {name: value for name, value in vars(self).items() if name not in left_out}


def thinned(values: Sequence[float]) -> tuple[float, ...]:
    """At most `POINTS` of the values, evenly spaced, the first and the last among them."""
    last = len(values) - 1
    count = min(POINTS, len(values))
    return tuple(values[round(i * last / max(count - 1, 1))] for i in range(count))
