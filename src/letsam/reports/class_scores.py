"""Results by class: precision, recall, F1, and which classes are taken for which."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from letsam.reports.trial_outputs import RunOutputs, TrialOutputs

__all__ = [
    "MATRIX_CLASSES",
    "ClassScores",
    "class_scores",
    "confusion_matrix_of",
    "frequent_confusions",
    "shown_classes",
]

MATRIX_CLASSES = 25
"""With more classes than this, a confusion matrix would not fit on a page; the most frequent confusions are listed."""

SHOWN_CLASSES = 50
"""So many classes are shown, those with the lowest F1."""

LISTED = 30


@dataclass(frozen=True)
class ClassScores:
    """The scores of one run; NaN where a score is not defined, as the recall of a class that no test sample has.

    Args:
        precision: shape ``(classes,)``: of the samples that are given a class, the share that has it.
        recall: of the samples that have a class, the share that is given it.
        f1: the harmonic mean of both.
        support: how many test samples have the class.
    """

    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    f1: NDArray[np.float64]
    support: NDArray[np.int64]


def class_scores(found: TrialOutputs, run: RunOutputs) -> ClassScores:
    """The scores of each class, or of each label, for one run of a classification."""
    from sklearn.metrics import precision_recall_fscore_support

    if found.kind == "multilabel":
        truth, given = found.targets > 0.5, run.values > 0.5  # pyright: ignore[reportOperatorIssue]
    else:
        truth, given = found.classes, run.predicted
    options: dict[str, Any] = {"labels": range(len(found.names)), "zero_division": np.nan}
    scores = precision_recall_fscore_support(truth, given, **options)
    precision, recall, f1, support = (np.asarray(column) for column in scores)
    return ClassScores(precision, recall, f1, support)


def confusion_matrix_of(found: TrialOutputs, run: RunOutputs) -> NDArray[np.int64]:
    """How many samples of each true class (rows) are given each class (columns)."""
    from sklearn.metrics import confusion_matrix

    return confusion_matrix(found.classes, run.predicted, labels=range(len(found.names)))


def shown_classes(scores: Mapping[tuple[str, int], ClassScores], count: int) -> list[int]:
    """The classes to show: all, or with many the ones with the lowest F1, on average over all runs."""
    if count <= SHOWN_CLASSES:
        return list(range(count))
    f1 = np.array([np.nan_to_num(one.f1) for one in scores.values()]).mean(axis=0)
    return sorted(np.argsort(f1, kind="stable")[:SHOWN_CLASSES].tolist())


def frequent_confusions(found: TrialOutputs) -> list[tuple[int, int, dict[str, float]]]:
    """The most frequent confusions: true class, predicted class, and samples for each method, a mean over its seeds."""
    count = len(found.names)
    counts: dict[str, dict[int, float]] = {}
    for method in found.methods:
        runs = found.runs_of(method)
        pairs: dict[int, float] = {}
        for run in runs:
            wrong = run.predicted != found.classes
            codes, times = np.unique(found.classes[wrong] * count + run.predicted[wrong], return_counts=True)
            for code, number in zip(codes.tolist(), times.tolist(), strict=True):
                pairs[code] = pairs.get(code, 0.0) + number / len(runs)
        counts[method] = pairs
    total: dict[int, float] = {}
    for pairs in counts.values():
        for code, number in pairs.items():
            total[code] = total.get(code, 0.0) + number
    first = sorted(total, key=lambda code: (-total[code], code))[:LISTED]
    return [
        (code // count, code % count, {method: pairs.get(code, 0.0) for method, pairs in counts.items()})
        for code in first
    ]
