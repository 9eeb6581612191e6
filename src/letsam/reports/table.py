"""The table of a trial: one row for each method, averaged over its seeds."""

from __future__ import annotations

import math
from dataclasses import dataclass

from rich import box
from rich.table import Table
from rich.text import Text

from letsam.languages import gettext
from letsam.reports.metric_text import (
    NOTHING,
    MetricScale,
    metric_name,
    metric_scale,
    metric_title,
    number_text,
    value_scale,
)
from letsam.results import Results, Summary, printable, summarize

__all__ = [
    "TableRow",
    "best_method",
    "columns",
    "further_metrics",
    "further_table",
    "markdown_table",
    "results_table",
    "table_rows",
]

SHOWN_FROM = 0.01
"""The fraction of steps from which on the table says that they were skipped; a few are usual in float16."""


@dataclass(frozen=True)
class TableRow:
    """The cells of one method as text, for any output format.

    Args:
        method: the method's name.
        cells: one text for each of `columns`.
        best: whether the method has the best mean of the metric on the test set.
        learned: whether its radius is learned.
    """

    method: str
    cells: tuple[str, ...]
    best: bool
    learned: bool


def columns(results: Results) -> tuple[str, ...]:
    """Return the headings; the columns below all but the first hold numbers."""
    return (
        gettext("method"),
        printable(metric_title(results)),
        gettext("test loss"),
        gettext("gap"),
        gettext("rho initial → final"),
        *map(printable, _searched(results)),
        gettext("gradient passes"),
        gettext("seconds"),
    )


def table_rows(results: Results) -> tuple[TableRow, ...]:
    """Return the rows in order of the methods' first appearance."""
    summaries = summarize(results)
    best = best_method(summaries)
    most = max((row.count for row in summaries), default=0)
    scale, searched = metric_scale(results), _searched(results)
    cells = {row.method: _cells(row, most, scale, _found(results, row.method, searched)) for row in summaries}
    return tuple(TableRow(row.method, cells[row.method], row.method == best, row.learned) for row in summaries)


def _searched(results: Results) -> tuple[str, ...]:
    """The names of what a search has chosen for the base optimizer of each method."""
    return tuple(dict.fromkeys(name for run in results.runs for name in run.hyperparameters))


def _found(results: Results, method: str, names: tuple[str, ...]) -> tuple[str, ...]:
    """Their values, the same for all seeds of a method."""
    values = results.runs_of(method)[0].hyperparameters
    return tuple(f"{values[name]:.3g}" if name in values else NOTHING for name in names)


def best_method(summaries: tuple[Summary, ...]) -> str | None:
    """Return the method with the best mean of the metric, the first of equal ones; None if all diverged.

    A method of which a run has diverged is never the best, even if its metric is finite, as the accuracy is.
    """
    finite = [row for row in summaries if not row.diverged and math.isfinite(row.test_accuracy)]
    if not finite:
        return None
    return max(finite, key=lambda row: -row.test_accuracy if row.lower_is_better else row.test_accuracy).method


def results_table(results: Results) -> Table:
    """Return the table for the terminal; the row with the best metric is bold."""
    title = Text(printable(f"{results.title}: means over seeds"), style="bold")
    table = Table(
        title=title,
        title_justify="left",
        caption=_best_fixed(results),
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        padding=(0, 1, 0, 0),
    )
    for index, heading in enumerate(columns(results)):
        # Two lines of heading keep the table within the 80 columns of a plain terminal.
        heading = heading.replace(" →", "\n→").replace("test ", "test\n").replace("gradient ", "gradient\n")
        table.add_column(heading, justify="right" if index else "left", no_wrap=index > 0)
    for row in table_rows(results):
        # Text, not str: rich would take square brackets in a name for markup.
        table.add_row(*map(Text, row.cells), style="bold" if row.best else None)
    return table


def _best_fixed(results: Results) -> Text | None:
    """Which of several fixed radii is the best one; None where there is no choice."""
    fixed = tuple(row for row in summarize(results) if row.fixed)
    best = best_method(fixed) if len(fixed) > 1 else None
    return None if best is None else Text(printable(f"best of {len(fixed)} fixed radii: {best}"))


def markdown_table(results: Results) -> str:
    """Return the same table in GitHub's Markdown; the row with the best metric is bold."""
    headings = columns(results)
    lines = [" | ".join(headings), " | ".join("---:" if index else "---" for index in range(len(headings)))]
    for row in table_rows(results):
        cells = [cell.replace("|", r"\|") for cell in row.cells]
        lines.append(" | ".join(f"**{cell}**" if row.best else cell for cell in cells))
    return "".join(f"| {line} |\n" for line in lines)


def _cells(row: Summary, most: int, scale: MetricScale, found: tuple[str, ...]) -> tuple[str, ...]:
    method = row.method
    if row.count != most:
        method = gettext("{method} ({count}/{most} seeds)", method=method, count=row.count, most=most)
    return (
        printable(method),
        _metric(row, scale),
        number_text(row.test_loss, ".3f"),
        number_text(row.generalization_gap, ".3f"),
        _radius(row),
        *found,
        number_text(row.gradient_passes, ",.0f"),
        number_text(row.seconds, ".1f"),
    )


def _metric(row: Summary, scale: MetricScale) -> str:
    if not math.isfinite(row.test_accuracy):
        return gettext("diverged")
    text = scale.text(row.test_accuracy)
    if row.count > 1:
        text += f" ± {scale.text(row.test_accuracy_std)}"
    if row.skipped_steps and row.skipped_steps >= SHOWN_FROM * row.steps:
        share = f"{100 * row.skipped_steps / max(row.steps, row.skipped_steps):.0f}"
        text = gettext("{value} ({share} % skipped)", value=text, share=share)
    if row.diverged:
        text = gettext("{value} ({count} diverged)", value=text, count=row.diverged)
    return text


def further_metrics(results: Results) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    """The metrics beside the main one.

    Returns:
        The headings, of which the first is "method", and the cells of each method; both empty where there are none.
    """
    summaries = summarize(results)
    names = [name for name in dict.fromkeys(n for row in summaries for n in row.metrics) if name != results.metric]
    if not names:
        return (), ()
    scales = {name: value_scale(name, [abs(run.metrics.get(name, math.nan)) for run in results.runs]) for name in names}
    cells = [(printable(row.method), *(_mean_text(row, name, scales[name]) for name in names)) for row in summaries]
    headings = (f"{metric_name(name)}{scales[name].unit}" for name in names)
    return (gettext("method"), *map(printable, headings)), tuple(cells)


def further_table(results: Results) -> Table | None:
    """Return the table of the metrics beside the main one for the terminal; None where there are none."""
    headings, rows = further_metrics(results)
    if not headings:
        return None
    table = Table(
        title=Text("further metrics", style="bold"), title_justify="left", box=box.SIMPLE_HEAD, show_edge=False
    )
    for index, heading in enumerate(headings):
        table.add_column(Text(heading), justify="right" if index else "left")
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def _mean_text(row: Summary, name: str, scale: MetricScale) -> str:
    mean, spread = row.metrics.get(name, (math.nan, math.nan))
    if not math.isfinite(mean):
        return NOTHING  # not defined, as the AUROC of a test set of one class
    return scale.text(mean) + (f" ± {scale.text(spread)}" if row.count > 1 else "")


def _radius(row: Summary) -> str:
    if row.rho_initial is None or row.rho_final is None:
        return NOTHING
    initial, final = f"{row.rho_initial:.3g}", f"{row.rho_final:.3g}"
    # A learned radius that ended where it began is shown as a pair as well: that is a result.
    return initial if initial == final and not row.learned else f"{initial} → {final}"
