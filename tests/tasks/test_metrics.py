"""Metrics of whole data sets, against their definitions in plain torch."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from letsam.tasks.metrics import METRICS, find_metric
from letsam.tasks.weighted import WeightedTarget


def drawn(kind: str, count: int = 40, seed: int = 0) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    if kind == "classification":
        targets = torch.randint(0, 3, (count,), generator=g)
        return torch.randn(count, 3, generator=g) + torch.eye(3)[targets], targets
    if kind == "multilabel":
        targets = (torch.rand(count, 3, generator=g) < 0.4).float()
        return torch.randn(count, 3, generator=g) + targets - 0.5, targets
    targets = torch.randn(count, generator=g).round(decimals=1)  # some are equal
    return (targets + torch.randn(count, generator=g)).round(decimals=1).unsqueeze(1), targets


def value(kind: str, name: str, outputs: Tensor, targets: object) -> float:
    return find_metric(name, kind).function(outputs, targets)


def pairs_in_order(scores: Tensor, positive: Tensor) -> float:
    """The share of pairs of a positive and a negative sample that the scores order rightly; ties count half."""
    gaps = scores[positive].unsqueeze(1) - scores[~positive].unsqueeze(0)
    return float(((gaps > 0).double() + 0.5 * (gaps == 0).double()).mean())


def test_classification() -> None:
    outputs, targets = drawn("classification")
    found = {metric.name: metric.function(outputs, targets) for metric in METRICS["classification"]}

    predicted = outputs.argmax(1)
    recalls, f1 = [], []
    for c in range(3):
        hits = float(((predicted == c) & (targets == c)).sum())
        recalls.append(hits / float((targets == c).sum()))
        f1.append(2 * hits / float((targets == c).sum() + (predicted == c).sum()))
    log_probability = outputs.double().log_softmax(1)
    assert found == pytest.approx(
        {
            "accuracy": float((predicted == targets).double().mean()),
            "balanced accuracy": sum(recalls) / 3,
            "F1": sum(f1) / 3,
            "AUROC": sum(pairs_in_order(log_probability.exp()[:, c], targets == c) for c in range(3)) / 3,
            "log loss": -float(log_probability.gather(1, targets.unsqueeze(1)).mean()),
        },
        rel=1e-9,
    )


def test_two_classes() -> None:
    outputs, targets = drawn("classification")
    outputs, targets = outputs[:, :2], targets.clamp(max=1)
    predicted = outputs.argmax(1)
    hits = float(((predicted == 1) & (targets == 1)).sum())
    assert value("classification", "F1", outputs, targets) == pytest.approx(
        2 * hits / float((targets == 1).sum() + (predicted == 1).sum())
    )
    scores = outputs.double()
    assert value("classification", "AUROC", outputs, targets) == pytest.approx(
        pairs_in_order(scores[:, 1] - scores[:, 0], targets == 1)
    )


def test_several_labels() -> None:
    outputs, targets = drawn("multilabel")
    right = (outputs > 0) == (targets == 1)
    assert value("multilabel", "accuracy", outputs, targets) == pytest.approx(float(right.double().mean()))
    assert value("multilabel", "exact match", outputs, targets) == pytest.approx(float(right.all(1).double().mean()))
    areas = [pairs_in_order(outputs[:, i], targets[:, i] == 1) for i in range(3)]
    assert value("multilabel", "AUROC", outputs, targets) == pytest.approx(sum(areas) / 3)
    f1 = [
        2 * float(((outputs > 0) & (targets == 1))[:, i].sum()) / float((outputs > 0)[:, i].sum() + targets[:, i].sum())
        for i in range(3)
    ]
    assert value("multilabel", "F1", outputs, targets) == pytest.approx(sum(f1) / 3)


def test_regression() -> None:
    outputs, targets = drawn("regression")
    a, b = outputs[:, 0].double(), targets.double()
    found = {metric.name: metric.function(outputs, targets) for metric in METRICS["regression"]}
    ranks = torch.stack([(v.unsqueeze(0) < v.unsqueeze(1)).sum(1) + (v == v.unsqueeze(1)).sum(1) / 2 for v in (a, b)])
    assert found == pytest.approx(
        {
            "RMSE": float((a - b).square().mean().sqrt()),
            "MAE": float((a - b).abs().mean()),
            "R2": 1 - float((a - b).square().sum() / (b - b.mean()).square().sum()),
            "Spearman": float(torch.corrcoef(ranks.double())[0, 1]),
        },
        rel=1e-6,
    )
    assert [metric.name for metric in METRICS["regression"] if metric.lower_is_better] == ["RMSE", "MAE"]


@pytest.mark.parametrize(("kind", "name"), [(kind, metric.name) for kind in METRICS for metric in METRICS[kind]])
def test_weights_count_like_repeated_samples(kind: str, name: str) -> None:
    outputs, targets = drawn(kind, 30)
    weights = torch.randint(0, 4, (30,), generator=torch.Generator().manual_seed(1))
    repeated = torch.arange(30).repeat_interleave(weights)
    weighted = WeightedTarget(targets, weights / weights.float().mean())
    assert value(kind, name, outputs, weighted) == pytest.approx(
        value(kind, name, outputs[repeated], targets[repeated]), rel=1e-5
    )
    assert value(kind, name, outputs, weighted) != pytest.approx(value(kind, name, outputs, targets), rel=1e-5)


def test_what_is_not_defined_is_nan() -> None:
    outputs = torch.tensor([[0.1, 0.2], [0.4, 0.3]])
    assert math.isnan(value("classification", "AUROC", outputs, torch.tensor([1, 1])))
    assert math.isnan(value("multilabel", "AUROC", outputs, torch.zeros(2, 2)))
    assert math.isnan(value("regression", "R2", torch.tensor([[1.0]]), torch.tensor([1.0])))
    assert math.isnan(value("regression", "Spearman", torch.ones(3, 1), torch.tensor([1.0, 2.0, 3.0])))
    for kind in METRICS:  # a diverged run
        targets = drawn(kind, 2)[1]
        for metric in METRICS[kind]:
            found = metric.function(torch.full((2, 3 if kind != "regression" else 1), math.nan), targets)
            assert math.isnan(found) or metric.name in ("accuracy", "balanced accuracy", "F1")


@pytest.mark.filterwarnings("error")
def test_a_class_that_the_test_set_lacks() -> None:
    outputs, targets = drawn("classification")
    kept = targets != 2
    found = {metric.name: metric.function(outputs[kept], targets[kept]) for metric in METRICS["classification"]}
    assert all(map(math.isfinite, found.values()))


def test_names() -> None:
    assert find_metric("balanced_accuracy", "classification").name == "balanced accuracy"
    assert find_metric("auroc", "multilabel").name == "AUROC"
    with pytest.raises(ValueError, match=r"^`metric` must be one of accuracy, balanced accuracy, .* got 'R2'$"):
        find_metric("R2", "classification")
