"""The numbers of a report for the script of the page, as JSON; everything else on the page is text and pictures."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from letsam.reports.class_scores import MATRIX_CLASSES, ClassScores, confusion_matrix_of
from letsam.reports.drawing import drawable, finite_points, loss_limit
from letsam.reports.figures import BANDS, figure_title, radius_points
from letsam.reports.metric_text import metric_scale
from letsam.reports.prediction_figures import prediction_titles
from letsam.reports.reliability import reliability_of
from letsam.reports.residuals import residual_edges, residuals_of
from letsam.reports.shift_figures import shift_data
from letsam.reports.shift_numbers import ShiftNumbers
from letsam.reports.styles import method_styles
from letsam.reports.trial_outputs import TrialOutputs
from letsam.results import Results, Run

__all__ = ["json_for_page", "live_figures", "page_data"]

_CURVES = ("test_accuracy", "test_loss", "train_loss", "generalization_gap")
_FINAL = (*_CURVES, "rho_initial", "rho_final", "gradient_passes", "seconds", "steps", "skipped_steps")


def json_for_page(value: Any) -> str:
    """The value as JSON that may stand in a ``<script>`` element: no text in it can end the element."""
    text = json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    return text.replace("<", r"\u003c").replace("\u2028", r"\u2028").replace("\u2029", r"\u2029")


def page_data(
    results: Results,
    found: TrialOutputs | None = None,
    scores: Mapping[tuple[str, int], ClassScores] | None = None,
    shown: Sequence[int] = (),
    shifts: ShiftNumbers | None = None,
) -> dict[str, Any]:
    """Everything that the script draws and adds up.

    Args:
        results: the trial.
        found: the predictions of its runs.
        scores: by class, for each run with predictions.
        shown: the classes that are shown.
        shifts: the tests of its runs under shift.

    Returns:
        JSON values. Numbers that are not finite, or too large to draw, are None.
    """
    methods = list(results.methods)
    styles = method_styles(results)
    return {
        "methods": [
            {
                "name": method,
                "color": styles[method].color,
                "dash": "dash" if styles[method].linestyle == "--" else "solid",
                "width": styles[method].linewidth,
                "symbol": _SYMBOLS[styles[method].marker],
                "learned": styles[method].learned,
            }
            for method in methods
        ],
        "seeds": sorted({run.seed for run in results.runs}),
        "runs": [_run(run, methods.index(run.method)) for run in results.runs],
        "predictions": None if found is None else _predictions(found, methods, scores or {}, shown),
        "shifts": None if shifts is None else shift_data(results, shifts),
    }


def live_figures(results: Results, shifts: ShiftNumbers | None = None) -> dict[str, Any]:
    """What the script has to know of its figures, and of the table of results."""
    better = -1 if results.lower_is_better else 1
    limit = loss_limit(results)
    losses = {"scale": 1, "limit": limit if math.isfinite(limit) else None, "better": -1, "bands": BANDS}
    shown = metric_scale(results)
    accuracies = {"scale": shown.factor, "limit": None, "better": better, "bands": BANDS, "column": "test_accuracy"}
    titles = {name: figure_title(results, name) for name in (*_CURVES, "rho", "hypergradient")}
    gap = {**losses, "column": "generalization_gap", "title": titles["generalization_gap"]}
    return {
        "scale": shown.factor,
        "digits": shown.digits,
        "lower": results.lower_is_better,
        "figures": {
            "metric-dots": {**accuracies, "type": "dots", "title": titles["test_accuracy"]},
            "gap-dots": {**gap, "type": "dots"},
            "metric": {**accuracies, "type": "curves", "title": titles["test_accuracy"]},
            "test-loss": {**losses, "type": "curves", "column": "test_loss", "title": titles["test_loss"]},
            "train-loss": {**losses, "type": "curves", "column": "train_loss", "title": titles["train_loss"]},
            "gap": {**gap, "type": "curves"},
            "radius": {"type": "radius", "title": titles["rho"]},
            "hypergradient": {"type": "hypergradient", "title": titles["hypergradient"]},
            "classes": {"type": "classes", "title": ""},
            **{name: {"type": name, "title": title} for name, title in prediction_titles().items()},
            **_of_shifts(shifts),
        },
    }


def _of_shifts(shifts: ShiftNumbers | None) -> dict[str, Any]:
    """The figures of tests under shift, by the places of their quantities and kinds."""
    if shifts is None:
        return {}
    together = {f"shift-{one.name}": {"type": "severity", "quantity": i} for i, one in enumerate(shifts.quantities)}
    return together | {f"shift-kind-{i}": {"type": "severity", "kind": i} for i in range(len(shifts.drawn))}


_SYMBOLS = {"o": "circle", "s": "square", "^": "triangle-up", "D": "diamond", "P": "cross"}


def _run(run: Run, method: int) -> dict[str, Any]:
    curves = {name: _columns(finite_points(run, name)) for name in (*_CURVES, "hypergradient")}
    return {
        "method": method,
        "seed": run.seed,
        "final": {name: _exact(getattr(run, name)) for name in _FINAL},
        "diverged": run.diverged,
        "curves": {**curves, "rho": _columns(radius_points(run))},
    }


def _predictions(
    found: TrialOutputs,
    methods: Sequence[str],
    scores: Mapping[tuple[str, int], ClassScores],
    shown: Sequence[int],
) -> dict[str, Any]:
    edges = residual_edges(found) if found.kind == "regression" else None
    runs: list[dict[str, Any]] = []
    targets: list[Any] = []
    for run in found.runs:
        row: dict[str, Any] = {"method": methods.index(run.method), "seed": run.seed}
        if edges is not None:
            left = residuals_of(found, run, edges)
            row |= {"rmse": _number(left.rmse), "mae": _number(left.mae), "r2": _number(left.r2)}
            row |= {"predicted": _list(left.predicted), "counts": left.counts.tolist()}
            targets = _list(left.targets)
        else:
            bins = reliability_of(found, run)
            row |= {
                "count": bins.count.tolist(),
                "confidence": _list(bins.confidence),
                "correct": bins.correct.tolist(),
            }
            one = scores[run.method, run.seed]
            row |= {name: _list(getattr(one, name)[list(shown)]) for name in ("f1", "precision", "recall")}
            if found.kind == "classification" and len(found.names) <= MATRIX_CLASSES:
                row["confusion"] = confusion_matrix_of(found, run).ravel().tolist()
        runs.append(row)
    about = {"kind": found.kind, "classes": [found.names[i] for i in shown], "runs": runs}
    return about | ({} if edges is None else {"targets": targets, "edges": _list(edges)})


def _columns(points: Iterable[tuple[float, float]]) -> list[list[Any]]:
    rows = list(points)
    return [[_number(epoch) for epoch, _ in rows], [_number(value) for _, value in rows]]


def _list(values: Any) -> list[Any]:
    return [_number(float(value)) for value in values]


def _exact(value: float | None) -> float | None:
    """What the table is computed from has all its digits."""
    return None if value is None or not math.isfinite(value) else value


def _number(value: float | None) -> float | None:
    """Six digits are more than a figure shows, and keep the page small."""
    if value is None or not drawable(value):
        return None
    return round(value, 5 - math.floor(math.log10(abs(value)))) if abs(value) > 1e-100 else 0.0
