"""``watch.html``: the state of a watch, its numbers over the batches and its records, in a file that loads nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from letsam import reports
from letsam.operation.estimates import Estimate
from letsam.operation.watch_figures import WatchedNumber, number_figure, watched_numbers
from letsam.operation.watch_record import WatchRecord, inputs_changed
from letsam.reports.drawing import figure_to_svg
from letsam.results import printable, write_atomically

if TYPE_CHECKING:
    from letsam.model_folder import LoadedModel

PAGE = "watch.html"
EXPECTED = "expected_accuracy"
MOST_ROWS = 200  # records in the table
SAMPLING = " The intervals are for the number of samples alone."
EARLIER = 10  # earlier records with alarms that the state names
CSS = Path(reports.__file__).parent / "page.css"


@dataclass(frozen=True)
class NumberRow:
    """A row of the table of a batch.

    Args:
        name: of the number.
        value: the number.
        interval: its ends.
        expected: the number of held-out data.
        limit: the worst that they allow.
        test: the result of its test.
        alarm: whether that is an alarm.
    """

    name: str
    value: str
    interval: str
    expected: str
    limit: str
    test: str
    alarm: bool


def write_watch_page(records: Sequence[WatchRecord], model: LoadedModel, out: Path) -> None:
    """Write the page of a watch, in one atomic step.

    Args:
        records: at least one.
        model: the model.
        out: the folder of the watch.
    """
    facts = {"task": model.config["task"], "method": model.config["method"], "model": model.fingerprint[:12]}
    write_atomically(out / PAGE, render_watch_page(records, facts))


def render_watch_page(records: Sequence[WatchRecord], facts: Mapping[str, str]) -> str:
    """The page as HTML; the same records always give the same page.

    Args:
        records: at least one.
        facts: of the model; "task" is the title.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    last = records[-1]
    numbers = watched_numbers(records)
    alarmed = sum(record.alarmed for record in records)
    shown = list(reversed(records[-MOST_ROWS:]))
    columns = [number.name for number in numbers]
    features = last.tests.get("feature_drift", {}).get("features", {})
    page = environment.get_template("watch.html.j2").render(
        css=Markup(CSS.read_text(encoding="utf-8")),
        task=facts["task"],
        facts=[
            *((name, value) for name, value in facts.items() if name != "task"),
            ("batches", f"{len(records):,}"),
            ("with alarms", f"{alarmed:,}"),
            ("last", _time(last)),
        ],
        contents=[
            ("last", "Last batch"),
            ("course", "Over the batches"),
            ("records", "Records"),
            ("definitions", "Definitions"),
        ],
        headline=headline_of(last),
        last=last,
        about_last=f"Batch {last.batch}, {last.data['name']}: {last.data['samples']:,} samples, {_labels(last)}.",
        rows=number_rows(last),
        features=[(name, f"{one['distance']:.3f}", f"{one['p']:.1g}") for name, one in features.items()],
        panels=[panel for number in numbers if (panel := _panel(number)) is not None],
        about_records=f"The last {len(shown):,} of {len(records):,} records of watch.jsonl.",
        earlier=[one for one in reversed(records[:-1]) if one.alarmed][:EARLIER],
        columns=["batch", "alarms", "time", "data", "samples", "labels", *(name.replace("_", " ") for name in columns)],
        records=[
            {"batch": one.batch, "cells": _cells(one, columns), "alarms": ", ".join(alarm.code for alarm in one.alarms)}
            for one in shown
        ],
        rate=f"{100 * last.state['rate']:g} %",
    )
    return printable(page, page=True)


def headline_of(record: WatchRecord) -> str:
    """The state of a watch in a few words."""
    if not record.alarms:
        return f"No alarm in batch {record.batch}"
    count = len(record.alarms)
    return f"{count} alarm{'s' if count > 1 else ''} in batch {record.batch}"


def number_rows(record: WatchRecord) -> list[NumberRow]:
    """The numbers of a batch with their tests, as texts."""
    alarms = {alarm.code for alarm in record.alarms}
    rows: list[NumberRow] = []
    for name, value in record.metrics.items():
        test = record.tests.get(name, {})
        expected, limit = (f"{test[key]:.3g}" if key in test else "" for key in ("expected", "limit"))
        interval = f"{value.low:.3g} to {value.high:.3g}"
        if name == EXPECTED and inputs_changed(record.alarms):
            interval = "not valid here"
        row = NumberRow(
            name.replace("_", " "), f"{value.value:.3g}", interval, expected, limit, _test(test), name in alarms
        )
        rows.append(row)
    return rows


def _test(test: Mapping[str, Any]) -> str:
    if "evidence" in test:
        return f"evidence {test['evidence']:.3g}, alarm from {test['threshold']:.3g}"
    if "level" in test:
        return f"p = {test['p']:.2g}, alarm up to {test['level']:.1g}"
    return "not tested"


def _panel(number: WatchedNumber) -> Mapping[str, Any] | None:
    figure = number_figure(number)
    if figure is None:
        return None
    last = number.records[-1].metrics[number.name]
    alarms = sum(any(alarm.code == number.name for alarm in record.alarms) for record in number.records)
    return {
        "name": number.name,
        "title": number.title,
        "description": f"{number.title}: {_number(last)} in the last of {len(number.records)} batches",
        "caption": f"Last: {_number(last)}. Alarms: {alarms}." + (SAMPLING if number.name == EXPECTED else ""),
        "svg": Markup(figure_to_svg(figure, f"watch-{number.name}")),
    }


def _cells(record: WatchRecord, columns: Sequence[str]) -> list[str]:
    values = [f"{record.metrics[name].value:.3g}" if name in record.metrics else "" for name in columns]
    data = record.data
    return [_time(record), str(data["name"]), f"{data['samples']:,}", f"{data.get('labels', 0):,}", *values]


def _time(record: WatchRecord) -> str:
    """In UTC, to the second."""
    return record.time[:19].replace("T", " ") + " UTC"


def _number(one: Estimate) -> str:
    return f"{one.value:.3g} ({one.low:.3g} to {one.high:.3g})"


def _labels(record: WatchRecord) -> str:
    count = record.data.get("labels", 0)
    return f"{count:,} of them with labels" if record.labelled else "without labels"
