"""The figures of the page of a watch: a number of all batches, with its interval, its limit and the alarms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from letsam.operation.watch_record import WatchRecord
from letsam.reports.drawing import INK, drawable, empty_figure

BLUE, ORANGE = "#2b8fd6", "#e0600d"

TITLES = {
    "drift_auc": "Drift of the inputs (AUC)",
    "feature_drift": "Drift of the most changed feature",
    "embedding_distance": "Drift of the embeddings (energy coefficient)",
    "expected_accuracy": "Expected accuracy",
    "loss": "Loss",
    "generalization_gap": "Generalization gap",
    "sharpness": "Sharpness",
}


@dataclass(frozen=True)
class WatchedNumber:
    """A number of the batches that have it.

    Args:
        name: as in the records.
        title: of its figure.
        records: the batches.
    """

    name: str
    title: str
    records: tuple[WatchRecord, ...]


def watched_numbers(records: Sequence[WatchRecord]) -> list[WatchedNumber]:
    """All numbers that a batch has, those of drift first."""
    names = dict.fromkeys(name for record in records for name in record.metrics)
    order = [name for name in TITLES if name in names]
    others = [name for name in names if name not in TITLES]
    place = order.index("loss") if "loss" in order else len(order)
    found: list[WatchedNumber] = []
    for name in (*order[:place], *others, *order[place:]):
        title = TITLES.get(name, name.replace("_", " "))
        having = tuple(record for record in records if name in record.metrics)
        found.append(WatchedNumber(name, title[0].upper() + title[1:], having))
    return found


def number_figure(number: WatchedNumber) -> Figure | None:
    """Draw a number over the batches.

    Returns:
        The figure, or None where no value can be drawn.
    """
    rows = [(r, r.metrics[number.name]) for r in number.records]
    rows = [(r, one) for r, one in rows if all(map(drawable, (one.value, one.low, one.high)))]
    if not rows:
        return None
    figure, axes = empty_figure(number.title, height=2.7)
    batches = [record.batch for record, _ in rows]
    axes.plot(batches, [one.value for _, one in rows], color=BLUE, lw=1.2, zorder=2)
    for alarmed in (False, True):
        part = [(r.batch, one) for r, one in rows if any(alarm.code == number.name for alarm in r.alarms) == alarmed]
        axes.errorbar(
            [batch for batch, _ in part],
            [one.value for _, one in part],
            yerr=[[one.value - one.low for _, one in part], [one.high - one.value for _, one in part]],
            fmt="D" if alarmed else "o",
            ms=6 if alarmed else 4,
            color=ORANGE if alarmed else BLUE,
            lw=1.0,
            capsize=2,
            zorder=4 if alarmed else 3,
        )
    test = rows[-1][0].tests.get(number.name, {})
    for key, style in (("expected", ":"), ("limit", "--")):
        if isinstance(test.get(key), int | float) and drawable(test[key]):
            axes.axhline(test[key], color=INK, ls=style, lw=1.0, alpha=0.7, zorder=1)
    axes.set_xlabel("batch", fontsize=9, color=INK)
    axes.xaxis.set_major_locator(MaxNLocator(7, integer=True, min_n_ticks=1))
    axes.set_xlim(batches[0] - 0.5, batches[-1] + 0.5)
    return figure
