"""What a look may spend, against Student's distribution and against simulated trials."""

import numpy as np
import pytest
from scipy import stats

from letsam.decision.looks import critical_values, later_values, spent

LEVEL = 0.05


def t_statistics(differences, seeds):
    """Of the first `seeds` columns, one for each row."""
    first = differences[:, :seeds]
    return first.mean(axis=1) * np.sqrt(seeds) / first.std(axis=1, ddof=1)


def test_two_seeds_spend_nothing_and_no_number_spends_all():
    assert spent(1, LEVEL) == spent(2, LEVEL) == 0
    assert spent(3, LEVEL) == pytest.approx(LEVEL / 3)
    rates = [spent(seeds, LEVEL) for seeds in range(2, 1000)]
    assert rates == sorted(rates)
    assert rates[-1] < LEVEL


@pytest.mark.parametrize("seeds", [3, 4, 5, 10, 30])
@pytest.mark.parametrize("level", [0.05, 0.0125])
def test_the_first_look_has_students_distribution(seeds, level):
    assert critical_values((seeds,), level)[0] == pytest.approx(stats.t.isf(spent(seeds, level), seeds - 1), rel=1e-3)


@pytest.mark.parametrize("looks", [(3, 5, 10), (3, 4, 5, 6, 7, 8, 9, 10), (4, 20)])
def test_simulated_trials_spend_what_each_look_may(looks):
    count = 400_000
    differences = np.random.default_rng(1).standard_normal((count, looks[-1]))
    running, before = np.ones(count, dtype=bool), 0.0
    for seeds, critical in zip(looks, critical_values(looks, LEVEL), strict=True):
        crossed = running & (t_statistics(differences, seeds) > critical)
        share = spent(seeds, LEVEL) - before
        assert crossed.mean() == pytest.approx(share, abs=4 * np.sqrt(share / count))
        running, before = running & ~crossed, spent(seeds, LEVEL)


def test_the_values_of_later_looks_are_those_that_they_will_have():
    later = later_values((3, 5), 9, LEVEL)
    assert list(later) == [6, 7, 8, 9]
    for seeds, value in later.items():
        assert value == pytest.approx(critical_values((3, 5, seeds), LEVEL)[-1])
    first = later_values((), 6, LEVEL)
    assert list(first) == [3, 4, 5, 6]
    assert first[5] == pytest.approx(critical_values((5,), LEVEL)[0], rel=1e-3)


@pytest.mark.parametrize("looks", [(2,), (5, 5), (5, 4)])
def test_looks_must_increase(looks):
    with pytest.raises(ValueError, match="`looks` must be increasing numbers of seeds >= 3"):
        critical_values(looks, LEVEL)
