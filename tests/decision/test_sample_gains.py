"""The gain of one model over another on the same samples, for each metric, against scipy's bootstrap."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

from letsam.decision import matched_bounds, mcnemar, sample_gain
from letsam.decision.sample_gains import FEWEST_DIFFERING
from letsam.results.predicted import Predictions
from letsam.tasks.metrics import METRICS, array_measure


def pair(kind: Any, samples: int = 250, change: float = 0.6, outputs: int = 3) -> tuple[Predictions, Predictions]:
    """An old model, and a new one that has learned from the old one and is better."""
    random = np.random.default_rng(0)
    noise = random.standard_normal((samples, outputs))
    moved = noise + change * random.standard_normal((samples, outputs))
    if kind == "classification":
        targets: Any = random.choice(outputs, samples, p=[0.6, 0.3, 0.1])
        base = np.eye(outputs)[targets]
    elif kind == "multilabel":
        targets = random.integers(0, 2, (samples, outputs)).astype(np.float32)
        base = targets - 0.5
    else:
        targets = random.standard_normal((samples, outputs)).astype(np.float32)
        base = targets
    made = (base + noise, 1.6 * base + moved) if kind != "regression" else (base + noise, base + 0.7 * moved)
    return tuple(Predictions(n, 0, kind, o.astype(np.float32), targets) for n, o in zip("on", made, strict=True))  # type: ignore[return-value]


@pytest.mark.parametrize(("kind", "metric"), [(kind, one.name) for kind, known in METRICS.items() for one in known])
def test_every_metric_has_bounds(kind: Any, metric: str) -> None:
    old, new = pair(kind)
    measure = array_measure(metric, kind)
    found = sample_gain(old, new, metric, measure=measure)
    lower_is_better = metric in ("RMSE", "MAE", "log loss")
    factor = 100 if metric in ("accuracy", "balanced accuracy", "exact match") else 1
    sign = -1 if lower_is_better else 1
    values = [measure(one.outputs, one.targets) for one in (old, new)]
    assert (found.old, found.new) == pytest.approx(tuple(values), rel=1e-6)
    assert found.gain == pytest.approx(sign * factor * (values[1] - values[0]), rel=1e-5, abs=1e-9)
    assert found.gain > 0
    assert found.unit == (" points" if factor == 100 else "")

    def difference(index: Any) -> float:
        one, other = (measure(p.outputs[index], p.targets[index]) for p in (new, old))
        return sign * factor * (one - other)

    options: dict[str, Any] = {"vectorized": False, "n_resamples": 120, "rng": np.random.default_rng(0)}
    interval = stats.bootstrap((np.arange(250),), difference, confidence_level=0.9, method="percentile", **options)
    low, high = interval.confidence_interval
    assert found.lower is not None
    assert found.upper is not None
    assert found.lower == pytest.approx(low, abs=0.3 * (high - low))
    assert found.upper == pytest.approx(high, abs=0.3 * (high - low))
    assert found.p is not None
    if found.lower > 0:
        assert found.p < 0.11
    back = sample_gain(new, old, metric, measure=measure)
    assert (back.gain, back.lower, back.upper) == pytest.approx((-found.gain, -found.upper, -found.lower), abs=1e-9)


def test_accuracies_are_the_score_test() -> None:
    old, new = pair("classification")
    found = sample_gain(old, new, "accuracy")
    before, after = (one.outputs.argmax(axis=1) == one.targets for one in (old, new))
    assert (found.better, found.worse) == (int((after & ~before).sum()), int((before & ~after).sum()))
    bounds = [100 * bound for bound in matched_bounds(found.better, found.worse, 250, 0.05)]
    assert [found.lower, found.upper] == pytest.approx(bounds)
    assert found.p == mcnemar(found.better, found.worse)
    assert found.samples == 250
    wider = sample_gain(old, new, "accuracy", level=0.01)
    assert wider.lower is not None
    assert wider.lower < bounds[0]
    labels = [
        Predictions("m", 0, "multilabel", p.outputs, (p.outputs > 0.5).astype(np.float32)) for p in pair("multilabel")
    ]
    exact = sample_gain(
        labels[0], Predictions("n", 0, "multilabel", labels[0].outputs, labels[0].targets), "exact match"
    )
    assert (exact.better, exact.worse, exact.gain) == (0, 0, 0.0)
    assert exact.upper is not None
    assert exact.upper > 0.5


def test_where_hardly_anything_differs_nothing_is_claimed() -> None:
    old, _ = pair("classification", 2000)
    outputs = old.outputs.copy()
    outputs[:FEWEST_DIFFERING] = -outputs[:FEWEST_DIFFERING]
    few = outputs.copy()
    few[FEWEST_DIFFERING - 5 :] = old.outputs[FEWEST_DIFFERING - 5 :]
    measure = array_measure("F1", "classification")
    new = Predictions("new", 0, "classification", outputs, old.targets)
    assert sample_gain(old, new, "F1", measure=measure).lower is not None
    nearly = sample_gain(old, Predictions("new", 0, "classification", few, old.targets), "F1", measure=measure)
    assert (nearly.lower, nearly.upper, nearly.p) == (None, None, None)
    assert nearly.gain != 0
    same = sample_gain(old, old, "balanced accuracy")
    assert same.gain == 0
    assert same.lower is not None
    assert same.lower < -0.05  # of 200 samples of the smallest class none differs, which shows no more than this


def test_one_sample_has_no_bounds() -> None:
    old, new = pair("regression", 1)
    found = sample_gain(old, new, "RMSE")
    assert (found.lower, found.samples) == (None, 1)


def test_what_is_refused() -> None:
    old, new = pair("classification")
    with pytest.raises(
        ValueError, match=r"^`metric` must be one that can be computed from outputs and targets, got 'BLEU'"
    ):
        sample_gain(old, new, "BLEU")
    with pytest.raises(ValueError, match=r"^`level` must be above 0 and below 0.5, got 0.5"):
        sample_gain(old, new, "accuracy", level=0.5)
    for other in (pair("regression")[1], pair("classification", 200)[1]):
        with pytest.raises(
            ValueError, match=r"^`old` and `new` must be predictions of the same kind for the same targets"
        ):
            sample_gain(old, other, "accuracy")
