"""The figures of the evidence: SVG, colours after Okabe and Ito, readable at 700 pixels."""

from __future__ import annotations

import functools
import math
import statistics
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from benchmarks.evidence.summary import Measured
from letsam.training.methods import REFIT

COLUMNS = 4
WIDTH = 8.6  # inches; 700 pixels show 8-point text as it is
FIXED, LEARNED, BASE, RISING = "#0072b2", "#d55e00", "#6b6b6b", "#7aa974"
LEAST_SPAN = 2.0  # points above and below what must be seen, together
STARTS = ("#e69f00", "#d55e00", "#cc79a7", "#7b3294")


def make(found: Sequence[Measured]) -> dict[str, Figure]:
    """The figures that the results allow, by the names of their files."""
    figures: dict[str, Figure | None] = {}
    for kind in ("sam", "asam"):
        ladders = _ladders([one for one in found if one.best(kind) is not None])
        graded = [one for ladder in ladders for one in ladder]
        starts, curves = functools.partial(_starts, kind=kind), functools.partial(_curves, kind=kind)
        figures[f"starts-{kind}"] = _panels(graded, starts, f"{kind.upper()} radius, fixed or at the start")
        tasks = [ladder for ladder in ladders if len(ladder) > 1]
        noise = [functools.partial(_against_noise, ladder=ladder, kind=kind) for ladder in tasks]
        titles = [_short(ladder[0]).split("\n")[0] for ladder in tasks]
        figures[f"noise-{kind}"] = _drawn(noise, titles, "label noise, %", 2.2)
        figures[f"rho-{kind}"] = _panels(graded, curves, "share of training")
    return {name: figure for name, figure in figures.items() if figure}


def _panels(found: Sequence[Measured], draw: Callable[..., None], label: str) -> Figure | None:
    """One small panel for each setting."""
    return _drawn([functools.partial(draw, one=one) for one in found], [_short(one) for one in found], label, 1.75)


def _starts(axes: Any, one: Measured, kind: str) -> None:
    """Accuracy against rho: the grid, the learned radius by its start, the rising schedule, the base optimizer."""
    seeds = one.seeds(kind)
    _line(axes, _by_rho(one, one.names(f"{kind}-rising"), seeds), "rising to it", RISING, marker=".", linestyle=":")
    _line(axes, _by_rho(one, one.names(kind), seeds), "fixed", FIXED, marker="s")
    names = one.names(f"lets-{kind}")
    _line(axes, _by_rho(one, names, seeds), "learned from it", LEARNED, marker="D")
    refits = _by_rho(one, [name + REFIT for name in names], seeds)
    _line(axes, refits, "learned from it, refit", LEARNED, marker="o", linestyle="--", markerfacecolor="w")
    alone, best = one.row("sgd", seeds), one.best(kind)
    if alone and best:
        axes.axhline(alone.accuracy, color=BASE, linestyle="-.", linewidth=1, label="base optimizer alone")
        # A fixed radius with which training never starts would flatten everything else: its line leaves the panel.
        points = [*_by_rho(one, names, seeds), *refits]
        shown = [alone.accuracy, best.accuracy, *(value for _, value in points if math.isfinite(value))]
        margin = max(0.3 * (max(shown) - min(shown)), LEAST_SPAN / 2)
        axes.set_ylim(min(shown) - margin, max(shown) + margin)
    axes.set_xscale("log")
    axes.yaxis.set_major_locator(MaxNLocator(4))


def _by_rho(one: Measured, names: Sequence[str], seeds: set[int]) -> list[tuple[float, float]]:
    rows = {float(name.removesuffix(REFIT).split(":")[1]): one.row(name, seeds) for name in names}
    return sorted((rho, row.accuracy) for rho, row in rows.items() if row)


def _curves(axes: Any, one: Measured, kind: str) -> None:
    """The radius over training, a mean over seeds in log rho, and the best of the grid."""
    for name, color in zip(one.names(f"lets-{kind}"), STARTS, strict=False):
        curves = [run.curve for run in one.of(name).values() if run.curve]
        length = min(map(len, curves), default=0)
        means = [math.exp(statistics.fmean(math.log(max(curve[i], 1e-12)) for curve in curves)) for i in range(length)]
        share = [i / max(length - 1, 1) for i in range(length)]
        label = "learned, lowest to highest start" if color == STARTS[1] else None
        axes.plot(share, means, color=color, linewidth=1.6, label=label)
    if best := one.best(kind):
        radius = float(best.name.split(":")[1])
        axes.axhline(radius, color=FIXED, linestyle="--", linewidth=1.2, label="best of the grid")
    axes.set_yscale("log")


def _ladders(found: Sequence[Measured]) -> list[list[Measured]]:
    """Settings that differ only in their label noise, in one row each; the longest row first."""
    ordered = sorted(found, key=lambda one: one.setting.group)
    groups = [list(group) for _, group in groupby(ordered, key=lambda one: one.setting.group)]
    places = {one.setting.name: place for place, one in enumerate(found)}
    return sorted(groups, key=lambda group: (-len(group), places[group[0].setting.name]))


def _against_noise(axes: Any, ladder: Sequence[Measured], kind: str) -> None:
    """Accuracy on a task against its label noise."""
    percent = [100 * one.setting.noise for one in ladder]
    best = [row.accuracy if (row := one.best(kind)) else math.nan for one in ladder]
    alone = [row.accuracy if (row := one.row("sgd", one.seeds(kind))) else math.nan for one in ladder]
    learned = [
        [p[1] for p in _by_rho(one, [n + REFIT for n in one.names(f"lets-{kind}")], one.seeds(kind))] or [math.nan]
        for one in ladder
    ]
    means, label = list(map(statistics.fmean, learned)), "learned, refit: mean and range of the starts"
    _line(axes, list(zip(percent, alone, strict=True)), "base optimizer alone", BASE, marker="^", linestyle="-.")
    _line(axes, list(zip(percent, best, strict=True)), "best of the grid", FIXED, marker="s")
    _line(axes, list(zip(percent, means, strict=True)), label, LEARNED, marker="o")
    low, high = list(map(min, learned)), list(map(max, learned))
    axes.fill_between(percent, low, high, color=LEARNED, alpha=0.2, linewidth=0)
    axes.set_xticks(percent)


def _drawn(draw: Sequence[Callable[[Any], None]], titles: Sequence[str], label: str, height: float) -> Figure | None:
    """Panels in rows with one legend over all of them, each label once."""
    if not draw:
        return None
    columns = min(COLUMNS, len(draw))
    size = (WIDTH if columns > 1 else WIDTH / 2, height * math.ceil(len(draw) / columns) + 0.75)
    figure = Figure(figsize=size, layout="constrained")
    panels: list[Any] = list(figure.subplots(math.ceil(len(draw) / columns), columns, squeeze=False).flat)
    entries: dict[str, Any] = {}
    for axes, one, title in zip(panels, draw, titles, strict=False):
        one(axes)
        axes.set_title(title)
        entries |= {label: handle for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.supxlabel(label, fontsize=8)
    figure.legend(entries.values(), entries.keys(), loc="outside upper center", ncols=3, fontsize=8, frameon=False)
    for axes in panels[len(draw) :]:
        axes.set_visible(False)
    return figure


def _line(axes: Any, points: list[tuple[float, float]], label: str, color: str, **style: Any) -> None:
    if points:
        x, y = zip(*points, strict=True)
        axes.plot(x, y, **{"color": color, "label": label, "linewidth": 1.4, "markersize": 4, **style})


def _short(one: Measured) -> str:
    """A title that fits over a panel."""
    title = one.setting.title.replace(" label noise", " noise").replace(" (final check)", "")
    head, comma, noise = title.rpartition(", ")
    return f"{head.replace('Fashion-MNIST', 'Fashion').replace(' labels', '')}\n{noise}" if comma else title
