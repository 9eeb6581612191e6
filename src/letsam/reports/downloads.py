"""The numbers of a report as files that the page itself holds, as data links."""

from __future__ import annotations

import base64
import csv
import io
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from letsam.languages import gettext
from letsam.reports.class_scores import ClassScores
from letsam.reports.trial_outputs import TrialOutputs
from letsam.results import Results, Run
from letsam.results.printable import csv_cell

__all__ = ["Download", "downloads_of"]

_RUN = (
    *("method", "seed", "metric", "test_accuracy", "test_loss", "train_loss", "validation_loss", "generalization_gap"),
    *("rho_initial", "rho_final", "gradient_passes", "steps", "skipped_steps", "seconds"),
)


@dataclass(frozen=True)
class Download:
    """A file that can be saved from the page.

    Args:
        name: of the file.
        what: what it holds.
        link: a ``data:`` URL.
    """

    name: str
    what: str
    link: str


def downloads_of(
    results: Results, found: TrialOutputs | None, scores: dict[tuple[str, int], ClassScores]
) -> tuple[Download, ...]:
    """The files of a report: the runs and their histories, and the results of each class where there are any."""
    files = [
        _csv("runs.csv", gettext("one row for each run"), *_runs(results)),
        _csv("history.csv", gettext("one row for each run and evaluation"), *_history(results)),
    ]
    if found is not None and scores:
        files.append(_csv("classes.csv", gettext("one row for each run and class"), *_classes(found, scores)))
    if any(run.shifted for run in results.runs):
        files.append(_csv("shifts.csv", gettext("one row for each run and test under shift"), *_shifts(results)))
    document = {
        "task": results.task,
        "config": dict(results.config),
        "environment": dict(results.environment),
        "runs": [_without_schedule(run) for run in results.runs],
    }
    text = json.dumps(_finite(document), ensure_ascii=False, allow_nan=False)
    what = gettext("the same as JSON, without the radius at every step")
    files.append(_file("runs.json", what, "application/json", text))
    return tuple(files)


def _runs(results: Results) -> tuple[Sequence[str], Iterable[Sequence[Any]]]:
    further = list(dict.fromkeys(name for run in results.runs for name in run.metrics))
    rows = [
        [*(getattr(run, name) for name in _RUN), *(run.metrics.get(name) for name in further)] for run in results.runs
    ]
    return (*_RUN, *further), rows


def _history(results: Results) -> tuple[Sequence[str], Iterable[Sequence[Any]]]:
    names = _columns_in_order({name for run in results.runs for name in run.history})
    rows: list[list[Any]] = []
    for run in results.runs:
        for index in range(len(run.history.get("epoch", ()))):
            values = [run.history[name][index] if name in run.history else None for name in names]
            rows.append([run.method, run.seed, *values])
    return ("method", "seed", *names), rows


def _shifts(results: Results) -> tuple[Sequence[str], Iterable[Sequence[Any]]]:
    columns = ("metric", "loss", "calibration_error")
    rows = [
        [run.method, run.seed, name, *(test.get(column) for column in columns)]
        for run in results.runs
        for name, test in run.shifted.items()
    ]
    return ("method", "seed", "shift", *columns), rows


def _classes(
    found: TrialOutputs, scores: dict[tuple[str, int], ClassScores]
) -> tuple[Sequence[str], Iterable[Sequence[Any]]]:
    rows = [
        [method, seed, name, *(column[i].item() for column in (one.support, one.precision, one.recall, one.f1))]
        for (method, seed), one in scores.items()
        for i, name in enumerate(found.names)
    ]
    return ("method", "seed", "class", "samples", "precision", "recall", "f1"), rows


def _csv(name: str, what: str, head: Sequence[str], rows: Iterable[Sequence[Any]]) -> Download:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(head)
    writer.writerows([csv_cell(value) for value in row] for row in rows)
    return _file(name, what, "text/csv", buffer.getvalue())


def _file(name: str, what: str, kind: str, text: str) -> Download:
    content = base64.b64encode(text.encode("utf-8", "backslashreplace")).decode()
    return Download(name, what, f"data:{kind};charset=utf-8;base64,{content}")


def _without_schedule(run: Run) -> dict[str, Any]:
    return {**vars(run), "history": {name: run.history[name] for name in _columns_in_order(run.history)}}


def _columns_in_order(names: Iterable[str]) -> list[str]:
    """Columns of a history in an order that does not depend on whether the run was read from a file."""
    return sorted((name for name in names if name != "rho_schedule"), key=lambda name: (name != "epoch", name))


def _finite(value: Any) -> Any:
    """The same value with None in place of every number that JSON does not have."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
