"""The share of wrong labels is estimated, and overlapping classes are no wrong labels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from letsam.validation.auditing.noise_model import LabelNoise, NoiseTest, pooled


def drawn(seed: int, wrong: float, count: int = 500, slope: float = 2.0, classes: int = 3) -> tuple[Any, ...]:
    """Scores, labels of classes that overlap as the scores say, which of them were drawn at random, and sides."""
    stream = np.random.default_rng(seed)
    scores = stream.normal(size=(count, classes)) * 2
    told = np.exp(slope * scores)
    told /= told.sum(axis=1, keepdims=True)
    labels = (told.cumsum(axis=1) < stream.random(count)[:, None]).sum(axis=1)
    flipped = stream.random(count) < wrong
    labels = np.where(flipped, (labels + stream.integers(1, classes, count)) % classes, labels)
    return scores, labels, flipped, np.arange(count) % 4 == 0


@pytest.mark.parametrize("slope", [0.5, 2.0, 8.0])
def test_overlap_of_classes_is_no_wrong_label(slope: float) -> None:
    highest = []
    for seed in range(10):
        scores, labels, _, side = drawn(seed, 0.0, slope=slope)
        found = LabelNoise(scores, labels, side)
        highest.append(max(found.everywhere(), found.in_validation()))
        assert found.interval()[0] < 0.02
    assert max(highest) < 3


def test_the_share_of_wrong_labels_is_estimated_with_an_interval() -> None:
    within = 0
    for seed in range(10):
        scores, labels, flipped, side = drawn(seed, 0.1)
        found = LabelNoise(scores, labels, side)
        low, high = found.interval()
        assert low < found.together.shares[0] < high
        within += low < 0.1 < high
        assert found.everywhere() > 3
        suspects = found.doubts() > 0.5
        assert (suspects & flipped).sum() > 0.45 * flipped.sum()
        assert (suspects & ~flipped).sum() < 0.35 * suspects.sum()
    assert within >= 8


def test_more_wrong_labels_in_validation() -> None:
    scores, labels, _, side = drawn(0, 0.0)
    wrong = side & (np.random.default_rng(1).random(len(side)) < 0.3)
    found = LabelNoise(scores, np.where(wrong, (labels + 1) % 3, labels), side)
    ours, held_out = found.apart.shares
    assert ours < 0.03 < 0.15 < held_out < 0.45
    assert found.in_validation() > 3
    assert LabelNoise(scores, labels, np.zeros(len(side), dtype=bool)).in_validation() == 0


def test_the_derivatives_of_the_likelihood() -> None:
    scores, labels, _, side = drawn(2, 0.1, count=40)
    found = LabelNoise(scores, labels, side)

    def loss(slope: float, share: float) -> tuple[float, Any]:
        return found._loss(slope, np.full(40, share * 3 / 2), [slice(None)])  # pyright: ignore[reportPrivateUsage]

    _, (by_slope, by_share) = loss(1.3, 0.12)
    small = 1e-6
    assert by_slope == pytest.approx((loss(1.3 + small, 0.12)[0] - loss(1.3 - small, 0.12)[0]) / 2 / small, rel=1e-4)
    assert by_share == pytest.approx((loss(1.3, 0.12 + small)[0] - loss(1.3, 0.12 - small)[0]) / 2 / small, rel=1e-4)


def test_a_classifier_that_explains_the_labels_badly_has_no_say() -> None:
    """Scores with errors that are large everywhere look like wrong labels."""
    scores, labels, _, side = drawn(3, 0.0, count=2000)
    bad = scores.copy()
    mixed = np.random.default_rng(0).random(2000) < 0.2
    bad[mixed] = bad[mixed][:, [1, 2, 0]]
    good, other = (LabelNoise(one, labels, side) for one in (scores, bad))
    assert other.everywhere() > 5
    test = NoiseTest.of([good, other])
    assert test.best is good
    assert min(test.everywhere, test.in_validation) > 0.01
    assert pooled([scores, 100 * scores]) == pytest.approx(2 * pooled([scores]))
