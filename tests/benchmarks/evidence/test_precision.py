"""Standard errors, clear differences and the chance of an equally good method, against scipy and random draws."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from benchmarks.evidence import precision
from benchmarks.evidence.summary import Measured
from evidence_records import DIGITS, made_up, record

VALUES = np.random.default_rng(0).normal(0.1, 0.6, (4, 5))  # starts x seeds


def test_the_standard_error_is_that_of_the_means_over_the_starts() -> None:
    assert precision.means(VALUES.tolist()) == pytest.approx(VALUES.mean(axis=0))
    assert precision.standard_error(VALUES.tolist()) == pytest.approx(stats.sem(VALUES.mean(axis=0)))


@pytest.mark.parametrize(("shift", "sign"), [(5.0, 1), (-5.0, -1), (0.0, 0)])
def test_a_clear_difference_is_one_of_a_t_test(shift: float, sign: int) -> None:
    values = VALUES + shift
    assert (stats.ttest_1samp(values.mean(axis=0), 0.0).pvalue < 0.05) == (sign != 0)
    assert precision.clear(values.tolist()) == sign


def test_the_border_of_a_clear_difference_is_that_of_the_t_test() -> None:
    values = VALUES.mean(axis=0)
    found = [precision.clear([(values + shift).tolist()]) != 0 for shift in np.linspace(-1, 1, 201)]
    expected = [stats.ttest_1samp(values + shift, 0.0).pvalue < 0.05 for shift in np.linspace(-1, 1, 201)]
    assert found == expected
    assert 20 < sum(found) < 180


def test_the_chance_of_an_equally_good_method_is_that_of_random_draws() -> None:
    centred = (VALUES - VALUES.mean(axis=1, keepdims=True)) * math.sqrt(5 / 4)
    draws = np.random.default_rng(1).integers(5, size=(100_000, 5))
    expected = (centred[:, draws].mean(axis=2).min(axis=0) >= -0.3).mean()
    assert 0.1 < expected < 0.9
    assert precision.chance(VALUES.tolist(), 0.3) == pytest.approx(expected, abs=0.01)
    assert precision.chance((VALUES + 7).tolist(), 0.3) == precision.chance(VALUES.tolist(), 0.3)
    assert precision.chance(VALUES.tolist(), 10.0) == pytest.approx(1.0)


@pytest.mark.parametrize("by_seed", [[[0.5], [0.4]], [[0.5, math.nan], [0.4, 0.3]]], ids=["one seed", "diverged"])
def test_nothing_is_said_where_nothing_is_known(by_seed: list[list[float]]) -> None:
    assert math.isnan(precision.standard_error(by_seed))
    assert math.isnan(precision.chance(by_seed, 0.3))
    assert precision.clear(by_seed) == 0


def test_a_verdict_has_the_seeds_that_all_starts_have() -> None:
    rows = [row for row in made_up(DIGITS, lambda start: 0.5, seeds=3) if row.key != "digits-0.4/lets-sam:0.01/1"]
    verdict = Measured(DIGITS, tuple(rows)).verdict("sam", "")
    assert verdict is not None
    assert verdict.by_seed == [pytest.approx([0.5, 0.5])] * 4


def test_how_much_the_choice_by_test_accuracy_favours_the_grid() -> None:
    """Chosen on seed 1, 0.1 is the best of seed 0, and the other way round: both are worse on the other seed."""
    accuracies = {"0.1": (0.80, 0.92), "0.2": (0.94, 0.82)}
    rows = [
        record(f"sam:{rho}", seed, accuracies.get(rho, (0.5, 0.5))[seed]) for rho in DIGITS.sam_grid for seed in (0, 1)
    ]
    one = Measured(DIGITS, tuple(rows))
    assert one.favour("sam") == pytest.approx(88.0 - (80.0 + 82.0) / 2)
    assert math.isnan(Measured(DIGITS, tuple(row for row in rows if row.seed == 0)).favour("sam"))
