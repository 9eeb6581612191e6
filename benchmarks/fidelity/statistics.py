"""How well estimates follow exact values, in three numbers."""

from __future__ import annotations

import statistics
from collections.abc import Sequence


def fidelity(pairs: Sequence[tuple[float, float]]) -> dict[str, float]:
    """Compare estimates with exact values.

    Args:
        pairs: (estimate, exact), at least two.

    Returns:
        ratio: median of |estimate| over median of |exact|, 1 where the size is right.
        sign: share of equal signs, 1 where the radius moves the right way.
        correlation: Pearson's, 1 where the estimate is the exact value up to a factor > 0; 0 where one is constant.

    Example:
        >>> fidelity([(2.0, 1.0), (4.0, 2.0), (6.0, 3.0), (-8.0, 4.0)])["sign"]
        0.75
    """
    estimates, truths = [e for e, _ in pairs], [t for _, t in pairs]
    scale = statistics.median(map(abs, truths))
    try:
        correlation = statistics.correlation(estimates, truths)
    except statistics.StatisticsError:
        correlation = 0.0
    return {
        "ratio": statistics.median(map(abs, estimates)) / scale if scale else float("nan"),
        "sign": statistics.fmean((e > 0) == (t > 0) for e, t in pairs),
        "correlation": correlation,
    }
