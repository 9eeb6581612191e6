"""Metrics, loss, gap and sharpness with labels: the numbers, their intervals, and bounds that rarely err."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score, root_mean_squared_error

from letsam.data.loss_by_kind import KindLoss
from letsam.operation.estimates import bootstrapped, corrected
from letsam.operation.labelled_metrics import (
    Bound,
    Labelled,
    bootstrapped_groups,
    bootstrapped_loss,
    bootstrapped_metric,
)

STREAM = torch.Generator().manual_seed(0)
OUTPUTS = torch.randn(200, 3, generator=STREAM)
CLASSES = torch.where(torch.rand(200, generator=STREAM) < 0.7, OUTPUTS.argmax(1), torch.randint(3, (200,)))


def test_metrics_and_loss() -> None:
    samples = Labelled(OUTPUTS, CLASSES)
    predicted = OUTPUTS.argmax(dim=1)
    accuracy = bootstrapped_metric("accuracy", "classification", samples)
    balanced = bootstrapped_metric("balanced accuracy", "classification", samples)
    loss = bootstrapped_loss(KindLoss("classification"), "classification", samples)
    assert accuracy is not None
    assert balanced is not None
    assert loss is not None
    share = float((predicted == CLASSES).double().mean())
    assert accuracy.value == pytest.approx(share)
    assert accuracy.error == pytest.approx(math.sqrt(share * (1 - share) / 200), rel=0.15)
    assert accuracy.estimate.low < share < accuracy.estimate.high
    assert balanced.value == pytest.approx(balanced_accuracy_score(CLASSES, predicted))
    assert loss.value == pytest.approx(float(torch.nn.functional.cross_entropy(OUTPUTS, CLASSES)), rel=1e-5)


def test_new_classes() -> None:
    """They count as errors in the accuracy, and are left out of the loss and of other metrics."""
    targets = CLASSES.clone()
    targets[:20] = 3
    samples, rest = Labelled(OUTPUTS, targets), Labelled(OUTPUTS[20:], CLASSES[20:])
    accuracy = bootstrapped_metric("accuracy", "classification", samples)
    assert accuracy is not None
    assert accuracy.value == pytest.approx(float((OUTPUTS.argmax(1) == targets).double().mean()))
    for name in ("F1", "log loss"):
        found, expected = (bootstrapped_metric(name, "classification", one) for one in (samples, rest))
        assert found is not None
        assert expected is not None
        assert found.value == expected.value
    found, expected = (bootstrapped_loss(KindLoss("classification"), "classification", one) for one in (samples, rest))
    assert found is not None
    assert expected is not None
    assert found.value == expected.value
    assert bootstrapped_metric("F1", "classification", Labelled(OUTPUTS[:3], torch.tensor([3, 4, 3]))) is None


def test_numbers_with_weights() -> None:
    truth, weights = torch.randn(150, 1, generator=STREAM), torch.rand(150, generator=STREAM)
    outputs = truth + 0.3 * torch.randn(150, 1, generator=STREAM)
    samples = Labelled(outputs, truth, weights)
    rmse = bootstrapped_metric("RMSE", "regression", samples)
    loss = bootstrapped_loss(KindLoss("regression", scale=(2.0,)), "regression", samples)
    assert rmse is not None
    assert loss is not None
    assert rmse.value == pytest.approx(root_mean_squared_error(truth, outputs, sample_weight=weights), rel=1e-5)
    assert loss.value == pytest.approx((rmse.value / 2) ** 2, rel=1e-4)


def test_what_is_not_defined() -> None:
    one_class = Labelled(OUTPUTS[:5, :2], torch.zeros(5, dtype=torch.int64))
    assert bootstrapped_metric("AUROC", "classification", one_class) is None
    assert bootstrapped_groups((0.3,)) is None


def test_groups() -> None:
    values = (0.1, 0.3, 0.2, 0.4)
    found = bootstrapped_groups(values)
    assert found is not None
    assert found.value == pytest.approx(0.25)
    assert found.error == pytest.approx(np.std(values, ddof=1) / 2, rel=0.12)


def test_a_bound_has_the_spread_of_the_trial() -> None:
    values = np.random.default_rng(0).normal(1.0, 0.5, 400)
    held_out = bootstrapped(lambda places: float(values[places].mean()), 400)
    plain, wide = (Bound.of(held_out, 0.01, spread, sign=1) for spread in (0.0, 0.2))
    assert wide.limit == pytest.approx(plain.limit + 2 * 0.2)
    assert plain.limit == pytest.approx(held_out.value + 2.34 * 0.5 / 20, rel=0.02)
    assert Bound.of(held_out, 0.01, 0.0, sign=-1).limit < held_out.value


@pytest.mark.parametrize("sizes", [(300, 40), (80, 200)])
def test_p_values_are_rarely_small_where_nothing_has_changed(sizes: tuple[int, int]) -> None:
    """Accuracies, and losses with few large values, as those of a good model are."""
    stream = np.random.default_rng(0)
    kinds = {
        "accuracy": (lambda n: (stream.random(n) < 0.95).astype(float), -1),
        "loss": (lambda n: stream.exponential(size=n) ** 3, 1),
    }
    for draw, sign in kinds.values():
        small = 0
        for _ in range(150):
            held_out, later = (draw(size) for size in sizes)
            bound, found = (
                bootstrapped(lambda places, v=v: float(v[places].mean()), len(v), replicates=60)
                for v in (held_out, later)
            )
            small += Bound.of(bound, 0.01, 0.0, sign).p_value(found) <= 0.05
        assert small <= 4


def test_p_values_are_small_where_something_has() -> None:
    stream = np.random.default_rng(0)
    before, after = (stream.random(300) < 0.95).astype(float), (stream.random(100) < 0.75).astype(float)
    held_out, found = (bootstrapped(lambda places, v=v: float(v[places].mean()), len(v)) for v in (before, after))
    bound = Bound.of(held_out, 0.01, 0.0, sign=-1)
    assert bound.p_value(found) < 0.005
    assert Bound.of(held_out, 0.01, 0.1, sign=-1).p_value(found) > 0.01  # seeds of the trial differ by as much


def test_a_small_batch_without_variation_is_no_proof() -> None:
    values = (np.random.default_rng(0).random(300) < 0.9).astype(float)
    bound = Bound.of(bootstrapped(lambda places: float(values[places].mean()), 300), 0.01, 0.0, sign=-1)
    assert bound.p_value(bootstrapped(lambda places: 0.0, 2)) > 0.01
    assert bound.p_value(bootstrapped(lambda places: 1.0, 200)) == pytest.approx(1.0)


def test_the_interval_of_a_distance_holds_its_value() -> None:
    found = corrected(0.1, np.array([0.14, 0.18, 0.2]), 0.0, 1.0)
    assert (found.low, found.value, found.high) == pytest.approx((0.001, 0.1, 0.1), abs=0.002)


def test_the_limit_of_a_high_accuracy_is_rarely_too_high() -> None:
    """A sample with one error varies little, and one without any does not: the population may be worse all the same."""
    stream, miss = np.random.default_rng(0), 0.005
    for share, size in ((0.99, 60), (0.95, 200)):
        wrong = 0
        for _ in range(300):
            values = (stream.random(size) < share).astype(float)
            found = bootstrapped(lambda places, v=values: float(v[places].mean()), size, replicates=150)
            wrong += Bound.of(found, miss, 0.0, sign=-1).limit > share
        assert wrong <= 4, (share, size)
    perfect = bootstrapped(lambda places: 1.0, 30)
    limit = Bound.of(perfect, miss, 0.0, sign=-1).limit
    assert limit**30 == pytest.approx(miss)
    later = bootstrapped(lambda places: float((places > 2).mean()), 100)  # three errors in a hundred
    assert Bound.of(perfect, miss, 0.0, sign=-1).p_value(later) > 0.5
