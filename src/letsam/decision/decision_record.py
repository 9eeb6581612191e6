"""The record of a verdict, as ``results.json`` holds it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["Decision", "Reason", "TrialLook", "Verdicts", "earlier_looks"]

Verdicts = Literal["go", "no-go", "more seeds"]
Reason = Literal["shown", "too small", "not shown", "hopeless", "diverged", "few seeds", "undecided"]

EXIT_STATUS = {"go": 0, "no-go": 1, "more seeds": 3}
"""Of `letsam decide`. 2 is bad input."""


@dataclass(frozen=True)
class TrialLook:
    """One look at the results: every look spends a part of the error rate.

    Args:
        baseline: what was compared with.
        candidates: the methods of which the candidate was chosen.
        seeds: how many pairs of runs there were.
        epochs: of the runs; None where the results do not say.
    """

    baseline: str
    candidates: tuple[str, ...]
    seeds: int
    epochs: int | None = None


@dataclass(frozen=True, kw_only=True)
class Decision:
    """A verdict on a method that may replace another, with the numbers that it rests on.

    Gains, bounds and effects are in the unit in which the metric is shown: points of an accuracy, RMSE as it is. A
    positive gain is an improvement in either case.

    Args:
        verdict: "go", "no-go" or "more seeds".
        reason: "shown": the lower bound is above the minimum effect. "too small": the upper bound is not. "not shown":
            neither, with as many seeds as were planned. "hopeless": the seeds that are left would hardly show it.
            "diverged": a run of the candidate did. "few seeds": fewer than three. "undecided": none of these.
        baseline: what is done today.
        candidate: what may replace it.
        chosen: how the candidate was chosen: "named", "only" or "validation".
        metric: its name.
        lower_is_better: whether it is an error.
        unit: what follows a gain, such as " points".
        seeds: number of pairs of runs.
        diverged: the seeds with which the candidate diverged.
        baseline_diverged: the seeds with which the baseline diverged.
        gain: mean over the seeds; NaN without any.
        lower: of the true mean gain; None with fewer than three seeds.
        upper: of the true mean gain; None with fewer than three seeds.
        spread: standard deviation of the gain over the seeds; None for one seed.
        sample_error: standard error of the gain that is due to the choice of the test samples; None: not considered.
        minimum_effect: what the gain must exceed to be worth having.
        detectable: the smallest true gain that these seeds show with a probability of 80 %; None: not known.
        more_seeds: how many are to be added; 0 unless the verdict is "more seeds".
        planned_seeds: with how many seeds the trial ends at the latest.
        level: the error rate of a bound, all looks together.
        sharing: how many comparisons share it.
        critical: the critical value of t at this look; None with fewer than three seeds.
        passes: gradient passes of one training, mean over the seeds: of the baseline and of the candidate.
        seconds: of one training, in the same way.
        cost_per_pass: price of a gradient pass; None: unknown.
        looks: at these and other methods, in the order of the first of equal ones, this one included.
        looked_at: the numbers of seeds at which this comparison was looked at, from three on, this look included.
    """

    verdict: Verdicts
    reason: Reason
    baseline: str
    candidate: str
    chosen: str
    metric: str
    lower_is_better: bool
    unit: str
    seeds: int
    diverged: tuple[int, ...]
    baseline_diverged: tuple[int, ...]
    gain: float
    lower: float | None
    upper: float | None
    spread: float | None
    sample_error: float | None
    minimum_effect: float
    detectable: float | None
    more_seeds: int
    planned_seeds: int
    level: float
    sharing: int
    critical: float | None
    passes: tuple[float, float]
    seconds: tuple[float, float]
    cost_per_pass: float | None
    looks: tuple[TrialLook, ...]
    looked_at: tuple[int, ...]

    @property
    def exit_status(self) -> int:
        """That of `letsam decide`: 0 for go, 1 for no-go, 3 for more seeds."""
        return EXIT_STATUS[self.verdict]

    def as_json(self) -> dict[str, Any]:
        """The record as JSON values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Decision:
        """Read the record of ``results.json``.

        Raises:
            ValueError: fields are missing, or are no such values.
        """
        try:
            fields = {field.name: value[field.name] for field in dataclasses.fields(cls)}
            pairs = {name: tuple(map(_number, fields[name])) for name in ("passes", "seconds")}
            if any(len(pair) != 2 for pair in pairs.values()):
                raise ValueError("passes and seconds have two numbers each")
            seeds = {name: tuple(map(int, fields[name])) for name in ("diverged", "baseline_diverged", "looked_at")}
            fields |= {**pairs, **seeds, "looks": earlier_looks(value), "gain": _number(fields["gain"])}
            for name in ("minimum_effect", "level"):
                fields[name] = float(fields[name])
            for name in ("seeds", "more_seeds", "planned_seeds", "sharing"):
                fields[name] = int(fields[name])
            if fields["verdict"] not in EXIT_STATUS:
                raise ValueError(f"the verdict {fields['verdict']!r}")
            decision = cls(**fields)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"expected the field decision to be the record of a verdict, got another: {error}"
            ) from None
        return decision


def earlier_looks(value: Mapping[str, Any] | None) -> tuple[TrialLook, ...]:
    """The looks of a record in ``results.json``; none where there is no record.

    Raises:
        ValueError: they are no such record.
    """
    if value is None:
        return ()
    try:
        return tuple(
            TrialLook(str(one["baseline"]), tuple(map(str, one["candidates"])), int(one["seeds"]), one.get("epochs"))
            for one in value["looks"]
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"expected the field decision.looks to list the looks, got another: {error}") from None


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)
