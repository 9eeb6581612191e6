"""Records of runs, and the numbers that the tables and figures show, computed from the records of a setting."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.evidence.precision import BySeed
from benchmarks.evidence.suite import Setting
from benchmarks.evidence.validation_kinds import RELEASED
from benchmarks.harness import Row
from letsam.reports.table import NOTHING
from letsam.results import Run
from letsam.training.methods import REFIT

POINTS = 20  # of a kept curve, at most


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
        """The record of `run`."""
        losses = run.test_accuracy, run.test_loss, run.train_loss, run.generalization_gap
        curve = thinned(run.mean_radii) if run.mean_radii else None
        price = run.gradient_passes, run.seconds
        return cls(run.method, run.seed, *losses, run.rho_final, *price, curve, setting, environment)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Record:
        """The record that `as_json` wrote."""
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


# The goals: each start at most so far below the best of the grid (points), the starts at most so far apart, and the
# cost as a multiple of one SAM run, without and with the refit, and trained on all data in one run.
BELOW, SPREAD, COST = 0.3, 0.5, {"": 1.15, REFIT: 2.3, f"@{RELEASED}": 1.0}
EMPTY = "Not measured yet."


@dataclass(frozen=True)
class Means:
    """One method averaged over its seeds."""

    name: str  # the method
    seeds: int  # how many
    accuracy: float  # mean, in percent; NaN where a run diverged
    deviation: float  # sample standard deviation, in points; 0 for one seed
    rho: float | None  # mean of the last (or chosen) radius; None without one
    loss: float  # these are means, too
    gap: float
    passes: float
    seconds: float


@dataclass(frozen=True)
class Verdict:
    """A learned radius compared with the best of the grid, over all its starts."""

    suffix: str  # "", "+refit" or "@released"
    differences: list[float]  # learned minus best of the grid in points, of each start
    cost: float  # gradient passes as a multiple of one fixed run
    by_seed: BySeed  # the differences of single seeds, those that all starts have

    @property
    def worst(self) -> float:
        """The start that is furthest below; NaN where a run diverged."""
        return math.nan if any(map(math.isnan, self.differences)) else min(self.differences)

    @property
    def mean(self) -> float:
        """Over all starts; NaN where a run diverged."""
        return statistics.fmean(self.differences)

    @property
    def spread(self) -> float:
        """Between the best and the worst start; NaN where a run diverged."""
        return max(self.differences) - self.worst

    @property
    def met(self) -> dict[str, bool]:
        """Which goals are met."""
        cost = self.cost <= COST[self.suffix] + 1e-9
        return {"accuracy": is_close(self.worst), "spread": self.spread < SPREAD, "cost": cost}


@dataclass(frozen=True)
class Measured:
    """A setting with its finished runs."""

    setting: Setting
    records: tuple[Record, ...]

    @property
    def metric(self) -> str:
        """The name of the metric that the records keep as `accuracy`."""
        return self.records[0].environment["metric"]

    def of(self, name: str) -> dict[int, Record]:
        """The runs of a method by seed."""
        return {record.seed: record for record in self.records if record.method == name}

    def row(self, name: str, seeds: Iterable[int] | None = None) -> Means | None:
        """A method's means over `seeds` (default: all finished ones); None where nothing is finished."""
        runs = [run for seed, run in self.of(name).items() if seeds is None or seed in seeds]
        if not runs:
            return None
        accuracy = [100 * run.accuracy for run in runs]
        deviation = statistics.stdev(accuracy) if len(runs) > 1 and all(map(math.isfinite, accuracy)) else 0.0
        radii = [run.rho for run in runs if run.rho is not None]
        rho = statistics.fmean(radii) if radii else None
        names = ("loss", "gap", "passes", "seconds")
        means = {field: statistics.fmean(getattr(run, field) for run in runs) for field in names}
        return Means(name, len(runs), statistics.fmean(accuracy), deviation, rho, **means)

    def names(self, kind: str) -> list[str]:
        """The finished methods of a kind (`sam`, `lets-sam`), in order, without refits and other validation data."""
        found = [record.method for record in self.records if record.method.split(":")[0] == kind]
        return [name for name in dict.fromkeys(found) if not name.endswith(REFIT) and "@" not in name]

    def seeds(self, kind: str) -> set[int]:
        """The seeds with which the grid of `kind` is complete: the others would favour some of its radii."""
        grid = self.setting.sam_grid if kind == "sam" else self.setting.asam_grid
        return set.intersection(*(set(self.of(f"{kind}:{rho}")) for rho in grid))

    def best(self, kind: str, grid: str | None = None, seeds: set[int] | None = None) -> Means | None:
        """The best of a grid by mean accuracy: `kind` itself, or another method (`sam-rising`); on all its seeds."""
        seeds = self.seeds(kind) if seeds is None else seeds
        rows = [row for name in self.names(grid or kind) if (row := self.row(name, seeds))]
        most = max((row.seeds for row in rows), default=0)
        finite = [row for row in rows if math.isfinite(row.accuracy) and row.seeds == most]
        return max(finite, key=lambda row: row.accuracy, default=None)

    def favour(self, kind: str) -> float:
        """By how much the choice by test accuracy favours the best of a grid, in points; NaN with less than two seeds.

        The accuracy of the best, minus that of radii of which each is the best on all seeds but the one it is for.
        """
        seeds, best = self.seeds(kind), self.best(kind)
        if best is None or len(seeds) < 2:
            return math.nan
        others = {seed: self.best(kind, seeds=seeds - {seed}) for seed in seeds}
        chosen = [100 * self.of(other.name)[seed].accuracy for seed, other in others.items() if other]
        return best.accuracy - statistics.fmean(chosen)

    def difference(self, name: str, best: Means, seeds: Iterable[int] | None = None) -> float:
        """A method minus the best of the grid in points, over those of `seeds` that both have; NaN without any."""
        both = self.differences(name, best, seeds)
        return statistics.fmean(both) if both else math.nan

    def differences(self, name: str, best: Means, seeds: Iterable[int] | None = None) -> list[float]:
        """The same of each single seed, in order."""
        return [100 * (mine.accuracy - other.accuracy) for mine, other in self.common(name, best.name, seeds)]

    def common(self, name: str, other: str, seeds: Iterable[int] | None = None) -> list[tuple[Record, Record]]:
        """The runs of two methods with the same seed, of those of `seeds` that both have."""
        mine, theirs = self.of(name), self.of(other)
        both = (mine.keys() & theirs.keys()).intersection(mine if seeds is None else seeds)
        return [(mine[seed], theirs[seed]) for seed in sorted(both)]

    def compared(self, name: str, other: str) -> tuple[float, float, int] | None:
        """A method minus another one in points, its passes divided by those of the other, and how many seeds both have.

        None without a common seed; a run that diverged makes the difference NaN.
        """
        common = self.common(name, other)
        if not common:
            return None
        passes = [sum(run.passes for run in runs) for runs in zip(*common, strict=True)]
        difference = statistics.fmean(100 * (mine.accuracy - theirs.accuracy) for mine, theirs in common)
        return difference, passes[0] / passes[1], len(common)

    def verdict(self, kind: str, suffix: str) -> Verdict | None:
        """The learned radius against the best of the grid; None until every start has a seed in common with it."""
        best = self.best(kind)
        starts = self.setting.sam_starts if kind == "sam" else self.setting.asam_starts
        names = [f"lets-{kind}:{start}{suffix}" for start in starts]
        if best is None or not all(self.of(name).keys() & self.of(best.name).keys() for name in names):
            return None
        passes = statistics.fmean(row.passes for name in names if (row := self.row(name)))
        seeds = set.intersection(*(set(self.of(name)) for name in [best.name, *names]))
        by_seed = [self.differences(name, best, seeds) for name in names]
        return Verdict(suffix, [self.difference(name, best) for name in names], passes / best.passes, by_seed)


def is_close(value: float) -> bool:
    """Whether a difference from the best of the grid meets the goal."""
    return value >= -BELOW - 1e-9


def in_points(value: float) -> str:
    """A difference as +0.3 or -0.3."""
    return NOTHING if math.isnan(value) else f"{value:+.1f}".replace("-0.0", "+0.0")
