"""The part of the test samples, against analysis of variance by hand and against scipy's bootstrap."""

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics

from letsam.decision.pairing import paired
from letsam.decision.sampling_noise import contributions, crossed_variance, sample_variance
from letsam.results import Results
from letsam.results.predicted import Predictions
from report_cases import make_run


def predictions(method="sgd", seed=0, kind="classification", samples=200, outputs=2, shift=0.0):
    random = np.random.default_rng([seed, 7])
    truth = np.random.default_rng(3)
    if kind == "classification":
        targets = truth.integers(0, outputs, samples)
        scores = random.standard_normal((samples, outputs)) + (1 + shift) * np.eye(outputs)[targets]
    elif kind == "multilabel":
        targets = truth.integers(0, 2, (samples, outputs)).astype(np.float32)
        scores = random.standard_normal((samples, outputs)) + targets - 0.5
    else:
        targets = truth.standard_normal((samples, outputs)).astype(np.float32)
        scores = targets + random.standard_normal((samples, outputs)) * (1 - shift)
    return Predictions(method, seed, kind, scores.astype(np.float32), targets)


def bootstrap_error(function, found, resamples):
    """The standard error of a metric over test samples."""
    statistic = lambda index: function(found.outputs[index], found.targets[index])  # noqa: E731
    index = np.arange(len(found.targets))
    options = {"vectorized": False, "n_resamples": resamples, "method": "basic", "rng": np.random.default_rng(0)}
    return stats.bootstrap((index,), statistic, **options).standard_error


def rmse(outputs, targets):
    return metrics.root_mean_squared_error(targets, outputs)


def auroc(outputs, targets):
    return metrics.roc_auc_score(targets, outputs[:, 1] - outputs[:, 0])


@pytest.mark.parametrize(
    ("kind", "metric", "function", "measure"),
    [
        ("classification", "accuracy", lambda o, t: float((o.argmax(1) == t).mean()), None),
        ("multilabel", "accuracy", lambda o, t: float(((o > 0) == (t == 1)).mean()), None),
        ("multilabel", "exact match", lambda o, t: float(((o > 0) == (t == 1)).all(1).mean()), None),
        ("regression", "MAE", lambda o, t: metrics.mean_absolute_error(t, o), None),
        ("regression", "RMSE", rmse, None),
        ("classification", "AUROC", auroc, auroc),
    ],
)
def test_contributions_give_the_metric_and_its_standard_error(kind, metric, function, measure):
    found = predictions(kind=kind)
    values = contributions(found, metric, measure)
    assert values is not None
    assert values.mean() == pytest.approx(function(found.outputs, found.targets))
    error = values.std(ddof=1) / np.sqrt(len(values))
    resamples, tolerance = (200, 0.25) if measure else (1000, 0.1)  # the first is slow
    assert error == pytest.approx(bootstrap_error(function, found, resamples), rel=tolerance)


def test_a_metric_that_is_not_known_has_no_contributions():
    assert contributions(predictions(), "F1") is None
    assert contributions(predictions(), "AUROC", lambda outputs, targets: float("nan")) is None


def test_the_variance_of_the_columns_is_that_of_an_analysis_of_variance():
    gains = np.random.default_rng(0).standard_normal((4, 30)) + 3 * np.random.default_rng(1).standard_normal(30)
    grand, rows, columns = gains.mean(), gains.mean(1), gains.mean(0)
    between = sum(4 * (column - grand) ** 2 for column in columns) / 29
    rest = sum((gains[s, i] - rows[s] - columns[i] + grand) ** 2 for s in range(4) for i in range(30)) / (3 * 29)
    assert crossed_variance(gains) == pytest.approx((between - rest) / (4 * 30))


def test_the_estimated_variance_is_right_on_average_and_never_negative():
    random = np.random.default_rng(2)
    found = []
    for _ in range(2000):
        sample = 2.0 * random.standard_normal(40)
        found.append(crossed_variance(random.standard_normal((3, 1)) + sample + random.standard_normal((3, 40))))
    assert np.mean(found) == pytest.approx(4 / 40, rel=0.03)
    alone = [crossed_variance(random.standard_normal((3, 40))) for _ in range(200)]
    assert min(alone) == 0.0


def trial_of_two(kind="classification", seeds=3, weight=0.0):
    """Results whose metric is that of the predictions, and the predictions; `weight` makes it another number."""
    metric = "accuracy" if kind == "classification" else "RMSE"
    runs, found = [], []
    for method, shift in (("sgd", 0.0), ("lets-sam", 0.5)):
        for seed in range(seeds):
            one = predictions(method, seed, kind, outputs=3, shift=shift)
            values = contributions(one, metric)
            runs.append(make_run(method, seed, float(values.mean()) + weight))
            found.append(one)
    fields = {"metric": metric, "lower_is_better": metric == "RMSE"}
    runs = [type(run)(**{**vars(run), **fields}) for run in runs]
    return Results("t", {}, {}, tuple(runs)), found


@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_the_variance_of_a_trial_is_in_the_unit_of_its_gains(kind):
    results, found = trial_of_two(kind)
    pairs = paired(results, "lets-sam", "sgd")
    scale = 100.0 if kind == "classification" else 1.0
    by_run = {one.key: contributions(one, results.metric) for one in found}
    gains = scale * np.array([by_run["lets-sam", seed] - by_run["sgd", seed] for seed in range(3)])
    sign = -1 if kind == "regression" else 1
    assert pairs.gains == pytest.approx(tuple(sign * gains.mean(axis=1)))
    variance, freedom = sample_variance(pairs, found, scale)
    assert (variance, freedom) == (pytest.approx(crossed_variance(gains)), 199)


def test_predictions_that_do_not_give_the_metric_are_not_used():
    results, found = trial_of_two(weight=0.01)
    assert sample_variance(paired(results, "lets-sam", "sgd"), found, 100.0) is None
    results, found = trial_of_two()
    assert sample_variance(paired(results, "lets-sam", "sgd"), found[1:], 100.0) is None
    assert sample_variance(paired(results, "lets-sam", "sgd"), found, 100.0) is not None
