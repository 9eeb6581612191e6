"""Two models on the same samples, each right or wrong: bounds of the difference of their shares of right answers.

Of n samples, only the new model is right for b, only the old one for c; the difference is ``(b - c) / n``. Its bounds
are those of Tango's score test, whose standard error belongs to the tested difference and not to the one that was seen.
Where few samples differ, Student's t would give bounds that are far too narrow: with 50 samples and a true loss of 1 %
it errs in up to 61 % of cases, the score test in at most 5 %. `docs/how-to/rollout.md` has the error rates.

Source: T. Tango (1998), "Equivalence test and confidence interval for the difference in proportions for the paired-
sample design", Statistics in Medicine 17, 891-908.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

__all__ = ["Bounded", "combined_bounds", "matched_bounds", "mcnemar"]

Bounded = tuple[float, float, float]
"""An estimate, its lower and its upper bound."""


def matched_bounds(better: int, worse: int, samples: int, level: float) -> tuple[float, float]:
    """The lower and the upper bound of the difference of two shares of right answers, in ``[-1, 1]``.

    Args:
        better: samples for which the new model alone is right.
        worse: samples for which the old model alone is right.
        samples: all of them, >= 1.
        level: the probability with which each bound may be wrong, between 0 and 0.5.

    Example:
        >>> low, high = matched_bounds(8, 2, 100, 0.05)
        >>> round(low, 3), round(high, 3)
        (0.009, 0.12)
        >>> low, high = matched_bounds(0, 0, 50, 0.05)
        >>> round(low, 3), round(high, 3)
        (-0.051, 0.051)
    """
    if not 0 <= better + worse <= samples or min(better, worse) < 0 or samples < 1:
        raise ValueError(f"`better` and `worse` must be >= 0 and at most `samples`, got {better}, {worse}, {samples}")
    return -_upper(worse, better, samples, level), _upper(better, worse, samples, level)


def mcnemar(better: int, worse: int) -> float:
    """The exact two-sided p-value of McNemar's test, that both models are right equally often.

    Example:
        >>> round(mcnemar(8, 2), 4), mcnemar(0, 0)
        (0.1094, 1.0)
    """
    from scipy import stats

    return float(stats.binomtest(better, better + worse).pvalue) if better + worse else 1.0


def combined_bounds(weights: Sequence[float], parts: Sequence[Bounded]) -> Bounded:
    """A weighted sum of independent estimates, and its bounds from theirs (the method MOVER).

    Args:
        weights: of the parts, of either sign; 1 and -1 give a difference.
        parts: estimates with bounds that are wrong with the same probability, which is also that of the result.

    Reference:
        G. Y. Zou and A. Donner (2008), "Construction of confidence limits about effect measures: a general approach",
        Statistics in Medicine 27, 1693-1702.

    Example:
        >>> value, low, high = combined_bounds([1, -1], [(0.90, 0.87, 0.92), (0.88, 0.84, 0.91)])
        >>> round(value, 2), round(low, 3), round(high, 3)
        (0.02, -0.022, 0.065)
    """
    below = above = total = 0.0
    for weight, (value, low, high) in zip(weights, parts, strict=True):
        down, up = (low - value, high - value) if weight >= 0 else (high - value, low - value)
        below += (weight * down) ** 2
        above += (weight * up) ** 2
        total += weight * value
    return total, total - math.sqrt(below), total + math.sqrt(above)


def _upper(better: int, worse: int, samples: int, level: float) -> float:
    from scipy import optimize, stats

    seen = (better - worse) / samples
    if seen >= 1:
        return 1.0
    critical = float(stats.norm.isf(level))
    gap = lambda difference: _score(better, worse, samples, difference) + critical  # noqa: E731
    nearest, farthest = seen + 1e-12, 1 - 1e-12
    if gap(nearest) <= 0:
        return seen
    return float(optimize.brentq(gap, nearest, farthest, xtol=1e-12))  # pyright: ignore[reportArgumentType]


def _score(better: int, worse: int, samples: int, difference: float) -> float:
    """The standardized distance of what was seen from this difference; it falls as the difference grows."""
    linear = (2 * samples - better + worse) * difference - better - worse
    constant = -worse * difference * (1 - difference)
    root = math.sqrt(max(linear * linear - 8 * samples * constant, 0.0))
    share = max((root - linear) / (4 * samples), 0.0)  # of samples that the old model alone gets right, if this holds
    variance = samples * (2 * share + difference * (1 - difference))
    return (better - worse - samples * difference) / math.sqrt(max(variance, 1e-300))
