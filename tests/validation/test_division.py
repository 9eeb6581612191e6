"""`letsam.validation.split` for users, and its errors."""

from __future__ import annotations

import warnings
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils.data import Subset, TensorDataset

from letsam.validation import split, stratified_split
from letsam.validation.division import kind_of

TARGETS = torch.arange(60) % 3
PATIENTS = torch.arange(60) // 6


def complete(parts: tuple[torch.Tensor, torch.Tensor], count: int = 60) -> None:
    assert torch.equal(torch.cat(parts).sort().values, torch.arange(count))
    assert all(part.equal(part.sort().values) and len(part) for part in parts)


def test_alone_it_is_the_stratified_split() -> None:
    ours, known = split(TARGETS, 0.2, seed=4), stratified_split(TARGETS, 0.2, torch.Generator().manual_seed(4))
    assert all(a.equal(b) for a, b in zip(ours, known, strict=True))
    data = TensorDataset(torch.zeros(60, 1), TARGETS)
    assert split(data, 0.2, seed=4)[1].equal(ours[1])
    assert split(Subset(data, range(30)), 0.2)[1].equal(split(TARGETS[:30], 0.2)[1])


@pytest.mark.parametrize("groups", [PATIENTS, PATIENTS.tolist(), np.array([f"p{g}" for g in PATIENTS.tolist()])])
def test_groups_of_numbers_or_names_stay_together_and_classes_keep_their_shares(groups: Any) -> None:
    for seed in range(5):
        train, validation = split(TARGETS, 0.2, groups=groups, seed=seed)
        complete((train, validation))
        assert not set(PATIENTS[train].tolist()) & set(PATIENTS[validation].tolist())
        assert torch.bincount(TARGETS[validation], minlength=3).tolist() == [4, 4, 4]


@pytest.mark.parametrize(
    "times",
    [
        torch.arange(60.0).flip(0),
        np.array("2026-01-01", dtype="datetime64[D]") + np.arange(60)[::-1],
        pd.Series(pd.date_range("2026-01-01", periods=60)[::-1]),
        [datetime(2026, 1 + m // 30, 1 + m % 28) for m in range(59, -1, -1)],
        [datetime(1000 + 100 * m, 1, 1) for m in range(59, -1, -1)],  # beyond the nanoseconds of numpy
    ],
    ids=["numbers", "numpy", "pandas", "python", "centuries"],
)
def test_the_latest_times_are_held_out(times: Any) -> None:
    train, validation = split(TARGETS, 0.2, times=times)
    complete((train, validation))
    column = np.asarray(times if not isinstance(times, list) else pd.Series(times, dtype=object))
    assert column[validation.numpy()].min() > column[train.numpy()].max()
    assert abs(len(validation) - 12) <= 2


def test_times_of_several_zones_are_compared_as_moments() -> None:
    early, late = timezone(timedelta(hours=9)), timezone(timedelta(hours=-5))  # 14 hours apart
    hours = [datetime(2026, 1, 1, 12) + timedelta(hours=m) for m in range(60)]
    times = [hour.replace(tzinfo=late if m % 2 else early) for m, hour in enumerate(hours)]
    moments = torch.tensor([time.timestamp() for time in times])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train, validation = split(TARGETS, 0.2, times=times)
        assert split(TARGETS, 0.2, times=pd.Series(pd.date_range("2026", periods=60, tz="Asia/Tokyo")))[1][0] == 48
    assert moments[validation].min() > moments[train].max()
    assert validation.tolist() != list(range(48, 60))


def test_with_groups_and_times_the_latest_groups_are_held_out_whole() -> None:
    times = torch.arange(60.0)
    times[0] = 100.0  # of group 0
    _, validation = split(TARGETS, 0.2, groups=PATIENTS, times=times)
    assert PATIENTS[validation].unique().tolist() == [0, 9]


def test_kinds_are_told_from_targets() -> None:
    rows = torch.tensor([[0, 1], [1, 1]])
    kinds = [kind_of(t, None) for t in (TARGETS, TARGETS.double(), rows, rows.float(), rows * 2.0, TARGETS > 0)]
    assert kinds == ["classification", "regression", "multilabel", "multilabel", "regression", "classification"]
    assert kind_of(TARGETS, "regression") == "regression"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"groups": [1, 2]}, r"`groups` must have one value for each of 60 samples, got the shape \(2,\)"),
        ({"groups": torch.zeros(60, 1)}, r"`groups` must .* got the shape \(60, 1\)"),
        ({"groups": torch.zeros(60)}, "`groups` must have at least 2 groups, got 1"),
        ({"groups": [None] + ["a"] * 59}, "`groups` must name a group .* missing value for sample 0"),
        ({"groups": [1.0, float("nan")] * 30}, "`groups` must name a group .* missing value for sample 1"),
        ({"times": torch.zeros(59)}, r"`times` must have one value for each of 60 samples, got the shape \(59,\)"),
        ({"times": [0.0, 1.0, float("nan")] * 20}, "`times` must be finite for each sample, got nan for sample 2"),
        ({"times": [0.0, float("inf")] * 30}, "`times` must be finite .* got inf for sample 1"),
        ({"times": np.array(["2026-01-01", "NaT"] * 30, dtype="datetime64[D]")}, "finite .* NaT for sample 1"),
        ({"times": ["yesterday"] * 60}, "`times` must be numbers or dates"),
        ({"times": [datetime(2026, 1, 1), None] * 30}, "`times` must be finite .* got None for sample 1"),
        ({"times": [datetime(2026, 1, 1), "now"] * 30}, "`times` must be numbers or dates, got 'now' for sample 1"),
        ({"times": [datetime(2026, 1, 1), datetime(2026, 1, 1, tzinfo=UTC)] * 30}, "a time zone for all or for none"),
        ({"times": torch.ones(60)}, "`times` must have at least 2 different times, got 1"),
        ({"share": 1.0}, "`share` must be between 0 and 1"),
        ({"share": float("nan"), "groups": PATIENTS}, "`share` must be between 0 and 1"),
        ({"kind": "ranking"}, "`kind` must be one of classification, multilabel, regression"),
        ({"seed": -1}, "`seed` must be a whole number >= 0"),
        ({"seed": 2**63}, r"`seed` must be a whole number below 2\*\*63, got 9223372036854775808"),
    ],
)
def test_what_cannot_be_split_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        split(TARGETS, **given)
    assert "\n" not in str(caught.value)


def test_data_without_targets_are_refused() -> None:
    for data in ("abc", None, 3):
        with pytest.raises(TypeError, match="`data` must"):
            split(data)  # pyright: ignore[reportArgumentType]
