"""Bounds of the true mean gain, and the probability that a trial shows it.

The gains of n seeds have the mean g and the standard deviation s; v is the variance of g that is due to the test
samples. With the critical value c of the look (`letsam.decision.looks`) and the quantile q of the same probability for
the test samples, the bounds are ``g - m`` and ``g + m`` with ``m = sqrt(c**2 * s**2 / n + q**2 * v)``. Each is wrong
with at most the stated probability, if the gains are normal: Banerjee (1960), "On confidence interval for two-means
problem based on separate estimates of variances and tabulated values of t-table", Sankhya 22, 359-378. A bootstrap over
so few seeds would be too narrow. `docs/how-to/decision.md` says what simulations have shown for other distributions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from letsam.results import finite_mean, finite_spread

__all__ = ["Noise", "bounds", "detectable_effect", "go_probability", "later_go_probability", "margin"]

NODES = 400
"""Quantiles of the chi-squared distribution over which a probability is averaged."""
DRAWS = 4000
"""Draws of `later_go_probability`."""


@dataclass(frozen=True)
class Noise:
    """What makes the gains of a trial differ.

    Args:
        spread: standard deviation of the gain over seeds, in the unit of the gain.
        sample_variance: variance of the mean gain that is due to the test samples; 0: their choice is not considered.
        sample_freedom: its degrees of freedom.
    """

    spread: float
    sample_variance: float = 0.0
    sample_freedom: int = 10**6


def margin(noise: Noise, seeds: int, critical: float) -> float:
    """Half the distance of the two bounds.

    Args:
        noise: as estimated.
        seeds: how many there are.
        critical: of this look, see `letsam.decision.looks.critical_values`.
    """
    return math.hypot(
        critical * noise.spread / math.sqrt(seeds), _sample_quantile(noise, seeds, critical) * _root(noise)
    )


def bounds(gains: Sequence[float], critical: float, noise: Noise | None = None) -> tuple[float, float]:
    """The lower and the upper bound of the true mean gain.

    Args:
        gains: one for each seed, at least two.
        critical: of this look.
        noise: None: that of the gains alone.

    Example:
        >>> low, high = bounds([1.0, 2.0, 3.0], critical=2.92)
        >>> round(low, 2), round(high, 2)
        (0.31, 3.69)
    """
    mean = finite_mean(gains)
    half = margin(noise or Noise(finite_spread(gains)), len(gains), critical)
    return mean - half, mean + half


def go_probability(effect: float, noise: Noise, seeds: int, critical: float, minimum_effect: float = 0.0) -> float:
    """The power: how probable it is that the lower bound is above the minimum effect, for normal gains.

    Args:
        effect: the true mean gain.
        noise: the true one.
        seeds: how many there are.
        critical: of this look.
        minimum_effect: what the lower bound must exceed.

    Example:
        >>> round(go_probability(0.0, Noise(1.0), 10, 1.833), 2)
        0.05
    """
    import numpy as np
    from scipy import stats

    error = math.sqrt(noise.spread**2 / seeds + noise.sample_variance)
    if error == 0:
        return float(effect > minimum_effect)
    freedom = seeds - 1
    ratios = stats.chi2.ppf((np.arange(NODES) + 0.5) / NODES, freedom) / freedom
    samples = _sample_quantile(noise, seeds, critical) * _root(noise)
    halves = np.hypot(critical * noise.spread * np.sqrt(ratios / seeds), samples)
    return float(stats.norm.cdf((effect - minimum_effect - halves) / error).mean())


def detectable_effect(
    noise: Noise, seeds: int, critical: float, minimum_effect: float = 0.0, power: float = 0.8
) -> float:
    """The smallest true mean gain that is shown with this probability.

    Args:
        noise: the true one, or an estimate.
        seeds: how many there are.
        critical: of this look.
        minimum_effect: what the lower bound must exceed.
        power: the probability.

    Example:
        >>> effect = detectable_effect(Noise(1.0), 10, 1.833)
        >>> round(go_probability(effect, Noise(1.0), 10, 1.833), 3)
        0.8
    """
    from scipy import optimize

    error = math.sqrt(noise.spread**2 / seeds + noise.sample_variance)
    if error == 0:
        return minimum_effect
    highest = (3 + 10 * critical) * error + margin(noise, seeds, critical)
    gap = lambda gain: go_probability(gain, noise, seeds, critical) - power  # noqa: E731
    found = optimize.root_scalar(gap, bracket=(0.0, highest), xtol=1e-9 * highest)
    return minimum_effect + float(found.root)


def later_go_probability(
    gains: Sequence[float], noise: Noise, seeds: int, critical: float, minimum_effect: float
) -> float:
    """How probable a go is when the trial has `seeds` seeds, given the gains so far and nothing else.

    The predictive probability under the usual prior of a mean and a variance that are not known (uniform in the mean
    and in the logarithm of the standard deviation), by draws that are the same in each call.

    Args:
        gains: so far, at least two.
        noise: as estimated from them.
        seeds: in the end.
        critical: of the look with so many seeds.
        minimum_effect: what the lower bound must exceed.
    """
    import numpy as np

    count, further = len(gains), seeds - len(gains)
    random = np.random.default_rng(0)
    mean, squares = finite_mean(gains), (count - 1) * noise.spread**2
    spread = np.sqrt(squares / random.chisquare(count - 1, DRAWS))
    centre = mean + spread / math.sqrt(count) * random.standard_normal(DRAWS)
    new = centre[:, None] + spread[:, None] * random.standard_normal((DRAWS, further))
    old = np.broadcast_to(np.asarray(gains, dtype=np.float64), (DRAWS, count))
    every = np.concatenate([old, new], axis=1)
    samples = _sample_quantile(noise, seeds, critical) * _root(noise)
    halves = np.hypot(critical * every.std(axis=1, ddof=1) / math.sqrt(seeds), samples)
    return float((every.mean(axis=1) - halves > minimum_effect).mean())


def _root(noise: Noise) -> float:
    return math.sqrt(noise.sample_variance)


def _sample_quantile(noise: Noise, seeds: int, critical: float) -> float:
    """The quantile for the test samples, of the probability that `critical` has for the seeds."""
    from scipy import stats

    if noise.sample_variance == 0:
        return 0.0
    return float(stats.t.isf(stats.t.sf(critical, seeds - 1), noise.sample_freedom))
