"""Bounds for two models on the same samples, against another computation of the score test, and how often they err."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import optimize, stats

from letsam.decision import combined_bounds, matched_bounds, mcnemar


def score(better: int, worse: int, samples: int, difference: float) -> float:
    """Tango's statistic, with the likelihood maximized numerically: shares of `worse` q, of `better` q + difference."""
    low, high = max(0.0, -difference), (1 - difference) / 2

    def loss(q: float) -> float:
        parts = ((better, q + difference), (worse, q), (samples - better - worse, 1 - 2 * q - difference))
        return -sum(count * math.log(max(share, 1e-300)) for count, share in parts if count)

    q = float(optimize.minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-12}).x)
    return (better - worse - samples * difference) / math.sqrt(samples * (2 * q + difference - difference**2))


@pytest.mark.parametrize(
    ("better", "worse", "samples"), [(8, 2, 100), (0, 3, 40), (1, 1, 500), (30, 45, 120), (5, 0, 9)]
)
def test_the_bounds_are_where_the_score_test_rejects(better: int, worse: int, samples: int) -> None:
    low, high = matched_bounds(better, worse, samples, 0.05)
    assert -1 < low < (better - worse) / samples < high < 1
    assert score(better, worse, samples, low) == pytest.approx(1.6449, abs=2e-3)
    assert score(better, worse, samples, high) == pytest.approx(-1.6449, abs=2e-3)
    assert matched_bounds(worse, better, samples, 0.05) == pytest.approx((-high, -low))


def test_extremes() -> None:
    low, high = matched_bounds(0, 0, 50, 0.05)
    z = 1.6449**2
    assert (low, high) == pytest.approx((-z / (50 + z), z / (50 + z)), abs=1e-4)
    assert matched_bounds(50, 0, 50, 0.05)[1] == 1.0
    assert matched_bounds(0, 50, 50, 0.05)[0] == -1.0
    assert matched_bounds(1, 0, 1, 0.05)[1] == 1.0
    for wrong in ((-1, 0, 5), (3, 3, 5), (0, 0, 0)):
        with pytest.raises(ValueError, match=r"^`better` and `worse` must be >= 0 and at most `samples`"):
            matched_bounds(*wrong, 0.05)


def error_rate(samples: int, better: float, worse: float, lower: object) -> float:
    """The exact probability that the lower bound is above the true difference."""
    total = 0.0
    for b in range(samples + 1):
        for c in range(samples + 1 - b):
            mass = stats.multinomial.pmf([b, c, samples - b - c], samples, [better, worse, 1 - better - worse])
            if mass > 1e-7 and lower(b, c) > better - worse + 1e-9:  # type: ignore[operator]
                total += float(mass)
    return total


def student(b: int, c: int, samples: int) -> float:
    mean = (b - c) / samples
    variance = ((b + c) / samples - mean**2) * samples / (samples - 1)
    return mean - float(stats.t.isf(0.05, samples - 1)) * math.sqrt(max(variance, 0.0) / samples)


@pytest.mark.parametrize(("better", "worse"), [(0.0, 0.01), (0.01, 0.01), (0.0, 0.05), (0.05, 0.10), (0.05, 0.05)])
def test_a_bound_errs_as_rarely_as_stated(better: float, worse: float) -> None:
    rate = error_rate(50, better, worse, lambda b, c: matched_bounds(b, c, 50, 0.05)[0])
    assert rate <= 0.055
    if (better, worse) == (0.0, 0.01):
        assert error_rate(50, better, worse, lambda b, c: student(b, c, 50)) > 0.5  # what the score test is there for


def test_mcnemar_is_the_binomial_test() -> None:
    for b, c in itertools.product(range(6), repeat=2):
        if b + c:
            assert mcnemar(b, c) == pytest.approx(min(1.0, 2 * float(stats.binom.cdf(min(b, c), b + c, 0.5))))
    assert mcnemar(0, 0) == 1.0


def test_combined_bounds() -> None:
    value, low, high = combined_bounds([1, -1], [(0.5, 0.4, 0.6), (0.3, 0.25, 0.35)])
    half = math.hypot(0.1, 0.05)
    assert (value, low, high) == pytest.approx((0.2, 0.2 - half, 0.2 + half))
    assert combined_bounds([1, -1], [(0.9, 0.8, 0.92), (0.3, 0.29, 0.6)])[2] == pytest.approx(
        0.6 + math.hypot(0.02, 0.01)
    )
    # Two shares of 60 and 80 samples, each with Wilson's bounds: the bound of their difference errs in about 5 %.
    random = np.random.default_rng(0)
    known: list[list[tuple[float, float, float]]] = []
    for count in (60, 80):
        intervals = [stats.binomtest(k, count).proportion_ci(0.9, "wilson") for k in range(count + 1)]
        known.append([(k / count, one.low, one.high) for k, one in enumerate(intervals)])
    drawn = zip(random.binomial(60, 0.95, 4000), random.binomial(80, 0.9, 4000), strict=True)
    wrong = sum(combined_bounds([1, -1], [known[0][a], known[1][b]])[1] > 0.05 for a, b in drawn)
    assert 0.02 < wrong / 4000 < 0.065
