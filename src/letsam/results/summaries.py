"""Means over the seeds of each method."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from letsam.results.names import MethodName

if TYPE_CHECKING:
    from letsam.results.records import Results, Run

__all__ = ["Summary", "finite_mean", "finite_spread", "summarize"]


@dataclass(frozen=True)
class Summary:
    """One method over its seeds; every number but the counts and the standard deviation is an arithmetic mean.

    A mean over runs of which one is not finite is NaN: without the diverged run, the method would look too good.

    Args:
        method: its name.
        learned: whether its radius is learned, or replays a learned one.
        count: number of runs.
        diverged: how many of them ended with a non-finite accuracy or loss.
        steps: optimizer steps of all runs together.
        skipped_steps: how many of them changed nothing, because a loss or gradient was not finite.
        test_accuracy: mean, a fraction.
        test_accuracy_std: sample standard deviation over the runs; 0 for one run.
        test_loss: mean.
        train_loss: mean.
        generalization_gap: mean of test loss minus training loss.
        rho_initial: mean; None if the method has no radius.
        rho_final: mean; None if the method has no radius.
        gradient_passes: mean number of forward and backward passes.
        seconds: mean training time.
        metrics: the means and sample standard deviations of further metrics on the test set, by name.
        lower_is_better: whether a lower metric is better.
    """

    method: str
    learned: bool
    count: int
    diverged: int
    steps: int
    skipped_steps: int
    test_accuracy: float
    test_accuracy_std: float
    test_loss: float
    train_loss: float
    generalization_gap: float
    rho_initial: float | None
    rho_final: float | None
    gradient_passes: float
    seconds: float
    metrics: Mapping[str, tuple[float, float]] = field(default_factory=dict[str, tuple[float, float]])
    lower_is_better: bool = False

    @property
    def fixed(self) -> bool:
        """Whether the method perturbs the weights with one radius from beginning to end."""
        if self.learned or self.rho_initial is None or self.rho_final is None:
            return False
        return math.isclose(self.rho_initial, self.rho_final, rel_tol=1e-5)  # the last one is a float32

    @property
    def scheduled(self) -> bool:
        """Whether the method perturbs the weights with a radius that changes and is not learned."""
        return not self.learned and not self.fixed and self.rho_initial is not None


def summarize(results: Results) -> tuple[Summary, ...]:
    """Average the runs of each method, in order of the methods' first appearance."""
    return tuple(_summary(method, results.runs_of(method)) for method in results.methods)


def finite_mean(values: Sequence[float]) -> float:
    """The mean, or NaN where a value is not finite."""
    if not all(map(math.isfinite, values)):
        return math.nan
    try:
        return statistics.fmean(values)
    except OverflowError:  # the sum is beyond the largest float, which the mean is not
        return math.fsum(value / len(values) for value in values)


def finite_spread(values: Sequence[float]) -> float:
    """The sample standard deviation; 0 for one value, NaN where a value is not finite, and where it overflows."""
    if not all(map(math.isfinite, values)):
        return math.nan
    try:
        return statistics.stdev(values) if len(values) > 1 else 0.0
    except (OverflowError, AttributeError):  # Python 3.11 fails with either beyond the largest float
        return math.nan


def _summary(method: str, runs: Sequence[Run]) -> Summary:
    accuracies = [run.test_accuracy for run in runs]
    return Summary(
        method=method,
        learned=MethodName.parse(method).learned,
        count=len(runs),
        diverged=sum(run.diverged for run in runs),
        steps=sum(run.steps for run in runs),
        skipped_steps=sum(run.skipped_steps for run in runs),
        test_accuracy=finite_mean(accuracies),
        test_accuracy_std=finite_spread(accuracies),
        test_loss=finite_mean([run.test_loss for run in runs]),
        train_loss=finite_mean([run.train_loss for run in runs]),
        generalization_gap=finite_mean([run.generalization_gap for run in runs]),
        rho_initial=_mean_or_none([run.rho_initial for run in runs]),
        rho_final=_mean_or_none([run.rho_final for run in runs]),
        gradient_passes=finite_mean([run.gradient_passes for run in runs]),
        seconds=finite_mean([run.seconds for run in runs]),
        metrics={name: _mean_and_spread([run.metrics.get(name, math.nan) for run in runs]) for name in _names(runs)},
        lower_is_better=runs[0].lower_is_better,
    )


def _names(runs: Sequence[Run]) -> list[str]:
    return list(dict.fromkeys(name for run in runs for name in run.metrics))


def _mean_and_spread(values: Sequence[float]) -> tuple[float, float]:
    return finite_mean(values), finite_spread(values)


def _mean_or_none(values: Sequence[float | None]) -> float | None:
    present = [value for value in values if value is not None]
    return finite_mean(present) if present else None
