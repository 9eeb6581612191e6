"""The last numbers of a watch in the text format of Prometheus, for the textfile collector of its node exporter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

from letsam.operation.watch_record import WatchRecord, read_watch
from letsam.results import write_atomically

PREFIX = "letsam_watch"

Sample = tuple[Mapping[str, str], float]
"""The labels and the value of a metric."""


class PrometheusFile:
    """A callback of `Watch` that writes its numbers to a file, in one atomic step.

    Args:
        path: of the file; the textfile collector reads files with the suffix ``.prom``.
        out: the folder of the watch.
        task: the value of the label ``task`` of all metrics.

    Reference:
        Prometheus documentation, "Exposition formats", text format 0.0.4.
    """

    def __init__(self, path: str | Path, out: str | Path, task: str) -> None:
        self.path, self.out, self.task = Path(path), Path(out), task

    def __call__(self, record: WatchRecord) -> None:
        """Write the numbers."""
        write_atomically(self.path, prometheus_text(read_watch(self.out), self.task))


def prometheus_text(records: Sequence[WatchRecord], task: str) -> str:
    """The last value of each number, with its interval and its batch, and for each test whether it was an alarm then.

    Args:
        records: of a watch, at least one.
        task: its name.

    Example:
        >>> record = WatchRecord("2030-01-01T00:00:00+00:00", "f00", {"name": "may.csv", "samples": 9}, False, 1)
        >>> print(prometheus_text([record], "churn").splitlines()[2])
        letsam_watch_batch{task="churn",model="f00"} 1.0
    """
    last = records[-1]
    labels = {"task": task, "model": last.model[:12]}
    families: dict[str, tuple[str, list[Sample]]] = {
        "batch": ("Number of the last batch.", [(labels, last.batch)]),
        "samples": ("Samples of the last batch.", [(labels, last.data["samples"])]),
        "labels": ("Labels of the last batch.", [(labels, last.data.get("labels", 0))]),
        "time_seconds": ("When the last batch was watched.", [(labels, datetime.fromisoformat(last.time).timestamp())]),
        "alarms": ("Alarms of the last batch.", [(labels, len(last.alarms))]),
    }
    newest = {name: record for record in records for name in record.metrics}
    of_number = {name: {**labels, "name": name} for name in newest}
    for end, text in (("value", "A number"), ("low", "Lower end of a number"), ("high", "Upper end of a number")):
        rows: list[Sample] = [(of_number[name], getattr(one.metrics[name], end)) for name, one in newest.items()]
        families[end] = (f"{text}, of the last batch that has it.", rows)
    families["value_batch"] = ("The batch of a number.", [(of_number[name], one.batch) for name, one in newest.items()])
    alarms: dict[str, bool] = {}
    for record in records:
        codes = {alarm.code for alarm in record.alarms}
        alarms |= {code: code in codes for code in [*record.tests, *codes]}
    rows = [({**labels, "code": code}, alarm) for code, alarm in alarms.items()]
    families["alarm"] = ("Whether a test was an alarm in the last batch that has it.", rows)
    lines: list[str] = []
    for name, (text, rows) in families.items():
        if rows:
            lines += [f"# HELP {PREFIX}_{name} {text}", f"# TYPE {PREFIX}_{name} gauge"]
            lines += [f"{PREFIX}_{name}{{{_labels(given)}}} {float(value)!r}" for given, value in rows]
    return "\n".join(lines) + "\n"


def _labels(given: Mapping[str, str]) -> str:
    return ",".join(f'{name}="{_escaped(value)}"' for name, value in given.items())


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
