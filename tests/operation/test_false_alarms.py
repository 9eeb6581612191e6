"""Sequential alarms: at most the stated share of watches of an unchanged world has one, and changes are found soon."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

from letsam.operation.estimates import Estimate
from letsam.operation.false_alarms import GatheredEvidence, e_value, share_of, spent_level
from letsam.operation.judging import WatchState, judged
from letsam.operation.measuring import Measured

RATE = 0.05


def test_the_shares_of_all_batches_add_up_to_one() -> None:
    total = math.fsum(share_of(batch) for batch in range(1, 10_001))
    assert total == pytest.approx(1 - 1 / 10_001)
    assert spent_level(0.05, 1) == 0.025


def test_an_e_value_has_a_mean_of_one_where_the_hypothesis_holds() -> None:
    mean, _ = quad(lambda x: e_value(math.exp(x)) * math.exp(x), -600, 0, limit=500)  # p = exp(x) is uniform
    assert 0.98 < mean <= 1.0001  # 1 - 1 / 600: the rest is in yet smaller p-values
    values = [e_value(p) for p in (1e-12, 1e-6, 0.01, 0.2, 0.999, 0.99999, 1.0)]
    assert values == sorted(values, reverse=True)
    assert math.isfinite(e_value(0.0))


def watches(p_values: np.ndarray, rate: float) -> np.ndarray:
    """The first batch with an alarm of each watch, from 1; 0: none. Rows are watches, columns batches."""
    first = np.zeros(len(p_values), dtype=int)
    for place, row in enumerate(p_values):
        evidence = GatheredEvidence()
        for batch, p in enumerate(row, 1):
            evidence = evidence.after(float(p))
            if evidence.value >= 1 / rate:
                first[place] = batch
                break
    return first


def test_evidence_is_rarely_large_in_an_unchanged_world() -> None:
    p_values = np.random.default_rng(0).random((2000, 50))
    share = (watches(p_values, RATE) > 0).mean()
    assert share <= RATE
    assert (watches(p_values, 0.5) > 0).mean() > RATE  # the bound is not met by never giving an alarm


@pytest.mark.parametrize(("change", "batches"), [(1.0, 30), (1.5, 13), (2.0, 8), (3.0, 4), (5.0, 1)])
def test_a_change_is_found_within_some_batches(change: float, batches: int) -> None:
    """After ten quiet batches, the mean moves by so many standard errors of a batch."""
    noise = np.random.default_rng(1).normal(size=(300, 10 + batches))
    noise[:, 10:] += change
    first = watches(norm.sf(noise), RATE)
    found = (first > 10).mean()
    assert found > 0.75
    if change < 2:  # no batch shows it by itself
        levels = np.array([spent_level(RATE, batch) for batch in range(1, noise.shape[1] + 1)])
        assert (norm.sf(noise) <= levels).any(axis=1).mean() < 0.4


def test_spending_needs_no_independence() -> None:
    """The same luck in all batches, as they are all compared with one reference."""
    stream = np.random.default_rng(0)
    shared = stream.normal(size=(4000, 1))
    for weight in (0.0, 0.7, 1.0):
        noise = math.sqrt(1 - weight**2) * stream.normal(size=(4000, 40)) + weight * shared
        levels = np.array([spent_level(RATE, batch) for batch in range(1, 41)])
        assert (norm.sf(noise) <= levels).any(axis=1).mean() <= RATE + 0.005


NAMES = ("drift_auc", "feature_drift", "accuracy", "sharpness")


def measured(p_values: dict[str, float]) -> Measured:
    found = Measured()
    for name, p in p_values.items():
        found.metrics[name] = Estimate(0.5, 0.4, 0.6)
        found.tests[name] = {"statistic": 0.5, "p": p, "expected": 0.9, "limit": 0.8, "features": {}}
    return found


def test_all_tests_together_keep_the_rate() -> None:
    stream = np.random.default_rng(0)
    alarmed = 0
    for _ in range(400):
        state = WatchState(RATE, NAMES)
        alarms = False
        for _ in range(25):
            result = judged(measured(dict(zip(NAMES, stream.random(4).tolist(), strict=True))), state)
            state, alarms = result.state, alarms or bool(result.alarms)
        alarmed += alarms
    assert alarmed / 400 <= RATE


def test_the_state_goes_on_from_where_it_was() -> None:
    """As a new process reads it from the last record."""
    stream = np.random.default_rng(0)
    whole = parts = WatchState(RATE, NAMES)
    for _ in range(12):
        found = measured(dict(zip(NAMES, stream.random(4).tolist(), strict=True)))
        whole = judged(found, whole).state
        parts = WatchState.from_json(judged(found, WatchState.from_json(parts.as_json())).state.as_json())
    assert parts == whole
    assert whole.spent == {"drift_auc": 12, "feature_drift": 12}
    assert {name: one.batches for name, one in whole.evidence.items()} == {"accuracy": 12, "sharpness": 12}


def test_what_is_an_alarm() -> None:
    state = WatchState(RATE, NAMES)
    level = RATE / 4 / 2  # of four tests, in the first batch
    for p, alarms in ((0.9 * level, ["drift_auc"]), (1.1 * level, [])):
        result = judged(measured({"drift_auc": p}), state)
        assert [alarm.code for alarm in result.alarms] == alarms
        assert result.tests["drift_auc"]["level"] == pytest.approx(level)
    result = judged(measured({"accuracy": 1e-9}), state)
    assert [alarm.code for alarm in result.alarms] == ["accuracy"]
    assert result.tests["accuracy"]["threshold"] == pytest.approx(2 * 4 / RATE)
    later = judged(measured({"drift_auc": 0.5}), result.state)  # a batch without labels
    assert not later.alarms
    assert later.state.evidence == result.state.evidence
    found = judged(measured({}), state, ("new",), 7)
    assert [(alarm.code, alarm.message) for alarm in found.alarms] == [
        ("new_classes", "7 labels have 1 class that the training data do not have: 'new'")
    ]
