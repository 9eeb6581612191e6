"""The tests of a trial under shift: numbers by method, shift and severity, and the tables of the report."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from letsam.languages import gettext
from letsam.reports.metric_text import metric_name, metric_scale, percent, spread_text
from letsam.reports.prediction_tables import TextTable
from letsam.results import Results, Run, finite_mean, printable
from letsam.results.shift_names import CLEAN_TEST, kinds_in, kinds_of_shifts, mean_over_shifts, shift_severity

__all__ = ["Quantity", "ShiftNumbers", "shift_numbers", "shift_tables"]

ALL_SEVERITIES = 5


@dataclass(frozen=True)
class Quantity:
    """What is measured under shift.

    Args:
        name: "metric", "error" (of calibration) or "gap".
        label: in headings of columns.
        title: of figures.
        factor: that values are multiplied by.
        digits: after the decimal point.
        shared: whether its values have the same range under all shifts, so that figures have one axis.
    """

    name: str
    label: str
    title: str
    factor: float
    digits: int
    shared: bool

    @property
    def heading(self) -> str:
        """The title with a capital letter."""
        return self.title[0].upper() + self.title[1:]

    def of(self, run: Run, shift: str) -> float:
        """The value of a run on one of its test sets; NaN where there is none."""
        test = run.shifted.get(shift, {})
        if self.name == "gap":
            return _number(test.get("loss")) - run.train_loss
        return _number(test.get("metric" if self.name == "metric" else "calibration_error"))


@dataclass(frozen=True)
class ShiftNumbers:
    """What the runs of a trial were tested under.

    Args:
        quantities: what is measured.
        kinds: the shifts of each kind, without the test data as they are.
        methods: those with such tests.
        runs: the runs with such tests.
        validated: the kinds that the validation data of learned radii had.
    """

    quantities: tuple[Quantity, ...]
    kinds: Mapping[str, Sequence[str]]
    methods: tuple[str, ...]
    runs: tuple[Run, ...]
    validated: frozenset[str]

    @property
    def drawn(self) -> dict[str, list[tuple[int, str]]]:
        """The kinds that have severities: severity and name of each test, the data as they are first."""
        found: dict[str, list[tuple[int, str]]] = {}
        for kind, names in self.kinds.items():
            severities = {name: shift_severity(name)[1] for name in names}
            if all(severity is not None for severity in severities.values()):
                points = sorted((severity or 0, name) for name, severity in severities.items())
                found[kind] = [(0, CLEAN_TEST), *points]
        return found

    @property
    def complete(self) -> dict[str, list[tuple[int, str]]]:
        """The kinds that were tested at all five severities."""
        return {kind: points for kind, points in self.drawn.items() if len(points) == 1 + ALL_SEVERITIES}

    def runs_of(self, method: str) -> list[Run]:
        """The runs of a method."""
        return [run for run in self.runs if run.method == method]

    def title(self, kind: str) -> str:
        """The name of a kind, and whether the radius was learned under it."""
        return gettext("{kind} (in validation)", kind=kind) if kind in self.validated else kind


def shift_numbers(results: Results) -> ShiftNumbers | None:
    """The tests of a trial under shift; None where no run has any."""
    runs = tuple(run for run in results.runs if len(run.shifted) > 1)
    if not runs:
        return None
    scale = metric_scale(results)
    name = metric_name(results.metric)
    label = f"{name}{percent(results)}"
    title = f"{name} (%)" if percent(results) else name
    shared = scale.factor != 1  # a share, which stays within bounds
    quantities = [Quantity("metric", label, title, scale.factor, scale.digits, shared)]
    if any(test.get("calibration_error") is not None for run in runs for test in run.shifted.values()):
        quantities.append(
            Quantity("error", gettext("ECE %"), gettext("expected calibration error (%)"), 100.0, 2, shared=True)
        )
    quantities.append(Quantity("gap", gettext("gap"), gettext("generalization gap"), 1.0, 3, shared=False))
    config = results.config
    given = config.get("learned_shift") or config.get("validation_shift")
    return ShiftNumbers(
        tuple(quantities),
        kinds_of_shifts({name: None for run in runs for name in run.shifted}),
        tuple(dict.fromkeys(run.method for run in runs)),
        runs,
        frozenset(kinds_in(given) if isinstance(given, str) else ()),
    )


def shift_tables(results: Results, found: ShiftNumbers) -> dict[str, TextTable]:
    """The tables of the section: "methods", a row for each, and of each quantity a row for each kind of shift.

    Cells are means over severities and seeds.
    """
    corruption = results.metric == "accuracy"
    columns = [gettext("method")]
    for one in found.quantities:
        columns += [one.label, gettext("{quantity} shifted", quantity=one.label)]
        columns += [gettext("mean corruption error %")] if corruption and one.name == "metric" else []
    rows = [_row(found, method, corruption=corruption) for method in found.methods]
    tables = {"methods": TextTable(tuple(columns), tuple(rows))}
    for one in found.quantities:
        kinds = [
            (gettext("no shift"), [CLEAN_TEST]),
            *((found.title(kind), names) for kind, names in found.kinds.items()),
        ]
        cells = [(printable(title), *_cells(found, one, names)) for title, names in kinds]
        tables[one.name] = TextTable((gettext("shift"), *map(printable, found.methods)), tuple(cells))
    return tables


def _row(found: ShiftNumbers, method: str, *, corruption: bool) -> tuple[str, ...]:
    cells = [printable(method)]
    runs = found.runs_of(method)
    for one in found.quantities:
        shifted = [mean_over_shifts({name: one.of(run, name) for name in run.shifted}) for run in runs]
        clean = [one.of(run, CLEAN_TEST) for run in runs]
        cells += [spread_text(column, one.factor, one.digits) for column in (clean, shifted)]
        if corruption and one.name == "metric":
            cells.append(spread_text([1 - value for value in shifted], one.factor, one.digits))
    return tuple(cells)


def _cells(found: ShiftNumbers, one: Quantity, names: Sequence[str]) -> list[str]:
    means = [
        finite_mean([finite_mean([one.of(run, name) for name in names]) for run in found.runs_of(method)])
        for method in found.methods
    ]
    return [spread_text([mean], one.factor, one.digits) for mean in means]


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)
