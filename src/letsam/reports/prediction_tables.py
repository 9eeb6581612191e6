"""The tables of the report that are made from predictions, as text; the script of the page makes them anew."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from letsam.languages import gettext
from letsam.reports.class_scores import (
    MATRIX_CLASSES,
    ClassScores,
    class_scores,
    confusion_matrix_of,
    frequent_confusions,
    shown_classes,
)
from letsam.reports.disagreement import Contested, contested_samples, pairwise_disagreement
from letsam.reports.metric_text import NOTHING, spread_text
from letsam.reports.reliability import reliability_of
from letsam.reports.residuals import residual_edges, residuals_of
from letsam.reports.trial_outputs import TrialOutputs
from letsam.results import finite_mean

__all__ = ["PredictionTables", "TextTable", "prediction_tables", "scores_of_runs"]


@dataclass(frozen=True)
class TextTable:
    """A table of texts; the first cell of each row is its heading.

    Args:
        columns: the headings.
        rows: their cells.
        shades: for each row and column but the first, how dark the cell is, from 0 to 1; empty: none is.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    shades: tuple[tuple[float, ...], ...] = ()


@dataclass(frozen=True)
class PredictionTables:
    """What the template shows; None or empty where there is nothing of the kind.

    Args:
        kind: "classification", "multilabel" or "regression".
        samples: of the test set.
        methods: those with predictions.
        classes: F1 of each class and method.
        shown: the classes that are shown.
        hidden: how many are not.
        confusion: true classes and those that the first of `methods` in `best` order gives.
        confused_method: the method of `confusion`.
        confusions: the most frequent ones, where there are too many classes for a matrix.
        calibration: of each method.
        residuals: of each method.
        named: whether the samples have names.
        contested: the samples on which the methods disagree.
        differing: how often each pair of methods does.
        left_out: the runs without usable predictions, as text.
    """

    kind: str
    samples: int
    methods: tuple[str, ...]
    classes: TextTable | None
    shown: tuple[int, ...]
    hidden: int
    confusion: TextTable | None
    confused_method: str
    confusions: TextTable | None
    calibration: TextTable | None
    residuals: TextTable | None
    named: bool
    contested: tuple[Contested, ...]
    differing: TextTable | None
    left_out: tuple[str, ...]


def scores_of_runs(found: TrialOutputs) -> dict[tuple[str, int], ClassScores]:
    """The scores by class of each run; empty for a regression."""
    if found.kind == "regression":
        return {}
    return {(run.method, run.seed): class_scores(found, run) for run in found.runs}


def prediction_tables(
    found: TrialOutputs, scores: Mapping[tuple[str, int], ClassScores], best: str | None
) -> PredictionTables:
    """Make the tables.

    Args:
        found: the predictions of the runs.
        scores: from `scores_of_runs`.
        best: the method whose confusions are shown first; None: the first.
    """
    methods = found.methods
    confused = best if best in methods else methods[0]
    regression, many = found.kind == "regression", len(found.names) > MATRIX_CLASSES
    shown = [] if regression else shown_classes(scores, len(found.names))
    single = found.kind == "classification"
    return PredictionTables(
        kind=found.kind,
        samples=len(found.targets),
        methods=methods,
        classes=None if regression else _classes(found, scores, shown),
        shown=tuple(shown),
        hidden=0 if regression else len(found.names) - len(shown),
        confusion=_confusion(found, confused) if single and not many else None,
        confused_method=confused,
        confusions=_confusions(found) if single and many else None,
        calibration=None if regression else _calibration(found),
        residuals=_residuals(found) if regression else None,
        named=bool(found.samples),
        contested=tuple(contested_samples(found)),
        differing=_differing(found) if len(methods) > 1 else None,
        left_out=tuple(
            gettext("{method} with seed {seed}", method=method, seed=seed) for method, seed in found.left_out
        ),
    )


def _classes(found: TrialOutputs, scores: Mapping[tuple[str, int], ClassScores], shown: Sequence[int]) -> TextTable:
    support = next(iter(scores.values())).support
    rows: list[tuple[str, ...]] = []
    for i in shown:
        cells = [_mean([float(scores[run.method, run.seed].f1[i]) for run in found.runs_of(m)]) for m in found.methods]
        rows.append((found.names[i], f"{int(support[i]):,}", *(_percent(cell) for cell in cells)))
    return TextTable((gettext("class"), gettext("samples"), *found.methods), tuple(rows))


def _confusion(found: TrialOutputs, method: str) -> TextTable:
    runs = found.runs_of(method)
    counts = np.asarray(sum(confusion_matrix_of(found, run) for run in runs)) / len(runs)
    totals = counts.sum(axis=1, keepdims=True)
    shares = counts / np.where(totals > 0, totals, 1)
    digits = 0 if len(runs) == 1 else 1
    rows = tuple(
        (name, *(_count(c, digits) for c in row)) for name, row in zip(found.names, counts.tolist(), strict=True)
    )
    return TextTable((gettext("true class"), *found.names), rows, tuple(tuple(row) for row in shares.tolist()))


def _confusions(found: TrialOutputs) -> TextTable:
    rows = tuple(
        (found.names[true], found.names[given], *(f"{counts[method]:.1f}" for method in found.methods))
        for true, given, counts in frequent_confusions(found)
    )
    return TextTable((gettext("true class"), gettext("taken for"), *found.methods), rows)


def _calibration(found: TrialOutputs) -> TextTable:
    rows: list[tuple[str, ...]] = []
    for method in found.methods:
        bins = [reliability_of(found, run) for run in found.runs_of(method)]
        errors = [one.expected_error for one in bins]
        confidence = finite_mean([float(one.confidence.sum() / one.count.sum()) for one in bins])
        right = finite_mean([float(one.correct.sum() / one.count.sum()) for one in bins])
        rows.append((method, spread_text(errors, 100, 2), f"{100 * confidence:.2f}", f"{100 * right:.2f}"))
    columns = (gettext("method"), gettext("ECE %"), gettext("confidence %"), gettext("right %"))
    return TextTable(columns, tuple(rows))


def _residuals(found: TrialOutputs) -> TextTable:
    edges = residual_edges(found)
    rows: list[tuple[str, ...]] = []
    for method in found.methods:
        left = [residuals_of(found, run, edges) for run in found.runs_of(method)]
        columns: list[list[float]] = [[one.rmse for one in left], [one.mae for one in left], [one.r2 for one in left]]
        rows.append((method, *(spread_text(column, 1, 4) for column in columns)))
    return TextTable((gettext("method"), "RMSE", gettext("mean absolute error"), "R2"), tuple(rows))


def _differing(found: TrialOutputs) -> TextTable:
    values = pairwise_disagreement(found)
    regression = found.kind == "regression"
    top = max((max(row) for row in values), default=0.0) or 1.0
    rows: list[tuple[str, ...]] = []
    for i, (method, row) in enumerate(zip(found.methods, values, strict=True)):
        texts = [f"{value:.4g}" if regression else f"{100 * value:.1f}" for value in row]
        texts[i] = NOTHING
        rows.append((method, *texts))
    return TextTable(
        (gettext("method"), *found.methods), tuple(rows), tuple(tuple(v / top for v in row) for row in values)
    )


def _mean(values: Sequence[float]) -> float | None:
    known = [value for value in values if math.isfinite(value)]
    return math.fsum(known) / len(known) if known else None


def _percent(value: float | None) -> str:
    return NOTHING if value is None else f"{100 * value:.1f}"


def _count(value: float, digits: int) -> str:
    return f"{value:.{digits}f}" if value else "0"
