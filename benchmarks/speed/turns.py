"""Contenders that take turns, so that a busy machine slows all of them alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Step = Callable[[], Any]
Rows = dict[str, dict[str, float]]
"""What is measured of each contender, by name."""


def seconds(
    steps: Mapping[str, Step],
    rounds: int,
    turns: Mapping[str, int] | int = 1,
    before: Callable[[str], Any] = lambda name: None,
) -> dict[str, list[float]]:
    """Seconds of processor time that a step takes: for each contender, the means of the rounds.

    Args:
        steps: a step of each contender.
        rounds: how often all are timed.
        turns: steps in a round, for all or for each; contenders alternate, and another one begins each time.
        before: called with a contender's name before each of its steps, and not timed.
    """
    names = list(steps)
    counts = {name: turns if isinstance(turns, int) else turns[name] for name in names}
    times: dict[str, list[float]] = {name: [] for name in names}
    for turned in range(rounds):
        spent = dict.fromkeys(names, 0.0)
        for turn in range(max(counts.values())):
            first = (turned + turn) % len(names)
            for name in names[first:] + names[:first]:
                if turn < counts[name]:
                    before(name)
                    started = time.process_time()
                    steps[name]()
                    spent[name] += time.process_time() - started
        for name in names:
            times[name].append(spent[name] / counts[name])
    return times


def ratio(values: Sequence[float], others: Sequence[float]) -> float:
    """The median of the ratios of the same round."""
    return statistics.median(mine / other for mine, other in zip(values, others, strict=True))


def in_rows(times: Mapping[str, Sequence[float]], reference: str) -> Rows:
    """For each contender the median in milliseconds, and the ratio to one of them."""
    return {
        name: {"ms": 1000 * statistics.median(values), "ratio": ratio(values, times[reference])}
        for name, values in times.items()
    }
