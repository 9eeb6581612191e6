"""Tests of drift: calibrated where nothing has changed, and against independent computations."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from scipy.stats import chi2_contingency, ks_2samp
from sklearn.datasets import load_digits

from letsam.model_folder.reference import FeatureColumn
from letsam.operation import drift_tests
from letsam.operation.drift_tests import ComparedFeature, compared_columns, embedding_drift_of, feature_drift_of

PIXELS = torch.tensor(load_digits().data).float()


def drawn(stream: np.random.Generator, count: int) -> torch.Tensor:
    return PIXELS[torch.from_numpy(stream.choice(len(PIXELS), count, replace=False))]


def test_features_of_one_distribution_are_rarely_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drift_tests, "REPLICATES", 1)
    stream, p_values = np.random.default_rng(0), []
    for _ in range(100):
        rows = drawn(stream, 400)
        sides = [torch.cat([side, (side[:, :1] > 0).float()], dim=1) for side in (rows[:300], rows[300:])]
        columns = [FeatureColumn(f"pixel {i}", i, i + 1) for i in range(64)]
        columns.append(FeatureColumn("any", 64, 65, category=True))
        p_values.append(feature_drift_of(compared_columns(sides[0], sides[1], columns)).p)
    assert np.mean(np.array(p_values) <= 0.05) <= 0.09
    assert np.mean(np.array(p_values) <= 0.5) > 0.05  # it is not blind


def test_one_changed_feature_is_found_among_many() -> None:
    rows = drawn(np.random.default_rng(0), 500)
    later = rows[300:].clone()
    later[:, 20] += 4
    columns = [FeatureColumn(f"pixel {i}", i, i + 1) for i in range(64)]
    found = feature_drift_of(compared_columns(rows[:300], later, columns))
    assert found.tests[0].name == found.largest.name == "pixel 20"
    assert found.p < 1e-4
    expected: Any = ks_2samp(rows[:300, 20].numpy(), later[:, 20].numpy(), method="asymp")
    assert found.tests[0].distance == pytest.approx(expected.statistic)
    assert found.p == pytest.approx(64 * expected.pvalue)
    assert all(test.adjusted > 0.05 for test in found.tests[1:])
    assert [test.adjusted for test in found.tests] == sorted(test.adjusted for test in found.tests)
    assert 0 < found.distance.low < found.distance.value == expected.statistic
    assert found.distance.high < 1


def test_categories() -> None:
    stream = np.random.default_rng(0)
    first, second = stream.choice(3, 400, p=[0.5, 0.3, 0.2]), stream.choice(3, 200, p=[0.2, 0.3, 0.5])
    (test,) = feature_drift_of([ComparedFeature("colour", first, second, category=True)]).tests
    table = np.stack([np.bincount(side, minlength=3) for side in (first, second)])
    assert test.p == pytest.approx(chi2_contingency(table).pvalue)  # type: ignore[attr-defined]
    shares = table / table.sum(axis=1, keepdims=True)
    assert test.distance == pytest.approx(np.maximum(shares[0] - shares[1], 0).sum())
    new = np.where(np.arange(200) < 40, 7, second)  # a category that is not known
    assert feature_drift_of([ComparedFeature("colour", second, new, category=True)]).p < 1e-6
    rare = np.where(np.arange(200) < 1, 7, first[:200])
    assert feature_drift_of([ComparedFeature("colour", first, rare, category=True)]).p > 0.01
    same = np.zeros(50, dtype=int)
    assert feature_drift_of([ComparedFeature("constant", same, same, category=True)]).p == 1.0


def test_columns_of_a_table() -> None:
    rows = torch.tensor([[0.5, -1.0, 1.0, 0.0], [0.1, 2.0, 0.0, 1.0], [0.2, -1.0, 0.0, 0.0]])
    columns = [
        FeatureColumn("age", 0, 1),
        FeatureColumn("age is missing", 1, 2, category=True),
        FeatureColumn("region", 2, 4, category=True),
    ]
    age, missing, region = compared_columns(rows, rows[:2], columns)
    assert age.reference.tolist() == pytest.approx([0.5, 0.1, 0.2])
    assert missing.reference.tolist() == [0, 1, 0]
    assert region.reference.tolist() == [1, 2, 0]  # the last one is not known
    assert region.batch.tolist() == [1, 2]


def test_embeddings_against_the_definition() -> None:
    stream = np.random.default_rng(0)
    first, second = drawn(stream, 40), drawn(stream, 25) + 1.5
    found = embedding_drift_of(first, second)
    x, y = first.numpy(), second.numpy()
    between = cdist(x, y).mean()
    within = [cdist(side, side).sum() / (len(side) * (len(side) - 1)) for side in (x, y)]
    assert found.distance.value == pytest.approx((2 * between - sum(within)) / (2 * between))
    assert 0 <= found.distance.low < found.distance.value < found.distance.high < 1


def test_embeddings_are_calibrated_and_see_small_p_values(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drift_tests, "REPLICATES", 2)
    stream = np.random.default_rng(0)
    p_values = []
    for _ in range(150):
        rows = drawn(stream, 120)
        p_values.append(embedding_drift_of(rows[:80], rows[80:]).p)
    assert np.mean(np.array(p_values) <= 0.1) == pytest.approx(0.1, abs=0.07)
    assert min(p_values) > 1e-4
    rows = drawn(stream, 120)
    assert embedding_drift_of(rows[:80], 0.5 * rows[80:]).p < 1e-8  # of 500 permutations none says so much
    constant = torch.ones(30, 3)
    assert embedding_drift_of(constant, constant).p == 1.0
