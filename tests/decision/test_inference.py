"""Bounds and power, against scipy and against simulated trials."""

import numpy as np
import pytest
from scipy import stats

from letsam.decision.inference import (
    Noise,
    bounds,
    detectable_effect,
    go_probability,
    later_go_probability,
)
from letsam.decision.looks import critical_values

GAINS = [1.2, 0.4, 2.2, 1.9, -0.3]


def test_bounds_over_seeds_are_students_interval():
    critical = stats.t.isf(0.02, 4)
    expected = stats.ttest_1samp(GAINS, 0).confidence_interval(0.96)
    assert bounds(GAINS, critical) == pytest.approx((expected.low, expected.high))


@pytest.mark.parametrize(("seeds", "percentile", "corrected"), [(3, 19, 16), (5, 11, 11), (10, 8, 8)])
def test_a_bootstrap_over_few_seeds_is_too_narrow(seeds, percentile, corrected):
    """Why bounds are Student's: the rates of a false go that the page states, in percent."""
    gains = np.random.default_rng(0).standard_normal((4000, seeds))
    options = {"axis": -1, "n_resamples": 999, "confidence_level": 0.9, "batch": 50}
    for method, rate in (("percentile", percentile), ("BCa", corrected)):
        made = stats.bootstrap((gains,), np.mean, method=method, rng=np.random.default_rng(1), **options)
        assert 100 * np.mean(made.confidence_interval.low > 0) == pytest.approx(rate, abs=1)
    ours = [bounds(list(row), stats.t.isf(0.05, seeds - 1))[0] > 0 for row in gains]
    assert 100 * np.mean(ours) == pytest.approx(5, abs=0.7)


def test_test_samples_widen_the_bounds():
    critical, noise = stats.t.isf(0.02, 4), Noise(np.std(GAINS, ddof=1), 0.09, 200)
    seeds, samples = critical * noise.spread / np.sqrt(5), stats.t.isf(0.02, 200) * 0.3
    low, high = bounds(GAINS, critical, noise)
    assert (high - low) / 2 == pytest.approx(np.sqrt(seeds**2 + samples**2))
    assert (high + low) / 2 == pytest.approx(np.mean(GAINS))


@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_power_is_that_of_the_noncentral_t_distribution(seeds):
    critical = critical_values((seeds,), 0.05)[0]
    for effect in (0.0, 0.7, 3.0):
        expected = stats.nct.sf(critical, seeds - 1, (effect - 0.2) * np.sqrt(seeds) / 1.5)
        found = go_probability(effect, Noise(1.5), seeds, critical, minimum_effect=0.2)
        assert found == pytest.approx(expected, abs=2e-3)


@pytest.mark.parametrize("seeds", [3, 5, 10])
@pytest.mark.parametrize("sample_error", [0.0, 0.4])
def test_the_detectable_effect_is_shown_in_four_of_five_simulated_trials(seeds, sample_error):
    count, critical = 100_000, critical_values((seeds,), 0.05)[0]
    noise = Noise(1.0, sample_error**2, 500)
    effect = detectable_effect(noise, seeds, critical, minimum_effect=0.5)
    random = np.random.default_rng(seeds)
    gains = effect + random.standard_normal((count, seeds)) + sample_error * random.standard_normal((count, 1))
    halves = critical * gains.std(axis=1, ddof=1) / np.sqrt(seeds)
    quantile = stats.t.isf(stats.t.sf(critical, seeds - 1), 500)
    lower = gains.mean(axis=1) - np.sqrt(halves**2 + (quantile * sample_error) ** 2)
    assert (lower > 0.5).mean() == pytest.approx(0.8, abs=4 * np.sqrt(0.16 / count) + 1e-3)


def test_the_probability_of_a_later_go_is_the_predictive_one():
    count, seeds, critical = 100_000, 9, critical_values((5, 9), 0.05)[-1]
    noise = Noise(np.std(GAINS, ddof=1))
    random = np.random.default_rng(5)
    spread = noise.spread * np.sqrt(4 / stats.chi2.rvs(4, size=count, random_state=random))
    mean = stats.norm.rvs(np.mean(GAINS), spread / np.sqrt(5), random_state=random)
    new = stats.norm.rvs(mean[:, None], spread[:, None], size=(count, 4), random_state=random)
    every = np.concatenate([np.tile(GAINS, (count, 1)), new], axis=1)
    expected = (stats.ttest_1samp(every, 0.1, axis=1).statistic > critical).mean()
    assert later_go_probability(GAINS, noise, seeds, critical, 0.1) == pytest.approx(expected, abs=0.03)


def test_without_noise_an_effect_is_shown_at_once():
    assert go_probability(0.1, Noise(0.0), 3, 5.34) == 1
    assert go_probability(0.0, Noise(0.0), 3, 5.34) == 0
    assert detectable_effect(Noise(0.0), 3, 5.34, minimum_effect=0.5) == 0.5
