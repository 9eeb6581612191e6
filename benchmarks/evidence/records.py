"""What is kept of a run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from letsam.results import Run

POINTS = 20
"""The most points of a kept curve."""


@dataclass(frozen=True)
class Record:
    """One run without its history; a number that is not finite is NaN here and null in JSON.

    Attributes:
        method, seed: of the run.
        accuracy, loss: on the test set; the accuracy is 0 to 1.
        train_loss: on what was trained on.
        gap: `loss - train_loss`.
        rho: after the last step, or what a search chose; None without a radius.
        passes, seconds: gradient passes and time of training, those of a search included.
        curve: the learned radius at evenly spaced steps, at most 20; None for other methods.
        setting: its name, which is the file's.
        environment: metric, versions and device, which the file has once, of its latest run.
    """

    method: str
    seed: int
    accuracy: float
    loss: float
    train_loss: float
    gap: float
    rho: float | None
    passes: int
    seconds: float
    curve: tuple[float, ...] | None = None
    setting: str = ""
    environment: dict[str, Any] = field(default_factory=dict[str, Any], compare=False)

    @property
    def key(self) -> str:
        """Of its row."""
        return f"{self.setting}/{self.method}/{self.seed}"

    @classmethod
    def of(cls, run: Run, setting: str, environment: dict[str, Any]) -> Record:
        """What is kept of `run`."""
        return cls(
            run.method,
            run.seed,
            run.test_accuracy,
            run.test_loss,
            run.train_loss,
            run.generalization_gap,
            run.rho_final,
            run.gradient_passes,
            run.seconds,
            thinned(run.mean_radii) if run.mean_radii else None,
            setting,
            environment,
        )

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
