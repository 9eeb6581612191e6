"""How much better the challenger does than the champion, by the records of their watches, each on its own traffic.

A roll-out is looked at again and again, and a bound that is looked at often errs more often. So a metric is looked at
when the challenger has m samples, and again when it has 2 m, 4 m and so on, whenever the command is called. The j-th
look, from 0, spends the share 1 / ((j + 1) (j + 2)) of the error rate; all of them together spend at most 1. Each look
takes the first batches with so many samples, of the champion up to four times as many, so that it does not change when
further batches come.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

from letsam.decision import combined_bounds
from letsam.decision.matched_pairs import Bounded
from letsam.operation.watch_record import WatchRecord

__all__ = ["DifferenceLook", "MeasuredBatch", "look_at", "measured_batches"]

RECORDED = 0.025
"""The probability with which each bound in a record of a watch may be wrong: intervals of 95 %."""
MOST_TIMES = 4.0
"""So many times as many samples of the champion are used at most; more would hardly narrow the bounds."""
COUNTED = ("accuracy", "exact_match")
"""Means of right and wrong answers, whose bounds are computed anew from their counts."""
DEPENDENT = ("expected_accuracy",)
"""Numbers whose errors have a part that all batches share, so that more batches do not make their bounds narrower."""


@dataclass(frozen=True)
class MeasuredBatch:
    """A metric of one batch.

    Args:
        samples: that it was measured on.
        value: of the metric.
        low: its lower bound.
        high: its upper bound.
    """

    samples: int
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class DifferenceLook:
    """A look at the difference.

    Args:
        number: of the look, from 0.
        samples: of the challenger.
        champion_samples: of the champion.
        old: the metric of the champion.
        new: that of the challenger.
        gain: of the challenger, positive is better, with its bounds; in the unit of the metric.
        level: the probability with which each bound of this look may be wrong.
    """

    number: int
    samples: int
    champion_samples: int
    old: float
    new: float
    gain: Bounded
    level: float


def measured_batches(records: Sequence[WatchRecord], metric: str, since: int = 0) -> list[MeasuredBatch]:
    """The batches that have a metric, in the order in which they came.

    A batch whose labels come later has several records; the last one counts, and the batch belongs to where it came
    first.

    Args:
        records: of a watch, all of them.
        metric: its name in the records.
        since: batches that came first in one of so many first records are left out.

    Example:
        >>> measured_batches([], "accuracy")
        []
    """
    found: dict[str, MeasuredBatch | None] = {}
    for place, record in enumerate(records):
        key = str(record.data.get("fingerprint") or f"batch {record.batch}")
        if key not in found and place < since:
            found[key] = None
            continue
        if key in found and found[key] is None:
            continue
        one = record.metrics.get(metric)
        if one is not None:
            expected = metric in DEPENDENT or not record.labelled
            count = record.data["samples"] if expected else record.data.get("labels", record.data["samples"])
            found[key] = MeasuredBatch(int(count), one.value, one.low, one.high)
        else:
            found.setdefault(key, MeasuredBatch(0, 0.0, 0.0, 0.0))
    return [batch for batch in found.values() if batch is not None and batch.samples]


def look_at(
    champion: Sequence[MeasuredBatch],
    challenger: Sequence[MeasuredBatch],
    metric: str,
    *,
    first: int,
    share: float,
    level: float,
    lower_is_better: bool = False,
    weighted: bool = False,
) -> DifferenceLook | tuple[int, int]:
    """The latest look that there may be.

    Args:
        champion: its batches.
        challenger: its batches.
        metric: its name in the records.
        first: samples of the challenger at the first look, >= 1.
        share: of the traffic that the challenger has, above 0.
        level: the probability with which any bound of any look may be wrong.
        lower_is_better: whether a lower metric is better.
        weighted: whether the samples have weights, so that a share of right answers is no count.

    Returns:
        The look; or, where it is too early for the first one, how many samples the champion and the challenger still
        lack.
    """
    times = min(max((1 - share) / share, 1.0), MOST_TIMES)
    counts = [sum(batch.samples for batch in batches) for batches in (champion, challenger)]
    wanted, number = first, -1
    while counts[1] >= wanted and counts[0] >= times * wanted:
        wanted, number = 2 * wanted, number + 1
    if number < 0:
        return max(0, round(times * first) - counts[0]), max(0, first - counts[1])
    wanted //= 2
    spent = level / ((number + 1) * (number + 2))
    counted = metric in COUNTED and not weighted
    old, old_samples = _pooled(_first(champion, times * wanted), metric, spent, counted=counted)
    new, samples = _pooled(_first(challenger, wanted), metric, spent, counted=counted)
    weights = [-1.0, 1.0] if not lower_is_better else [1.0, -1.0]
    return DifferenceLook(number, samples, old_samples, old[0], new[0], combined_bounds(weights, [old, new]), spent)


def _first(batches: Sequence[MeasuredBatch], samples: float) -> list[MeasuredBatch]:
    """The first batches that have so many samples."""
    kept: list[MeasuredBatch] = []
    for batch in batches:
        if sum(one.samples for one in kept) >= samples:
            break
        kept.append(batch)
    return kept


def _pooled(batches: Sequence[MeasuredBatch], metric: str, level: float, *, counted: bool) -> tuple[Bounded, int]:
    """The mean over the samples of all batches, with bounds of this level; and how many samples there are."""
    from scipy import stats

    count = sum(batch.samples for batch in batches)
    value = sum(batch.value * batch.samples for batch in batches) / count
    if counted:
        right = min(max(round(value * count), 0), count)
        low, high = _wilson(right, count, level)
        return (value, min(low, value), max(high, value)), count
    wider = float(stats.norm.isf(level) / stats.norm.isf(RECORDED))
    weights = [batch.samples / count for batch in batches]
    parts = [(b.value, b.value + wider * (b.low - b.value), b.value + wider * (b.high - b.value)) for b in batches]
    if metric in DEPENDENT:
        ends = [sum(w * part[end] for w, part in zip(weights, parts, strict=True)) for end in (1, 2)]
        return (value, ends[0], ends[1]), count
    return combined_bounds(weights, parts), count


@functools.lru_cache(maxsize=4096)  # simulations ask for the same counts again and again
def _wilson(right: int, count: int, level: float) -> tuple[float, float]:
    """Bounds of a share, each wrong with this probability."""
    from scipy import stats

    interval = stats.binomtest(right, count).proportion_ci(1 - 2 * level, method="wilson")
    return float(interval.low), float(interval.high)
