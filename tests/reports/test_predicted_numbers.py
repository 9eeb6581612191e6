"""What the report computes from predictions: by hand, and by scikit-learn and torchmetrics."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from sklearn import metrics

from letsam.reports.class_scores import class_scores, confusion_matrix_of, frequent_confusions, shown_classes
from letsam.reports.disagreement import contested_samples, pairwise_disagreement
from letsam.reports.prediction_tables import prediction_tables, scores_of_runs
from letsam.reports.reliability import reliability_of
from letsam.reports.residuals import residual_edges, residuals_of
from letsam.reports.trial_outputs import trial_outputs
from letsam.results.predicted import Predictions
from report_cases import predictions_of


def classified(rows, targets, method="sgd", seed=0, classes=()):
    """Predictions whose outputs are the logarithms of these probabilities, plus a number for each row."""
    outputs = np.log(np.asarray(rows)) + np.arange(len(rows))[:, None]
    return Predictions(method, seed, "classification", outputs.astype(np.float32), np.asarray(targets), classes)


def test_scores_become_probabilities():
    rows = [[0.7, 0.2, 0.1], [0.25, 0.5, 0.25]]
    found = trial_outputs([classified(rows, [0, 2])])
    assert found.runs[0].values == pytest.approx(np.array(rows), abs=1e-6)
    given = Predictions("sgd", 0, "classification", np.array(rows, np.float32), np.array([0, 2]))
    assert trial_outputs([given]).runs[0].values == pytest.approx(np.array(rows), abs=1e-6)  # they are probabilities
    labels = Predictions("sgd", 0, "multilabel", np.array([[0.0, 800.0, -800.0]], np.float32), np.ones((1, 3)))
    assert trial_outputs([labels]).runs[0].values == pytest.approx(np.array([[0.5, 1, 0]]))
    number = Predictions("sgd", 0, "regression", np.array([[800.0]], np.float32), np.ones((1, 1)))
    assert trial_outputs([number]).runs[0].values.tolist() == [[800.0]]


def test_runs_that_cannot_be_compared_are_left_out():
    good = classified([[0.7, 0.3], [0.4, 0.6]], [0, 1])
    other = classified([[0.7, 0.3], [0.4, 0.6]], [1, 1], seed=1)
    broken = Predictions("sgd", 2, "classification", np.array([[1, np.nan], [0, 1]], np.float32), np.array([0, 1]))
    found = trial_outputs([broken, good, other])
    assert [run.seed for run in found.runs] == [0]
    assert found.left_out == (("sgd", 2), ("sgd", 1))
    assert trial_outputs([broken]) is None
    assert trial_outputs([]) is None


def test_scores_and_confusions_by_hand():
    targets = [0, 0, 0, 1, 1, 2]
    given = [0, 0, 1, 1, 2, 2]
    rows = [[0.8 if c == g else 0.1 for c in range(3)] for g in given]
    found = trial_outputs([classified(rows, targets, classes=("a", "b", "c"))])
    scores = class_scores(found, found.runs[0])
    assert scores.support.tolist() == [3, 2, 1]
    assert scores.precision == pytest.approx([1, 1 / 2, 1 / 2])
    assert scores.recall == pytest.approx([2 / 3, 1 / 2, 1])
    assert scores.f1 == pytest.approx([4 / 5, 1 / 2, 2 / 3])
    assert confusion_matrix_of(found, found.runs[0]).tolist() == [[2, 1, 0], [0, 1, 1], [0, 0, 1]]
    assert frequent_confusions(found) == [(0, 1, {"sgd": 1.0}), (1, 2, {"sgd": 1.0})]
    tables = prediction_tables(found, scores_of_runs(found), "sgd")
    assert tables.classes.rows[0] == ("a", "3", "80.0")
    assert tables.confusion.rows[0] == ("a", "2", "1", "0")
    assert tables.confusion.shades[0] == pytest.approx((2 / 3, 1 / 3, 0))


def test_a_class_without_test_samples_has_no_score():
    found = trial_outputs([classified([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1]], [0, 1])])
    assert math.isnan(class_scores(found, found.runs[0]).f1[2])
    assert prediction_tables(found, scores_of_runs(found), None).classes.rows[2] == ("2", "0", "\N{EN DASH}")


def test_calibration(five):
    from torchmetrics.functional.classification import multiclass_calibration_error

    predictions = predictions_of(five)
    found = trial_outputs(predictions)
    for run, one in zip(found.runs, predictions, strict=True):
        error = multiclass_calibration_error(
            torch.tensor(run.values), torch.tensor(one.targets), num_classes=4, n_bins=15, norm="l1"
        )
        assert reliability_of(found, run).expected_error == pytest.approx(float(error), abs=1e-6)
    by_hand = trial_outputs([classified([[0.9, 0.1], [0.9, 0.1], [0.4, 0.6]], [0, 1, 1])])
    # Two answers at 0.9 of which one is right, and one right answer at 0.6.
    assert reliability_of(by_hand, by_hand.runs[0]).expected_error == pytest.approx((2 * 0.4 + 0.4) / 3, abs=1e-6)


def test_labels_that_do_not_exclude_each_other(five):
    found = trial_outputs(predictions_of(five, "multilabel"))
    run = found.runs[0]
    scores = class_scores(found, run)
    for label in range(4):
        truth, given = found.targets[:, label] > 0.5, run.values[:, label] > 0.5
        assert scores.f1[label] == pytest.approx(metrics.f1_score(truth, given))
    bins = reliability_of(found, run)
    assert bins.count.sum() == 4 * len(found.targets)
    assert bins.correct.sum() == ((run.values > 0.5) == (found.targets > 0.5)).sum()
    tables = prediction_tables(found, scores_of_runs(found), None)
    assert tables.confusion is tables.confusions is None
    assert all(sample.answers for sample in tables.contested)


def test_residuals(five):
    predictions = predictions_of(five, "regression", outputs=2)
    found = trial_outputs(predictions)
    edges = residual_edges(found)
    for run, one in zip(found.runs, predictions, strict=True):
        left = residuals_of(found, run, edges)
        truth, given = one.targets.ravel(), one.outputs.ravel()
        assert left.rmse == pytest.approx(metrics.root_mean_squared_error(truth, given))
        assert left.mae == pytest.approx(metrics.mean_absolute_error(truth, given))
        assert left.r2 == pytest.approx(metrics.r2_score(truth, given))
        assert left.counts.sum() == truth.size
    constant = trial_outputs([Predictions("sgd", 0, "regression", np.ones((3, 1), np.float32), np.ones((3, 1)))])
    left = residuals_of(constant, constant.runs[0], residual_edges(constant))
    assert (left.rmse, left.counts.sum()) == (0, 3)
    assert math.isnan(left.r2)


def test_where_methods_disagree():
    rows = {
        ("sgd", 0): [[0.9, 0.1], [0.6, 0.4], [0.8, 0.2]],
        ("sgd", 1): [[0.7, 0.3], [0.6, 0.4], [0.8, 0.2]],
        ("sam", 0): [[0.2, 0.8], [0.4, 0.6], [0.7, 0.3]],
    }
    found = trial_outputs([classified(row, [1, 0, 0], *key, classes=("no", "yes")) for key, row in rows.items()])
    first, second = contested_samples(found)
    # sgd gives 0.8 and sam 0.2: each is 0.3 from their mean.
    assert (first.index, first.name, first.target, first.size) == (0, "0", "yes", pytest.approx(0.3, abs=1e-6))
    assert first.answers == (("no (80 %)", False), ("yes (80 %)", True))
    assert (second.index, second.size) == (1, pytest.approx(0.1, abs=1e-6))
    assert pairwise_disagreement(found) == [[0, pytest.approx(2 / 3)], [pytest.approx(2 / 3), 0]]
    assert contested_samples(trial_outputs([classified(rows["sgd", 0], [1, 0, 0])])) == []
    named = dataclasses.replace(found, samples=("row 7", "row 3", "row 9"))
    assert [sample.name for sample in contested_samples(named)] == ["row 7", "row 3"]


def test_numbers_on_which_methods_disagree():
    def one(method, *values):
        return Predictions(method, 0, "regression", np.array(values, np.float32)[:, None], np.array([[1.0], [2.0]]))

    found = trial_outputs([one("sgd", 1, 4), one("sam", 1, 2)])
    (sample,) = contested_samples(found)
    assert (sample.index, sample.size, sample.target) == (1, 1.0, "2")
    assert sample.answers == (("4", None), ("2", None))
    assert pairwise_disagreement(found) == [[0, 1], [1, 0]]


def test_very_many_classes(five):
    found = trial_outputs(predictions_of(five, outputs=80, samples=400))
    scores = scores_of_runs(found)
    shown = shown_classes(scores, 80)
    assert len(shown) == 50
    f1 = np.mean([np.nan_to_num(one.f1) for one in scores.values()], axis=0)
    assert max(f1[shown]) <= min(np.delete(f1, shown))
    tables = prediction_tables(found, scores, None)
    assert (tables.hidden, tables.confusion) == (30, None)
    assert len(tables.confusions.rows) == 30
    totals = [round(sum(counts.values()), 9) for _, _, counts in frequent_confusions(found)]
    assert totals == sorted(totals, reverse=True)
