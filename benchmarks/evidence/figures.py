"""The figures of the evidence: SVG, colours after Okabe and Ito, readable at 700 pixels."""

from __future__ import annotations

import io
import math
import statistics
from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from benchmarks.evidence.summary import Measured
from letsam.results import write_atomically
from letsam.training.methods import REFIT

COLUMNS = 4
WIDTH = 8.6  # inches; 700 pixels show 8-point text as it is
FIXED, LEARNED, BASE, RISING = "#0072b2", "#d55e00", "#6b6b6b", "#7aa974"
LEAST_SPAN = 2.0  # points above and below what must be seen, together
STARTS = ("#e69f00", "#d55e00", "#cc79a7", "#7b3294")
STYLE: dict[Any, Any] = {
    "font.size": 8,
    "axes.titlesize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "svg.hashsalt": "letsam",
    "svg.fonttype": "none",
}


@mpl.rc_context(STYLE)
def write_figures(found: Sequence[Measured], folder: Path) -> list[tuple[Path, str]]:
    """Write what there is to show.

    Args:
        found: settings with results.
        folder: where the files go.

    Returns:
        (path, description) of each figure.
    """
    written: list[tuple[Path, str]] = []
    for kind in ("sam", "asam"):
        name = kind.upper()
        ladders = _ladders([one for one in found if one.best(kind) is not None])
        graded = [one for ladder in ladders for one in ladder]
        figures: list[tuple[str, str, Figure | None]] = [
            (
                "starts",
                f"{name}: test accuracy against the fixed radius and against the start of the learned one",
                _panels(
                    graded,
                    lambda axes, one, kind=kind: _starts(axes, one, kind),
                    f"{name} radius, fixed or at the start",
                ),
            ),
            (
                "noise",
                f"{name}: best of the grid, learned radius and base optimizer alone against label noise",
                _noise([ladder for ladder in ladders if len(ladder) > 1], kind),
            ),
            (
                "rho",
                f"{name}: the learned radius over training, from each start, beside the best of the grid",
                _panels(graded, lambda axes, one, kind=kind: _curves(axes, one, kind), "share of training"),
            ),
        ]
        for stem, description, figure in figures:
            if figure is not None:
                path = folder / f"{stem}-{kind}.svg"
                write_atomically(path, _svg(figure))
                written.append((path, description))
    return written


Draw = Callable[[Any, Measured], None]


def _panels(found: Sequence[Measured], draw: Draw, label: str) -> Figure | None:
    """One small panel for each setting."""
    if not found:
        return None
    columns = min(COLUMNS, len(found))
    rows = math.ceil(len(found) / columns)
    figure, panels = _figure(rows, columns, 1.75)
    for axes, one in zip(panels, found, strict=False):
        draw(axes, one)
        axes.set_title(_short(one))
    figure.supxlabel(label, fontsize=8)
    _legend(figure, panels[: len(found)])
    for axes in panels[len(found) :]:
        axes.set_visible(False)
    return figure


def _starts(axes: Any, one: Measured, kind: str) -> None:
    """Accuracy against rho: the grid, the learned radius by its start, the rising schedule, the base optimizer."""
    seeds = one.seeds(kind)
    _line(axes, _by_rho(one, one.names(f"{kind}-rising"), seeds), "rising to it", RISING, marker=".", linestyle=":")
    _line(axes, _by_rho(one, one.names(kind), seeds), "fixed", FIXED, marker="s")
    names = one.names(f"lets-{kind}")
    _line(axes, _by_rho(one, names, seeds), "learned from it", LEARNED, marker="D")
    refits = [name + REFIT for name in names]
    _line(
        axes,
        _by_rho(one, refits, seeds),
        "learned from it, refit",
        LEARNED,
        marker="o",
        linestyle="--",
        markerfacecolor="w",
    )
    alone, best = one.row("sgd", seeds), one.best(kind)
    if alone and best:
        axes.axhline(alone.accuracy, color=BASE, linestyle="-.", linewidth=1, label="base optimizer alone")
        # A fixed radius with which training never starts would flatten everything else: its line leaves the panel.
        rows = [one.row(name, seeds) for name in (*names, *refits)]
        shown = [alone.accuracy, best.accuracy, *(row.accuracy for row in rows if row and math.isfinite(row.accuracy))]
        margin = max(0.3 * (max(shown) - min(shown)), LEAST_SPAN / 2)
        axes.set_ylim(min(shown) - margin, max(shown) + margin)
    axes.set_xscale("log")
    axes.yaxis.set_major_locator(MaxNLocator(4))


def _by_rho(one: Measured, names: Sequence[str], seeds: set[int]) -> list[tuple[float, float]]:
    points = [
        (float(name.removesuffix(REFIT).split(":")[1]), row.accuracy) for name in names if (row := one.row(name, seeds))
    ]
    return sorted(points)


def _curves(axes: Any, one: Measured, kind: str) -> None:
    """The radius over training, a mean over seeds in log rho, and the best of the grid."""
    for name, color in zip(one.names(f"lets-{kind}"), STARTS, strict=False):
        curves = [run.curve for run in one.of(name).values() if run.curve]
        length = min(map(len, curves), default=0)
        means = [math.exp(statistics.fmean(math.log(max(curve[i], 1e-12)) for curve in curves)) for i in range(length)]
        share = [i / max(length - 1, 1) for i in range(length)]
        axes.plot(
            share,
            means,
            color=color,
            linewidth=1.6,
            label="learned, lowest to highest start" if color == STARTS[1] else None,
        )
    if best := one.best(kind):
        axes.axhline(
            float(best.name.split(":")[1]), color=FIXED, linestyle="--", linewidth=1.2, label="best of the grid"
        )
    axes.set_yscale("log")


def _ladders(found: Sequence[Measured]) -> list[list[Measured]]:
    """Settings that differ in their label noise only side by side; the longest first, so that each fills a row."""
    ordered = sorted(found, key=lambda one: one.setting.group)
    groups = [list(group) for _, group in groupby(ordered, key=lambda one: one.setting.group)]
    places = {one.setting.name: place for place, one in enumerate(found)}
    return sorted(groups, key=lambda group: (-len(group), places[group[0].setting.name]))


def _noise(ladders: Sequence[Sequence[Measured]], kind: str) -> Figure | None:
    """One panel for each task: accuracy against label noise."""
    if not ladders:
        return None
    columns = min(COLUMNS, len(ladders))
    figure, panels = _figure(math.ceil(len(ladders) / columns), columns, 2.2)
    for axes, ladder in zip(panels, ladders, strict=False):
        percent = [100 * one.setting.noise for one in ladder]
        best = [row.accuracy if (row := one.best(kind)) else math.nan for one in ladder]
        alone = [row.accuracy if (row := one.row("sgd", one.seeds(kind))) else math.nan for one in ladder]
        learned = [
            [p[1] for p in _by_rho(one, [n + REFIT for n in one.names(f"lets-{kind}")], one.seeds(kind))] or [math.nan]
            for one in ladder
        ]
        _line(axes, list(zip(percent, alone, strict=True)), "base optimizer alone", BASE, marker="^", linestyle="-.")
        _line(axes, list(zip(percent, best, strict=True)), "best of the grid", FIXED, marker="s")
        means = [statistics.fmean(values) for values in learned]
        _line(
            axes,
            list(zip(percent, means, strict=True)),
            "learned, refit: mean and range of the starts",
            LEARNED,
            marker="o",
        )
        axes.fill_between(
            percent, list(map(min, learned)), list(map(max, learned)), color=LEARNED, alpha=0.2, linewidth=0
        )
        axes.set_title(_short(ladder[0]).split("\n")[0])
        axes.set_xticks(percent)
    figure.supxlabel("label noise, %", fontsize=8)
    _legend(figure, panels[: len(ladders)])
    for axes in panels[len(ladders) :]:
        axes.set_visible(False)
    return figure


def _line(axes: Any, points: list[tuple[float, float]], label: str, color: str, **style: Any) -> None:
    if points:
        x, y = zip(*points, strict=True)
        axes.plot(x, y, **{"color": color, "label": label, "linewidth": 1.4, "markersize": 4, **style})


def _figure(rows: int, columns: int, height: float) -> tuple[Figure, list[Any]]:
    figure = Figure(figsize=(WIDTH if columns > 1 else WIDTH / 2, height * rows + 0.75), layout="constrained")
    return figure, list(figure.subplots(rows, columns, squeeze=False).flat)


def _legend(figure: Figure, panels: Sequence[Any]) -> None:
    """One legend over all panels, each label once."""
    entries: dict[str, Any] = {}
    for axes in panels:
        entries |= {label: handle for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(entries.values(), entries.keys(), loc="outside upper center", ncols=3, fontsize=8, frameon=False)


def _short(one: Measured) -> str:
    """A title that fits over a panel."""
    title = one.setting.title.replace(" label noise", " noise").replace(" (final check)", "")
    head, comma, noise = title.rpartition(", ")
    return f"{head.replace('Fashion-MNIST', 'Fashion').replace(' labels', '')}\n{noise}" if comma else title


def _svg(figure: Figure) -> str:
    """The same text each time for the same data."""
    stream = io.StringIO()
    figure.savefig(stream, format="svg", metadata={"Date": None})
    return stream.getvalue()
