"""What all figures share: empty axes, their limits, the legend, and the conversion to SVG.

It uses matplotlib's objects alone: no pyplot, no display, no global state.
"""

from __future__ import annotations

import io
import math
import re
import statistics
import warnings
from collections.abc import Iterable, Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text
from matplotlib.ticker import MaxNLocator, NullFormatter

from letsam.languages import gettext
from letsam.reports.styles import MethodStyle
from letsam.results import Results, Run, printable

__all__ = [
    "INK",
    "add_legend",
    "drawable",
    "empty_figure",
    "epoch_axis",
    "figure_to_svg",
    "finite_points",
    "limit_losses",
    "limit_metric",
    "loss_limit",
    "plain_number",
]

INK = "#010203"
"""The colour of text and axes. Nothing else has it: `figure_to_svg` replaces it by the text colour of the page."""

WIDTH = 5.4  # inches: one column of the page, or the full width of a phone

LARGEST = 1e100
"""Larger numbers are not drawn. They are of a run that diverges, and matplotlib's own arithmetic would overflow."""


def drawable(value: float) -> bool:
    """Whether a number is finite and of a size that matplotlib can draw."""
    return math.isfinite(value) and abs(value) <= LARGEST


def figure_to_svg(figure: Figure, prefix: str) -> str:
    """Return the figure as an ``<svg>`` element for an HTML page.

    It has no fixed size, uses the text colour of the page, and loads nothing.

    Args:
        figure: the figure.
        prefix: of its ids; each figure of a page needs another one, as ids are global to the page.
    """
    buffer = io.StringIO()
    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        text.set_text(printable(text.get_text(), page=True))
        text.set_parse_math(False)  # a name with $ is no formula
    # Text that stays text makes a smaller file and can be searched and read aloud. The salt makes ids reproducible.
    with (
        matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": prefix, "text.parse_math": False}),
        warnings.catch_warnings(),
    ):
        # The browser draws the text with a font of its own, so matplotlib's may lack characters.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
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


def empty_figure(title: str, height: float = 3.3) -> tuple[Figure, Axes]:
    """A figure with a title, a faint grid and nothing drawn yet; `height` in inches."""
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


def epoch_axis(axes: Axes) -> None:
    """Label the horizontal axis with whole epochs."""
    axes.set_xlabel(gettext("epoch"), fontsize=9, color=INK)
    axes.xaxis.set_major_locator(MaxNLocator(7, integer=True, min_n_ticks=1))
    axes.xaxis.set_minor_formatter(NullFormatter())


def finite_points(run: Run, column: str) -> Iterable[tuple[float, float]]:
    """The epochs and values of a column of the history, those that can be drawn."""
    epochs, values = run.history.get("epoch", ()), run.history.get(column, ())
    for epoch, value in zip(epochs, values, strict=True):
        if epoch is not None and value is not None and drawable(epoch) and drawable(value):
            yield float(epoch), float(value)


def limit_metric(axes: Axes, order: Sequence[str], values: Mapping[str, Sequence[float]], better: int) -> None:
    """Cut off the methods whose metric is far worse than the others', so that the others stay distinguishable.

    The means of those that are cut off are written at the edge.

    Args:
        axes: of the figure, with a row for each method.
        order: the methods from the lowest row on.
        values: the metric of each run, by method.
        better: 1 if higher is better, else -1.
    """
    means = sorted(better * statistics.fmean(row) for row in values.values() if all(map(drawable, row)))
    if len(means) < 4:
        return
    quarter, best = means[len(means) // 4], means[-1]
    edge = better * (quarter - 2 * (best - quarter) - 0.01 * abs(best))
    if better * edge <= min(better * value for row in values.values() for value in row if drawable(value)):
        return
    left, right = axes.get_xlim()
    axes.set_xlim((edge, right) if better > 0 else (left, edge))
    for row, method in enumerate(order):
        mean = statistics.fmean(values[method]) if all(map(drawable, values[method])) else math.nan
        if better * mean < better * edge:
            shown = f"{mean:.1f}" if abs(mean) >= 10 else f"{mean:.4g}"
            text = gettext("mean {value}", value=shown)
            text = f" \N{LEFTWARDS ARROW} {text}" if better > 0 else f"{text} \N{RIGHTWARDS ARROW} "
            place, side = (0, "left") if better > 0 else (1, "right")
            where = ("axes fraction", "data")
            axes.annotate(text, (place, row), xycoords=where, va="center", ha=side, fontsize=8, color=INK, alpha=0.7)
    _note_cut(axes)


def _note_cut(axes: Axes) -> None:
    note = gettext("values beyond the edge are cut off")
    axes.annotate(note, (1, 1), (0, 4), "axes fraction", "offset points", ha="right", fontsize=7.5, color=INK)


def loss_limit(results: Results) -> float:
    """The largest loss that figures show: four times the median, over the runs, of the largest test loss."""
    peaks = [max((abs(loss) for _, loss in finite_points(run, "test_loss")), default=math.nan) for run in results.runs]
    finite = [peak for peak in peaks if math.isfinite(peak)]
    return 4 * statistics.median(finite) if finite else math.inf


def limit_losses(axes: Axes, results: Results, *, horizontal: bool = False) -> None:
    """Cut off losses of runs that diverge, so that the others stay distinguishable, and say so in the figure."""
    limit = loss_limit(results)
    columns = (np.asarray(line.get_xdata() if horizontal else line.get_ydata()) for line in axes.lines)
    values = [float(value) for column in columns for value in column]
    inside = [value for value in values if abs(value) <= limit]
    if not inside or len(inside) == len(values):
        return
    pad = 0.05 * (max(inside) - min(inside)) or 1.0
    edges = (min(inside) - pad, max(inside) + pad)
    (axes.set_xlim if horizontal else axes.set_ylim)(*edges)
    _note_cut(axes)


def plain_number(value: float, _position: int | None = None) -> str:
    """The number as a label of an axis: without trailing zeros, with a true minus sign."""
    return f"{value:g}".replace("-", "\N{MINUS SIGN}")


def add_legend(figure: Figure, methods: Sequence[str], styles: dict[str, MethodStyle]) -> None:
    """Add a legend of these methods below the axes; the figure grows by its height."""
    handles = [
        Line2D(
            [],
            [],
            color=styles[m].color,
            linestyle=styles[m].linestyle,
            linewidth=styles[m].linewidth,
            label=printable(m),
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
