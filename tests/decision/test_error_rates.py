"""False verdicts of simulated trials: no effect in many shapes of noise, looks that follow one another, power."""

import functools

import numpy as np
import pytest
from scipy import special, stats

from letsam.decision import LEVEL, Noise, decide, detectable_effect
from letsam.decision.inference import later_go_probability, margin
from letsam.decision.looks import critical_values, later_values
from letsam.decision.sampling_noise import crossed_variance
from letsam.results import Results
from report_cases import make_run

TRIALS = 20_000

NOISE = {
    "normal": lambda random, shape: random.standard_normal(shape),
    "uniform": lambda random, shape: random.random(shape),
    "Laplace": lambda random, shape: random.laplace(size=shape),
    "t with 3 degrees of freedom": lambda random, shape: random.standard_t(3, shape),
    "Cauchy": lambda random, shape: random.standard_cauchy(shape),
    "skewed": lambda random, shape: random.exponential(size=shape),
    "very skewed": lambda random, shape: random.lognormal(sigma=1.5, size=shape),
    "a run in ten collapses": lambda random, shape: random.standard_normal(shape) - 50 * (random.random(shape) < 0.1),
    "a run in three collapses": lambda random, shape: (
        random.standard_normal(shape) - 50 * (random.random(shape) < 0.33)
    ),
    "two values": lambda random, shape: (random.random(shape) < 0.5) + 1e-3 * random.standard_normal(shape),
    "few test samples": lambda random, shape: np.round(0.7 * random.standard_normal(shape)),
}
"""The metric of a run, given its seed."""

LOOKS = [(3,), (4,), (5,), (7,), (10,), (3, 5), (3, 5, 8, 10), (3, 4, 5, 6, 7, 8, 9, 10), (2, 4, 6)]


def lower_bounds(gains, looks, level=LEVEL):
    """The lower bound of each trial (a row of gains) at each look: the rule of `decide`, for many trials at once."""
    looks = tuple(seeds for seeds in looks if seeds >= 3)
    columns = []
    for seeds, critical in zip(looks, critical_values(looks, level), strict=True):
        first = gains[:, :seeds]
        columns.append(first.mean(axis=1) - critical * first.std(axis=1, ddof=1) / np.sqrt(seeds))
    return np.stack(columns, axis=1)


def trial_of(gains):
    """A trial in which the candidate has these gains, in points."""
    runs = [make_run("sgd", seed, 0.5) for seed in range(len(gains))]
    runs += [make_run("lets-sam", seed, 0.5 + gain / 100, rho=0.1) for seed, gain in enumerate(gains)]
    return Results("t", {}, {}, tuple(runs))


@pytest.mark.parametrize("shape", NOISE)
@pytest.mark.parametrize("correlation", [0.0, 0.9])
def test_a_go_without_an_effect_is_rare(shape, correlation):
    """The two methods are the same: their runs differ by independent noise, around what the seed does to both."""
    random = np.random.default_rng([len(shape), int(10 * correlation)])
    shared = np.sqrt(correlation / (1 - correlation)) * random.standard_normal((TRIALS, 10))
    runs = [shared + NOISE[shape](random, (TRIALS, 10)) for _ in range(2)]
    gains = runs[1] - runs[0]
    for looks in LOOKS:
        false_go = (lower_bounds(gains, looks) > 0).any(axis=1).mean()
        assert false_go <= LEVEL, looks


def test_a_go_without_an_effect_is_rare_where_seeds_are_added_as_the_verdict_says():
    """The next look then depends on the gains so far, which the exact distribution of the looks does not consider."""
    random = np.random.default_rng(11)
    gains = random.standard_normal((6000, 10))
    assert sum(followed(row) for row in gains) / len(gains) <= LEVEL
    for row in gains[:15] + 0.8:
        results, seeds = trial_of(row[:0]), 3
        while True:
            results = Results("t", {}, {}, trial_of(row[:seeds]).runs, decision=results.decision)
            found = decide(results)
            results = Results("t", {}, {}, results.runs, decision=found.as_json())
            if found.verdict != "more seeds":
                break
            seeds = found.seeds + found.more_seeds
        assert (found.verdict == "go") == followed(row)


def test_long_trials_keep_a_part_of_the_error_rate_back():
    """It makes up for looks that depend on the gains: with 20 planned seeds, 5.3 % would be false goes."""
    results = trial_of([1.0, 2.0, 1.5, 0.5])
    for planned, kept in ((10, 1.0), (3, 1.0), (20, 0.85), (40, 0.775)):
        assert decide(results, planned_seeds=planned).critical == critical_values((4,), LEVEL * kept)[0]


def followed(gains, planned=10):
    """Whether a trial ends with a go: the rule of `decide`, with the seeds that it asks for."""
    looks, seeds = (), 3
    while True:
        looks = (*looks, seeds)
        first, critical = gains[:seeds], critical_values(looks, LEVEL)[-1]
        mean, spread = first.mean(), first.std(ddof=1)
        half = critical * spread / np.sqrt(seeds)
        if mean > half or mean <= -half or seeds >= planned:
            return mean > half
        later = later_values(looks, planned, LEVEL)
        powers = {count: power(mean, spread, count, value) for count, value in later.items()}
        asked = next((count for count, shown in powers.items() if shown >= 0.8), None)
        if asked is None:
            if later_go_probability(list(first), Noise(spread), planned, later[planned], 0.0) < 0.05:
                return False
            asked = planned
        seeds = asked


@functools.cache
def spreads(seeds):
    """Quantiles of the estimated variance, relative to the true one."""
    return stats.chi2.ppf((np.arange(400) + 0.5) / 400, seeds - 1) / (seeds - 1)


def power(effect, spread, seeds, critical):
    """The same as `go_probability`, with quantiles that are kept."""
    error = spread / np.sqrt(seeds)
    return special.ndtr((effect - critical * error * np.sqrt(spreads(seeds))) / error).mean()


def test_two_seeds_never_give_a_go():
    assert decide(trial_of([30.0, 30.1])).verdict == "more seeds"


@pytest.mark.parametrize("looks", [(3,), (3, 5, 8, 10)])
def test_normal_noise_spends_what_the_looks_may(looks):
    """Not only at most: the rule is not more careful than it says."""
    gains = np.random.default_rng(3).standard_normal((5 * TRIALS, 10))
    rate = (lower_bounds(gains, looks) > 0).any(axis=1).mean()
    expected = LEVEL * (1 - 2 / looks[-1])
    assert rate == pytest.approx(expected, abs=4 * np.sqrt(expected / (5 * TRIALS)))


@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_the_stated_effect_is_shown_with_the_stated_power(seeds):
    noise, critical = Noise(1.7), critical_values((seeds,), LEVEL)[0]
    effect = detectable_effect(noise, seeds, critical, minimum_effect=0.3)
    gains = effect + 1.7 * np.random.default_rng(seeds).standard_normal((TRIALS, seeds))
    shown = (lower_bounds(gains, (seeds,))[:, 0] > 0.3).mean()
    assert shown == pytest.approx(0.8, abs=4 * np.sqrt(0.16 / TRIALS))


def test_bounds_over_seeds_and_test_samples_hold():
    """True gains vary over test samples, and the test set is drawn anew for each trial."""
    trials, wrong, seeds_alone = 3000, 0, 0
    random = np.random.default_rng(4)
    (critical,) = critical_values((4,), LEVEL)
    for _ in range(trials):
        sample = 3.0 * random.standard_normal(60)
        gains = 0.2 * random.standard_normal((4, 1)) + sample + random.standard_normal((4, 60))
        rows = gains.mean(axis=1)
        noise = Noise(rows.std(ddof=1), crossed_variance(gains), 59)
        wrong += rows.mean() > margin(noise, 4, critical)
        seeds_alone += rows.mean() > margin(Noise(noise.spread), 4, critical)
    most = LEVEL * (1 - 2 / 4)
    assert wrong / trials <= most + 3 * np.sqrt(most / trials)
    assert seeds_alone / trials > 2 * most  # which is why predictions are kept


def test_the_decision_follows_this_rule():
    random = np.random.default_rng(5)
    for seeds in (3, 5, 10):
        gains = random.standard_normal((20, seeds)) + 0.8
        for row, lower in zip(gains, lower_bounds(gains, (seeds,))[:, 0], strict=True):
            found = decide(trial_of(row))
            assert found.lower == pytest.approx(lower, abs=1e-6)
            assert (found.verdict == "go") == (lower > 0)


def test_looks_that_follow_one_another_are_those_of_the_rule():
    gains = np.random.default_rng(6).standard_normal(8) + 0.3
    results, looks = trial_of(gains[:0]), (2, 3, 5, 8)
    for count, seeds in enumerate(looks, start=1):
        decision = results.decision
        results = Results("t", {}, {}, trial_of(gains[:seeds]).runs, decision=decision)
        found = decide(results)
        results = Results("t", {}, {}, results.runs, decision=found.as_json())
        if seeds >= 3:
            expected = lower_bounds(gains[None], looks[:count])[0, -1]
            assert found.lower == pytest.approx(expected, abs=1e-6)
    assert found.looked_at == (3, 5, 8)


def test_a_trial_that_is_read_many_times_at_the_same_seeds_has_one_look():
    results = trial_of([1.0, 2.0, 1.5, 0.5])
    once = decide(results)
    again = decide(Results("t", {}, {}, results.runs, decision=once.as_json()))
    assert again == once


def test_a_candidate_that_is_chosen_of_several_shares_the_error_rate():
    """No effect, four candidates, and the one with the best seeds is taken."""
    random = np.random.default_rng(7)
    gains = random.standard_normal((4, TRIALS, 5))
    shared, alone = (max_of_candidates(gains, level) for level in (LEVEL / 4, LEVEL))
    assert shared <= LEVEL
    assert alone > 1.5 * LEVEL


def max_of_candidates(gains, level):
    return np.any([(lower_bounds(one, (3, 5), level) > 0).any(axis=1) for one in gains], axis=0).mean()


def test_a_no_go_of_a_gain_that_is_there_is_rare():
    """A true gain equal to the minimum effect: the upper bound is below it in at most 5 % of trials."""
    gains = 0.5 + np.random.default_rng(8).standard_normal((TRIALS, 10))
    looks = (3, 5, 8, 10)
    upper = -lower_bounds(-gains, looks)
    assert (upper <= 0.5).any(axis=1).mean() <= LEVEL


def test_a_trial_without_an_effect_ends_at_the_planned_seeds():
    verdicts = [decide(trial_of(row)).verdict for row in np.random.default_rng(9).standard_normal((25, 10))]
    assert verdicts.count("no-go") >= 22
    assert "more seeds" not in verdicts


def test_a_trial_ends_early_only_where_more_seeds_are_hopeless():
    """Of trials that would have shown an effect with the planned seeds, few end before."""
    random, lost, shown = np.random.default_rng(10), 0, 0
    (final,) = critical_values((10,), LEVEL)
    for row in 1.5 + random.standard_normal((60, 10)):
        would = stats.ttest_1samp(row, 0).statistic > final
        shown += would
        lost += would and decide(trial_of(row[:4])).verdict == "no-go"
    assert shown > 50
    assert lost <= 2
