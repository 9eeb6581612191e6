"""Numbers with intervals, by the bootstrap."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

REPLICATES = 400
OF_HELD_OUT = 2000  # replicates of means over held-out samples, whose skewness counts
LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """A number with its 95% interval.

    Args:
        value: the number.
        low: lower end.
        high: upper end.
    """

    value: float
    low: float
    high: float

    @property
    def finite(self) -> bool:
        """Whether all three are finite."""
        return all(map(math.isfinite, (self.value, self.low, self.high)))


@dataclass(frozen=True)
class Bootstrapped:
    """A statistic of a sample, and of samples drawn from it with replacement.

    Args:
        value: of the sample.
        replicates: those of the drawn samples that are finite.
        count: size of the sample.
    """

    value: float
    replicates: NDArray[np.float64]
    count: int

    @property
    def estimate(self) -> Estimate:
        """With the percentile interval."""
        return Estimate(self.value, *_ends(self.replicates, self.value))

    @property
    def error(self) -> float:
        """The standard error; NaN with fewer than two replicates."""
        return float(self.replicates.std(ddof=1)) if len(self.replicates) > 1 else math.nan

    @property
    def skewness(self) -> float:
        """Of the distribution of the statistic; 0 where it does not vary."""
        from scipy.stats import skew

        return float(skew(self.replicates)) if self.error > 0 else 0.0


def bootstrapped(statistic: Callable[[Any], float], count: int, *, replicates: int = REPLICATES) -> Bootstrapped:
    """Bootstrap a statistic.

    Args:
        statistic: of samples with these places, an array of whole numbers.
        count: size of the sample, >= 1.
        replicates: how many samples are drawn.

    Example:
        >>> import numpy
        >>> values = numpy.arange(100.0)
        >>> found = bootstrapped(lambda places: values[places].mean(), 100)
        >>> found.value, 40 < found.estimate.low < 49.5 < found.estimate.high < 59, 2 < found.error < 4
        (49.5, True, True)
    """
    import numpy as np

    stream = np.random.default_rng(0)
    drawn = [statistic(stream.integers(0, count, count)) for _ in range(replicates)]
    values = np.asarray(drawn, dtype=np.float64)
    return Bootstrapped(float(statistic(np.arange(count))), values[np.isfinite(values)], count)


def corrected(value: float, replicates: NDArray[np.float64], low: float, high: float) -> Estimate:
    """A distance with the basic bootstrap interval, which undoes that distances of drawn samples are too large.

    Args:
        value: of the samples.
        replicates: of drawn samples.
        low: the smallest value that the distance can have.
        high: the largest.
    """
    first, last = _ends(replicates, value)
    return Estimate(value, min(max(2 * value - last, low), value), max(min(2 * value - first, high), value))


def _ends(replicates: NDArray[np.float64], value: float) -> tuple[float, float]:
    import numpy as np

    if not len(replicates):
        return value, value
    low, high = np.quantile(replicates, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
