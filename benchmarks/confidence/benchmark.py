"""What is measured, and the page."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.confidence.estimators import average_thresholded, transported
from benchmarks.confidence.shifts import CLEAN, MIX, SETTINGS, predicted, shifts_of
from benchmarks.harness import Benchmark, Row, Unit
from benchmarks.harness.page import filled, named, table
from letsam.operation.expected_accuracy import ConfidenceScale, right_answers


@dataclass(frozen=True)
class Expected(Row):
    """A model on samples under a shift; accuracies from 0 to 1."""

    parts = ("setting", "shift", "seed")

    setting: str
    shift: str
    seed: int
    samples: int
    accuracy: float
    expected: float  # by the library
    low: float  # of its interval
    high: float
    plain: float  # the mean confidence, not calibrated
    thresholded: float
    transported: float

    @property
    def kind(self) -> str:
        """Nothing or the classes alone have changed, or the inputs."""
        name = self.shift.partition(":")[0]
        return SAME if name == CLEAN else MIXED if name == MIX else CHANGED


SAME, MIXED, CHANGED = "nothing has changed", "another mix of classes", "the inputs have changed"
METHODS: dict[str, Callable[[Expected], float]] = {
    "expected accuracy": lambda row: row.expected,
    "mean confidence": lambda row: row.plain,
    "ATC": lambda row: row.thresholded,
    "COT": lambda row: row.transported,
}


class Confidence(Benchmark[Expected]):
    """Compare the expected accuracy with the accuracy."""

    name, page, digits = "confidence", "expected-accuracy", 4
    row, head = Expected, {"schema": 1}
    rows = "batches"
    settings = SETTINGS

    def units(self) -> list[Unit]:
        """A model and all its shifts."""
        return [
            Unit(f"{name}/{seed}", tuple(f"{name}/{shift}/{seed}" for shift in shifts_of(name)), (name, seed))
            for name, one in self.settings.items()
            for seed in range(one.seeds)
        ]

    def measure(self, unit: Unit) -> list[Expected]:
        """Train the model, and estimate."""
        name, seed = unit.work
        held_out, later = predicted(name, seed)
        scale = ConfidenceScale.fitted(held_out.outputs, held_out.targets, "classification")
        classes = held_out.outputs.shape[1]
        frequencies = np.bincount(held_out.targets.numpy(), minlength=classes) / len(held_out.targets)
        found: list[Expected] = []
        for shift, one in later:
            estimate, confidences = scale.expected(one.outputs), scale.of(one.outputs)
            probabilities = (one.outputs.double() / scale.temperature).softmax(dim=1).numpy()
            found.append(
                Expected(
                    setting=name,
                    shift=shift,
                    seed=seed,
                    samples=len(one.targets),
                    accuracy=float(right_answers(one.outputs, one.targets, "classification").mean()),
                    expected=estimate.value,
                    low=estimate.low,
                    high=estimate.high,
                    plain=float(one.outputs.double().softmax(dim=1).amax(dim=1).mean()),
                    thresholded=average_thresholded(scale.confidences, scale.right, confidences),
                    transported=transported(probabilities, frequencies),
                )
            )
        return found

    def fits(self, row: Expected) -> bool:
        """Whether it is of a model that would be measured."""
        return row.setting in self.settings and row.seed < self.settings[row.setting].seeds

    def sections(self, rows: Sequence[Expected]) -> Mapping[str, object]:
        """Numbers and tables."""
        changed = [row for row in rows if row.kind == CHANGED]
        return {
            "conclusion": conclusion(rows),
            "verdict": filled(verdict(rows)) if changed else "",
            "kinds": kinds_table(rows),
            "settings": settings_table(changed),
            "worst": worst_table(changed),
            "batches": len(rows),
        }


def errors(rows: Sequence[Expected], method: str = "expected accuracy") -> list[float]:
    """Points of accuracy by which each is too high."""
    return [100 * (METHODS[method](row) - row.accuracy) for row in rows]


def conclusion(rows: Sequence[Expected]) -> str:
    """The numbers first."""
    parts: list[str] = []
    for kind in (SAME, MIXED, CHANGED):
        some = [row for row in rows if row.kind == kind]
        if some:
            inside = sum(row.low <= row.accuracy <= row.high for row in some)
            size = statistics.fmean(map(abs, errors(some)))
            parts.append(
                f"- **{kind[0].upper()}{kind[1:]}** ({len(some)} batches): off by {size:.1f} points on average, and by "
                f"{max(errors(some)):+.0f} points where it is farthest too high. Its interval holds the accuracy in "
                f"{inside} of them."
            )
    return "\n".join(map(filled, parts))


def verdict(rows: Sequence[Expected]) -> str:
    """Whether another method is better where the inputs have changed, and what it costs where they have not."""
    sizes = {
        method: [
            statistics.fmean(map(abs, errors([row for row in rows if (row.kind == CHANGED) == changed], method)))
            for changed in (True, False)
        ]
        for method in METHODS
    }
    own, *others = METHODS
    better = [method for method in others if sizes[method][0] < sizes[own][0]]
    without = [method for method in better if sizes[method][1] <= sizes[own][1]]
    with_change, without_change = sizes[own]
    told = (
        f"off by {with_change:.1f} points where the inputs have changed and by {without_change:.1f} where they have not"
    )
    if without:
        return f"{named(without)} would be better: the method of the library is {told}."
    if not better:
        return f"None of the others is better: the method of the library is {told}."
    shown = named([f"{method} is off by {sizes[method][0]:.1f} and {sizes[method][1]:.1f}" for method in better])
    return f"No other method is better in both cases: that of the library is {told}; {shown}."


def kinds_table(rows: Sequence[Expected]) -> str:
    """Mean absolute errors of each method by what has changed."""
    cells: list[list[str]] = []
    for method in METHODS:
        line = [method]
        for kind in (SAME, MIXED, CHANGED):
            found = errors([row for row in rows if row.kind == kind], method)
            line.append(f"{statistics.fmean(map(abs, found)):.1f}" if found else "")
        found = errors([row for row in rows if row.kind == CHANGED], method)
        line += [f"{statistics.fmean(found):+.1f}", f"{max(found):+.0f}", f"{min(found):+.0f}"] if found else [""] * 3
        cells.append(line)
    head = ["method", SAME, MIXED, CHANGED, "mean, with sign", "farthest too high", "farthest too low"]
    return table(head, cells)


def settings_table(rows: Sequence[Expected]) -> str:
    """Mean absolute errors where the inputs have changed, by setting."""
    cells: list[list[str]] = []
    for name, one in SETTINGS.items():
        mine = [row for row in rows if row.setting == name]
        if mine:
            sizes = [f"{statistics.fmean(map(abs, errors(mine, method))):.1f}" for method in METHODS]
            cells.append([one.title, str(len(mine)), f"{100 * statistics.fmean(r.accuracy for r in mine):.1f}", *sizes])
    return table(["model", "batches", "mean accuracy", *METHODS], cells)


def worst_table(rows: Sequence[Expected]) -> str:
    """For each setting the shift under which the expected accuracy is farthest too high, as a mean over the seeds."""
    cells: list[list[str]] = []
    for name, one in SETTINGS.items():
        mine = [row for row in rows if row.setting == name]
        shifts: dict[str, list[Expected]] = {}
        for row in mine:
            shifts.setdefault(row.shift, []).append(row)
        if shifts:
            worst = max(shifts, key=lambda shift: statistics.fmean(errors(shifts[shift])))
            some = shifts[worst]
            means = [statistics.fmean(METHODS[method](row) for row in some) for method in METHODS]
            accuracy = statistics.fmean(row.accuracy for row in some)
            cells.append([one.title, worst, *(f"{100 * value:.1f}" for value in (accuracy, *means))])
    return table(["model", "shift", "accuracy", *METHODS], cells, "llr")
