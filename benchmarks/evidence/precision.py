"""How precise the differences from the best of a grid are, from how much they vary between the seeds."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Sequence
from itertools import combinations_with_replacement

import numpy as np
from scipy import stats

BySeed = Sequence[Sequence[float]]
"""Learned minus best of the grid in points: one row per start, one column per seed that all starts have."""
LEVEL = 0.95  # of the test whether a setting's mean difference is clear


def means(by_seed: BySeed) -> list[float]:
    """The mean over the starts, for each seed."""
    return [statistics.fmean(column) for column in zip(*by_seed, strict=True)]


def standard_error(by_seed: BySeed) -> float:
    """Of the mean over starts and seeds, where the seeds are the sample; NaN with one seed or where a run diverged."""
    values = means(by_seed)
    if len(values) < 2 or any(map(math.isnan, values)):
        return math.nan
    return statistics.stdev(values) / math.sqrt(len(values))


def clear(by_seed: BySeed) -> int:
    """1 or -1 where a t test over the seeds says that the mean is above or below 0, otherwise 0."""
    error = standard_error(by_seed)
    if math.isnan(error):
        return 0
    values = means(by_seed)
    mean, margin = statistics.fmean(values), float(stats.t.ppf((1 + LEVEL) / 2, len(values) - 1)) * error
    return 0 if abs(mean) <= margin + 1e-9 else int(math.copysign(1, mean))


def chance(by_seed: BySeed, below: float) -> float:
    """How often a method that is exactly as good as the best of the grid has no start further below it than `below`.

    The bootstrap over the seeds: each start's differences without their mean, widened by sqrt(n / (n - 1)) because a
    mean of n values was removed, and every draw of n seeds with replacement. The draws are enumerated, so there is no
    random number. Returns NaN with one seed or where a run diverged.
    """
    values = np.asarray(by_seed, dtype=float)
    count = values.shape[1]
    if count < 2 or not np.isfinite(values).all():
        return math.nan
    centred = (values - values.mean(axis=1, keepdims=True)) * math.sqrt(count / (count - 1))
    met = 0.0
    for draw in combinations_with_replacement(range(count), count):
        ways = math.factorial(count) / math.prod(map(math.factorial, Counter(draw).values()))
        if centred[:, draw].mean(axis=1).min() >= -below - 1e-9:
            met += ways
    return met / count**count
