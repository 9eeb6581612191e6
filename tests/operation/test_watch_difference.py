"""The gain of the challenger by the records of both watches: which batches count, and how often its bounds err."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy import stats

from letsam.decision import combined_bounds
from letsam.operation.estimates import Estimate
from letsam.operation.watch_difference import DifferenceLook, MeasuredBatch, look_at, measured_batches
from letsam.operation.watch_record import WatchRecord


def record(batch: int, *, key: str = "", samples: int = 100, labels: int | None = None, **metrics: Any) -> WatchRecord:
    data = {"name": f"{batch}.csv", "fingerprint": key or f"data {batch}", "samples": samples}
    if labels is not None:
        data["labels"] = labels
    found = {name: Estimate(*value) for name, value in metrics.items()}
    return WatchRecord("2030-01-01T00:00:00+00:00", "f00", data, labels is not None, batch, found)


def test_which_batches_count() -> None:
    accuracy = (0.9, 0.85, 0.95)
    records = [
        record(1, labels=80, accuracy=accuracy),
        record(2, expected_accuracy=(0.8, 0.7, 0.9)),
        record(3, key="data 2", labels=60, accuracy=(0.5, 0.4, 0.6)),  # the labels of batch 2
        record(4, labels=90, accuracy=(0.7, 0.6, 0.8), expected_accuracy=(0.6, 0.5, 0.7)),
        record(5, key="data 4", labels=95, accuracy=(0.75, 0.6, 0.8)),  # more labels of batch 4
        record(6),
    ]
    found = measured_batches(records, "accuracy")
    assert [(one.samples, one.value) for one in found] == [(80, 0.9), (60, 0.5), (95, 0.75)]
    assert [one.samples for one in measured_batches(records, "expected_accuracy")] == [100, 100]
    # Batch 2 came before the stage; its labels, which come in it, do not count.
    assert [one.value for one in measured_batches(records, "accuracy", since=2)] == [0.75]
    assert measured_batches(records, "accuracy", since=5) == []


def batches(*counts: tuple[int, int]) -> list[MeasuredBatch]:
    """Batches with so many right answers of so many; the bounds in the records play no part for accuracies."""
    return [MeasuredBatch(count, right / count, 0.0, 1.0) for right, count in counts]


def test_a_look_is_newcombes_interval() -> None:
    found = look_at(batches((450, 500)), batches((92, 100), (90, 100)), "accuracy", first=100, share=0.2, level=0.05)
    assert isinstance(found, DifferenceLook)
    # 400 samples of the champion are four times the first look; 800 for the second are not there.
    assert (found.number, found.samples, found.champion_samples, found.level) == (0, 100, 500, 0.025)
    parts = []
    for right, count in ((450, 500), (92, 100)):
        interval = stats.binomtest(right, count).proportion_ci(0.95, "wilson")
        parts.append((right / count, interval.low, interval.high))
    assert found.gain == pytest.approx(combined_bounds([-1, 1], parts))
    assert (found.old, found.new) == (0.9, 0.92)
    more = look_at(
        batches((450, 500), (450, 500)), batches((92, 100), (90, 100)), "accuracy", first=100, share=0.2, level=0.05
    )
    assert isinstance(more, DifferenceLook)
    assert (more.number, more.samples, more.champion_samples) == (1, 200, 1000)
    assert more.level == pytest.approx(0.05 / 6)


def test_what_is_lacking() -> None:
    options: dict[str, Any] = {"first": 100, "share": 0.5, "level": 0.05}
    assert look_at([], batches((9, 10)), "accuracy", **options) == (100, 90)
    assert look_at(batches((90, 100)), [], "accuracy", **options) == (0, 100)
    assert look_at(batches((90, 100)), batches((90, 100)), "accuracy", **{**options, "share": 0.01}) == (300, 0)
    alone = look_at(batches((90, 100)), batches((90, 100)), "accuracy", **{**options, "share": 1.0})
    assert isinstance(alone, DifferenceLook)


def test_a_look_stays_as_it_is_when_batches_are_added() -> None:
    old, new = batches(*[(90, 100)] * 12), batches(*[(88, 100)] * 3)
    options: dict[str, Any] = {"first": 100, "share": 0.5, "level": 0.05}
    two = look_at(old[:2], new[:2], "accuracy", **options)
    assert isinstance(two, DifferenceLook)
    assert two.number == 1
    assert look_at(old, new, "accuracy", **options) == two
    assert look_at(old, [*new, *batches((50, 100))], "accuracy", **options) != two


def test_errors_are_better_when_lower() -> None:
    old, new = [MeasuredBatch(100, 5.0, 4.5, 5.6)], [MeasuredBatch(100, 4.0, 3.7, 4.4)]
    found = look_at(old, new, "RMSE", first=100, share=0.5, level=0.05, lower_is_better=True)
    assert isinstance(found, DifferenceLook)
    assert found.gain[0] == pytest.approx(1.0)
    # The records have bounds of 2.5 % on each side, which is the level of the first look.
    assert found.gain[1] == pytest.approx(1.0 - math.hypot(0.5, 0.4))
    assert found.gain[2] == pytest.approx(1.0 + math.hypot(0.6, 0.3))


def test_expected_accuracies_of_more_batches_are_not_more_certain() -> None:
    """A part of their error is that of the calibration, which all batches share."""
    options: dict[str, Any] = {"first": 100, "share": 0.5, "level": 0.1}
    one = [MeasuredBatch(100, 0.9, 0.86, 0.93)]
    first = look_at(one, one, "expected_accuracy", **options)
    many = look_at(one * 16, one * 16, "expected_accuracy", **{**options, "first": 1600})
    other = look_at(one * 16, one * 16, "F1", **{**options, "first": 1600})
    assert isinstance(first, DifferenceLook)
    assert isinstance(many, DifferenceLook)
    assert isinstance(other, DifferenceLook)
    assert many.gain == pytest.approx(first.gain)
    assert other.gain[2] == pytest.approx(first.gain[2] / 4)


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_all_looks_together_err_as_rarely_as_stated(share: float) -> None:
    """A challenger that is worse by exactly the margin: how often any look of a long stage lets it pass."""
    random = np.random.default_rng(0)
    runs, margin, passed = 400, 0.02, 0
    for _ in range(runs):
        sizes = (round(50 * min((1 - share) / share, 4.0)), 50)
        draws = [
            [(int(k), size) for k in random.binomial(size, chance, 40)]
            for size, chance in zip(sizes, (0.9, 0.9 - margin), strict=True)
        ]
        old, new = (batches(*rows) for rows in draws)
        for count in (1, 2, 4, 8, 16, 32):  # the command is called after every batch, but these alone are new looks
            found = look_at(old[:count], new[:count], "accuracy", first=50, share=share, level=0.05)
            if isinstance(found, DifferenceLook) and found.gain[1] >= -margin:
                passed += 1
                break
    assert 0 < passed / runs <= 0.06
