"""The figures of a trial, each a matplotlib `Figure` that does not depend on pyplot.

A function returns None where the results hold nothing to draw, such as the radius in a trial of plain SGD; the caller
then shows a sentence in its place. The colours and lines of the methods are in `letsam.reports.styles`.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator, SymmetricalLogLocator

from letsam.languages import N_, gettext
from letsam.reports.drawing import (
    INK,
    add_legend,
    drawable,
    empty_figure,
    epoch_axis,
    finite_points,
    limit_losses,
    limit_metric,
    plain_number,
)
from letsam.reports.metric_text import metric_scale, metric_title
from letsam.reports.styles import method_styles
from letsam.results import Results, Run, printable

__all__ = [
    "figure_title",
    "gap_over_time",
    "hypergradient_over_time",
    "learning_curves",
    "method_comparison",
    "radius_over_time",
]

BANDS = 7  # with more methods than this, the bands would hide the lines

SMALLEST = 1e-100  # a smaller number is drawn as 0, which a logarithmic axis leaves out

_TITLES = {
    "test_loss": N_("Test loss"),
    "train_loss": N_("Training loss"),
    "generalization_gap": N_("Generalization gap"),
    "rho": N_("Perturbation radius \N{GREEK SMALL LETTER RHO} (log scale)"),
    "hypergradient": N_("Hypergradient dU/d\N{GREEK SMALL LETTER RHO} (symmetric log scale)"),
}


def learning_curves(results: Results, metric: str = "test_accuracy", *, legend: bool = True) -> Figure | None:
    """Draw a column of the histories over epochs: the mean over seeds, and a band of one standard deviation.

    Args:
        results: the trial.
        metric: ``"test_accuracy"``, ``"test_loss"``, ``"train_loss"`` or ``"generalization_gap"``.
        legend: whether to draw the legend below the axes.

    Returns:
        The figure, or None if no run has a value that can be drawn.
    """
    scale = metric_scale(results).factor if metric == "test_accuracy" else 1.0
    styles = method_styles(results)
    figure, axes = empty_figure(figure_title(results, metric))
    drawn: list[str] = []
    for method, style in styles.items():
        points = _over_seeds(results.runs_of(method), metric, scale)
        if not points:
            continue
        drawn.append(method)
        epochs, means, spreads = (list(column) for column in zip(*points, strict=True))
        mark = style.marker if len(points) == 1 else None
        axes.plot(
            epochs,
            means,
            style.linestyle,
            color=style.color,
            lw=style.linewidth,
            zorder=style.zorder,
            marker=mark,
        )
        if any(spreads) and (len(styles) <= BANDS or style.learned):
            low = [mean - spread for mean, spread in zip(means, spreads, strict=True)]
            high = [mean + spread for mean, spread in zip(means, spreads, strict=True)]
            axes.fill_between(epochs, low, high, color=style.color, alpha=0.15, lw=0, zorder=1)
    if not drawn:
        return None
    epoch_axis(axes)
    if metric == "generalization_gap":
        axes.axhline(0, color=INK, lw=0.8, alpha=0.5, zorder=1)
    if metric != "test_accuracy":
        limit_losses(axes, results)
    if legend:
        add_legend(figure, drawn, styles)
    return figure


def gap_over_time(results: Results, *, legend: bool = True) -> Figure | None:
    """Draw test loss minus training loss over epochs, see `learning_curves`."""
    return learning_curves(results, "generalization_gap", legend=legend)


def radius_over_time(results: Results, *, legend: bool = True) -> Figure | None:
    """Draw every seed's radius on a log axis; learned radii step by step where the schedule was recorded.

    Returns:
        The figure, or None if no method has a radius.
    """
    styles = method_styles(results)
    figure, axes = empty_figure(figure_title(results, "rho"))
    axes.set_yscale("log")
    drawn: dict[str, None] = {}
    for run in results.runs:
        points = [(epoch, rho) for epoch, rho in radius_points(run) if drawable(rho) and rho >= SMALLEST]
        if not points:
            continue
        drawn[run.method] = None
        style = styles[run.method]
        axes.plot(
            *zip(*points, strict=True),
            linestyle=style.linestyle if style.learned else ":",
            color=style.color,
            lw=1.1 if style.learned else 0.9,
            alpha=0.9 if style.learned else 0.7,
            zorder=style.zorder,
            marker=style.marker if len(points) == 1 else None,
        )
    if not drawn:
        return None
    epoch_axis(axes)
    low, high = axes.get_ylim()
    # Without these limits the axis of a constant radius would be so fine that rounding errors would look like changes.
    axes.set_ylim(min(low, high / 4), max(high, low * 4))
    few = math.log10(axes.get_ylim()[1] / axes.get_ylim()[0]) < 3
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if few else (1.0,)))
    axes.yaxis.set_major_formatter(FuncFormatter(plain_number))
    axes.yaxis.set_minor_locator(NullLocator())
    if legend:
        add_legend(figure, list(drawn), styles)
    return figure


def hypergradient_over_time(results: Results, *, legend: bool = True) -> Figure | None:
    """Draw every seed's hypergradient on a symmetric log axis: linear around zero, logarithmic beyond.

    Returns:
        The figure, or None if no run recorded one.
    """
    styles = method_styles(results)
    figure, axes = empty_figure(figure_title(results, "hypergradient"))
    drawn: dict[str, None] = {}
    sizes: list[float] = []
    for run in results.runs:
        points = list(finite_points(run, "hypergradient"))
        if not points:
            continue
        drawn[run.method] = None
        sizes += [abs(value) for _, value in points if abs(value) >= SMALLEST]
        style = styles[run.method]
        mark = style.marker if len(points) == 1 else None
        axes.plot(
            *zip(*points, strict=True),
            style.linestyle,
            color=style.color,
            lw=1.1,
            alpha=0.9,
            zorder=3,
            marker=mark,
        )
    if not drawn:
        return None
    # Linear below the smaller half of the values, so that their signs can still be read.
    threshold = 10.0 ** math.floor(math.log10(statistics.median(sizes))) if sizes else 1.0
    axes.set_yscale("symlog", linthresh=threshold)
    axes.yaxis.set_major_locator(SymmetricalLogLocator(base=10, linthresh=threshold))
    axes.yaxis.set_major_formatter(FuncFormatter(plain_number))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.axhline(0, color=INK, lw=0.8, alpha=0.5, zorder=1)
    epoch_axis(axes)
    if legend:
        add_legend(figure, list(drawn), styles)
    return figure


def method_comparison(results: Results, metric: str = "test_accuracy") -> Figure | None:
    """Draw one row of dots for each method, a dot for each seed and a bar at the mean; the best mean on top.

    Args:
        results: the trial.
        metric: a number of `Run`: ``"test_accuracy"``, ``"test_loss"``, ``"train_loss"`` or
            ``"generalization_gap"``.

    Returns:
        The figure, or None if no run has a value that can be drawn.
    """
    scale = metric_scale(results).factor if metric == "test_accuracy" else 1.0
    styles = method_styles(results)
    values = {m: [scale * float(getattr(run, metric)) for run in results.runs_of(m)] for m in results.methods}
    if not any(drawable(value) for row in values.values() for value in row):
        return None
    sign = 1 if metric == "test_accuracy" and not results.lower_is_better else -1
    # Worst first, because the vertical axis grows upwards; diverged methods count as worst.
    order = sorted(values, key=lambda m: _ranked(values[m], sign))
    figure, axes = empty_figure(figure_title(results, metric), height=0.75 + 0.29 * max(len(order), 3))
    for row, method in enumerate(order):
        style = styles[method]
        finite = [value for value in values[method] if drawable(value)]
        axes.plot(finite, [row] * len(finite), style.marker, color=style.color, ms=5.5, alpha=0.55, mew=0, zorder=3)
        if len(finite) == len(values[method]):
            mean = statistics.fmean(finite)
            axes.plot([mean, mean], [row - 0.32, row + 0.32], color=style.color, lw=2.6, zorder=4)
        else:
            axes.annotate(
                f" {gettext('diverged')}",
                (0, row),
                xycoords=("axes fraction", "data"),
                va="center",
                fontsize=8,
                color=INK,
                alpha=0.7,
            )
    axes.set_yticks(range(len(order)), labels=[printable(method) for method in order])
    for method, label in zip(order, axes.get_yticklabels(), strict=True):
        label.set_fontweight("bold" if styles[method].learned else "normal")
    axes.set_ylim(-0.6, len(order) - 0.4)
    axes.grid(visible=True, axis="both", color=INK, alpha=0.12, lw=0.6)
    axes.xaxis.set_major_locator(MaxNLocator(6))
    if metric == "test_accuracy":
        limit_metric(axes, order, values, sign)
    else:
        limit_losses(axes, results, horizontal=True)
    return figure


def _over_seeds(runs: Sequence[Run], metric: str, scale: float) -> list[tuple[float, float, float]]:
    """Epoch, mean and sample standard deviation, for each epoch at which every seed has a finite value.

    The line of a method ends where the first of its seeds diverges: the mean of the other seeds would look too good.
    """
    columns = [dict(finite_points(run, metric)) for run in runs]
    shared = set.intersection(*(set(column) for column in columns)) if columns else set[float]()
    points: list[tuple[float, float, float]] = []
    for epoch in sorted(shared):
        values = [scale * column[epoch] for column in columns]
        points.append((epoch, statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0.0))
    return points


def radius_points(run: Run) -> Iterable[tuple[float, float]]:
    schedule = run.mean_radii
    last = max((epoch for epoch in run.history.get("epoch", ()) if epoch is not None), default=0.0)
    if not schedule or not last:
        return finite_points(run, "rho")
    # Some 200 points show all that a column of the page can; the last step is always one of them.
    stride = max(1, len(schedule) // 200)
    steps = sorted({*range(0, len(schedule), stride), len(schedule) - 1})
    return [(last * (step + 1) / len(schedule), schedule[step]) for step in steps]


def _ranked(values: Sequence[float], sign: int) -> float:
    return sign * statistics.fmean(values) if all(map(drawable, values)) else -math.inf


def figure_title(results: Results, metric: str) -> str:
    """The title of a figure of a column of the histories, or of a number of `Run`."""
    if metric != "test_accuracy":
        return gettext(_TITLES[metric])
    title = metric_title(results, "(%)")
    return title[0].upper() + title[1:]
