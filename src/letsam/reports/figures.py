"""The figures of a trial, each a free-standing matplotlib `Figure`.

Built on the object API (`matplotlib.figure.Figure`): no pyplot, no display, no global state. A function
returns None where the results hold nothing to draw, such as the radius of a trial of plain SGD; the caller says
so in words.

How a method looks is told in `letsam.reports.styles`.
"""

from __future__ import annotations

import io
import math
import re
import statistics
from collections.abc import Iterable, Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import (
    FuncFormatter,
    LogLocator,
    MaxNLocator,
    NullFormatter,
    NullLocator,
    SymmetricalLogLocator,
)

from letsam.reports.metric import metric_title
from letsam.reports.styles import MethodStyle, method_styles
from letsam.results import Results, Run, is_learned

__all__ = [
    "figure_to_svg",
    "gap_over_time",
    "hypergradient_over_time",
    "learning_curves",
    "method_comparison",
    "radius_over_time",
]

INK = "#010203"
"""Text and axes. Nothing else has this colour, so `figure_to_svg` can put the page's text colour there."""

WIDTH = 5.4  # inches: one column of the page, or the full width of a phone
BANDS = 7  # with more methods than this, bands of all of them would hide the lines

_TITLES = {
    "test_loss": "Test loss",
    "train_loss": "Training loss",
    "generalization_gap": "Generalization gap",
}


def learning_curves(results: Results, metric: str = "test_accuracy", *, legend: bool = True) -> Figure | None:
    """Draw a column of the histories over epochs: the mean over seeds, and a band of one standard deviation.

    Args:
        results: the trial.
        metric: ``"test_accuracy"``, ``"test_loss"``, ``"train_loss"`` or ``"generalization_gap"``.
        legend: whether to draw the legend below the axes.

    Returns:
        The figure, or None if no run has a finite value to draw.
    """
    scale = 100.0 if metric == "test_accuracy" else 1.0
    styles = method_styles(results)
    figure, axes = _blank(_title(results, metric))
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
        if any(spreads) and (len(styles) <= BANDS or is_learned(method)):
            low = [mean - spread for mean, spread in zip(means, spreads, strict=True)]
            high = [mean + spread for mean, spread in zip(means, spreads, strict=True)]
            axes.fill_between(epochs, low, high, color=style.color, alpha=0.15, lw=0, zorder=1)
    if not drawn:
        return None
    _epochs(axes)
    if metric == "generalization_gap":
        axes.axhline(0, color=INK, lw=0.8, alpha=0.5, zorder=1)
    if scale == 1.0:
        _cut_off(axes, results)
    if legend:
        _legend(figure, drawn, styles)
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
    figure, axes = _blank("Perturbation radius \N{GREEK SMALL LETTER RHO} (log scale)")
    axes.set_yscale("log")
    drawn: dict[str, None] = {}
    for run in results.runs:
        points = [(epoch, rho) for epoch, rho in _radius_points(run) if math.isfinite(rho) and rho > 0]
        if not points:
            continue
        drawn[run.method] = None
        learned, style = is_learned(run.method), styles[run.method]
        axes.plot(
            *zip(*points, strict=True),
            linestyle=style.linestyle if learned else ":",
            color=style.color,
            lw=1.1 if learned else 0.9,
            alpha=0.9 if learned else 0.7,
            zorder=style.zorder,
            marker=style.marker if len(points) == 1 else None,
        )
    if not drawn:
        return None
    _epochs(axes)
    low, high = axes.get_ylim()
    # A flat line would otherwise get a scale of thousandths, and look like a change.
    axes.set_ylim(min(low, high / 4), max(high, low * 4))
    few = math.log10(axes.get_ylim()[1] / axes.get_ylim()[0]) < 3
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if few else (1.0,)))
    axes.yaxis.set_major_formatter(FuncFormatter(_plain))
    axes.yaxis.set_minor_locator(NullLocator())
    if legend:
        _legend(figure, list(drawn), styles)
    return figure


def hypergradient_over_time(results: Results, *, legend: bool = True) -> Figure | None:
    """Draw every seed's hypergradient on a symmetric log axis: linear around zero, logarithmic beyond.

    Returns:
        The figure, or None if no run recorded one.
    """
    styles = method_styles(results)
    figure, axes = _blank("Hypergradient dU/d\N{GREEK SMALL LETTER RHO} (symmetric log scale)")
    drawn: dict[str, None] = {}
    sizes: list[float] = []
    for run in results.runs:
        points = list(_finite_points(run, "hypergradient"))
        if not points:
            continue
        drawn[run.method] = None
        sizes += [abs(value) for _, value in points if value]
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
    axes.yaxis.set_major_formatter(FuncFormatter(_plain))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.axhline(0, color=INK, lw=0.8, alpha=0.5, zorder=1)
    _epochs(axes)
    if legend:
        _legend(figure, list(drawn), styles)
    return figure


def method_comparison(results: Results, metric: str = "test_accuracy") -> Figure | None:
    """Draw one row of dots for each method, a dot for each seed and a bar at the mean; the best mean on top.

    Args:
        results: the trial.
        metric: a number of `Run`: ``"test_accuracy"``, ``"test_loss"``, ``"train_loss"`` or
            ``"generalization_gap"``.

    Returns:
        The figure, or None if no run has a finite value.
    """
    scale = 100.0 if metric == "test_accuracy" else 1.0
    styles = method_styles(results)
    values = {m: [scale * float(getattr(run, metric)) for run in results.runs_of(m)] for m in results.methods}
    if not any(math.isfinite(value) for row in values.values() for value in row):
        return None
    sign = 1 if metric == "test_accuracy" else -1
    # Worst first, because the vertical axis grows upwards; diverged methods count as worst.
    order = sorted(values, key=lambda m: _ranked(values[m], sign))
    figure, axes = _blank(_title(results, metric), height=0.75 + 0.29 * max(len(order), 3))
    for row, method in enumerate(order):
        style = styles[method]
        finite = [value for value in values[method] if math.isfinite(value)]
        axes.plot(finite, [row] * len(finite), style.marker, color=style.color, ms=5.5, alpha=0.55, mew=0, zorder=3)
        if len(finite) == len(values[method]):
            mean = statistics.fmean(finite)
            axes.plot([mean, mean], [row - 0.32, row + 0.32], color=style.color, lw=2.6, zorder=4)
        else:
            axes.annotate(
                " diverged",
                (0, row),
                xycoords=("axes fraction", "data"),
                va="center",
                fontsize=8,
                color=INK,
                alpha=0.7,
            )
    axes.set_yticks(range(len(order)), labels=order)
    for method, label in zip(order, axes.get_yticklabels(), strict=True):
        label.set_fontweight("bold" if is_learned(method) else "normal")
    axes.set_ylim(-0.6, len(order) - 0.4)
    axes.grid(visible=True, axis="both", color=INK, alpha=0.12, lw=0.6)
    axes.xaxis.set_major_locator(MaxNLocator(6))
    if metric == "test_accuracy":
        _cut_failed(axes, order, values)
    else:
        _cut_off(axes, results, horizontal=True)
    return figure


def figure_to_svg(figure: Figure, prefix: str) -> str:
    """Return the figure as an ``<svg>`` element that fits into an HTML page.

    It has no fixed size, takes the page's text colour for its own, and loads nothing.

    Args:
        figure: the figure.
        prefix: what its ids start with; different for each figure of a page, as ids are global to the page.
    """
    buffer = io.StringIO()
    # Text stays text: smaller, searchable, and readable to a screen reader. The salt makes ids reproducible.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": prefix}):
        figure.savefig(buffer, format="svg", facecolor="none", metadata={"Date": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(<svg\b[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg\b[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'\bid="', f'id="{prefix}-', svg)
    svg = re.sub(r"url\(#", f"url(#{prefix}-", svg)
    svg = re.sub(r'href="#', f'href="#{prefix}-', svg)
    return svg.replace(INK, "currentColor")


# --- what to draw ------------------------------------------------------------------------------------------


def _over_seeds(runs: Sequence[Run], metric: str, scale: float) -> list[tuple[float, float, float]]:
    """Epoch, mean and sample standard deviation, for each epoch at which every seed has a finite value.

    The line of a method ends where the first of its seeds diverges: a mean of the survivors would flatter it.
    """
    columns = [dict(_finite_points(run, metric)) for run in runs]
    shared = set.intersection(*(set(column) for column in columns)) if columns else set[float]()
    points: list[tuple[float, float, float]] = []
    for epoch in sorted(shared):
        values = [scale * column[epoch] for column in columns]
        points.append((epoch, statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0.0))
    return points


def _finite_points(run: Run, column: str) -> Iterable[tuple[float, float]]:
    epochs, values = run.history.get("epoch", ()), run.history.get(column, ())
    for epoch, value in zip(epochs, values, strict=True):
        if epoch is not None and value is not None and math.isfinite(value):
            yield float(epoch), float(value)


def _radius_points(run: Run) -> Iterable[tuple[float, float]]:
    schedule = run.mean_radii
    last = max((epoch for epoch in run.history.get("epoch", ()) if epoch is not None), default=0.0)
    if not schedule or not last:
        return _finite_points(run, "rho")
    # Some 200 points show all that a column of the page can; the last step is always one of them.
    stride = max(1, len(schedule) // 200)
    steps = sorted({*range(0, len(schedule), stride), len(schedule) - 1})
    return [(last * (step + 1) / len(schedule), schedule[step]) for step in steps]


def _ranked(values: Sequence[float], sign: int) -> float:
    return sign * statistics.fmean(values) if all(map(math.isfinite, values)) else -math.inf


def _title(results: Results, metric: str) -> str:
    if metric != "test_accuracy":
        return _TITLES[metric]
    title = metric_title(results, "(%)")
    return title[0].upper() + title[1:]


# --- how to draw it ----------------------------------------------------------------------------------------


def _blank(title: str, height: float = 3.3) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    axes = figure.add_subplot()
    axes.set_facecolor("none")
    axes.set_title(title, loc="left", fontsize=10, color=INK)
    axes.grid(visible=True, color=INK, alpha=0.12, lw=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(which="both", colors=INK, labelsize=9, length=0)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(INK)
        spine.set_alpha(0.4)
    return figure, axes


def _epochs(axes: Axes) -> None:
    axes.set_xlabel("epoch", fontsize=9, color=INK)
    axes.xaxis.set_major_locator(MaxNLocator(7, integer=True))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _cut_failed(axes: Axes, order: Sequence[str], values: Mapping[str, Sequence[float]]) -> None:
    """Keep a method that learned nothing from squeezing the others together; its mean stands at the edge."""
    means = sorted(fmean for row in values.values() if math.isfinite(fmean := statistics.fmean(row)))
    if len(means) < 4:
        return
    quarter, best = means[len(means) // 4], means[-1]
    edge = quarter - 2 * (best - quarter) - 1
    if edge <= min(value for row in values.values() for value in row if math.isfinite(value)):
        return
    axes.set_xlim(edge, axes.get_xlim()[1])
    for row, method in enumerate(order):
        mean = statistics.fmean(values[method])
        if mean < edge:
            text = f" \N{LEFTWARDS ARROW} mean {mean:.1f}"
            place = ("axes fraction", "data")
            axes.annotate(text, (0, row), xycoords=place, va="center", fontsize=8, color=INK, alpha=0.7)
    _note_cut(axes)


def _note_cut(axes: Axes) -> None:
    note = "values beyond the edge are cut off"
    axes.annotate(note, (1, 1), (0, 4), "axes fraction", "offset points", ha="right", fontsize=7.5, color=INK)


def _cut_off(axes: Axes, results: Results, *, horizontal: bool = False) -> None:
    """Keep a run that exploded from flattening all others into one line, and say that it was cut off.

    Losses and gaps beyond four times the typical run's largest test loss carry no detail worth the space.
    """
    peaks = [max((abs(loss) for _, loss in _finite_points(run, "test_loss")), default=math.nan) for run in results.runs]
    finite = [peak for peak in peaks if math.isfinite(peak)]
    limit = 4 * statistics.median(finite) if finite else math.inf
    columns = (np.asarray(line.get_xdata() if horizontal else line.get_ydata()) for line in axes.lines)
    values = [float(value) for column in columns for value in column]
    inside = [value for value in values if abs(value) <= limit]
    if not inside or len(inside) == len(values):
        return
    pad = 0.05 * (max(inside) - min(inside)) or 1.0
    edges = (min(inside) - pad, max(inside) + pad)
    (axes.set_xlim if horizontal else axes.set_ylim)(*edges)
    _note_cut(axes)


def _plain(value: float, _position: int | None = None) -> str:
    return f"{value:g}".replace("-", "\N{MINUS SIGN}")


def _legend(figure: Figure, methods: Sequence[str], styles: dict[str, MethodStyle]) -> None:
    handles = [
        Line2D(
            [],
            [],
            color=styles[m].color,
            linestyle=styles[m].linestyle,
            linewidth=styles[m].linewidth,
            label=m,
        )
        for m in methods
    ]
    columns = min(4, len(handles))
    rows = math.ceil(len(handles) / columns)
    figure.set_figheight(figure.get_figheight() + 0.2 * rows)
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=columns,
        fontsize=8,
        frameon=False,
        labelcolor=INK,
        handlelength=2.4,
    )
