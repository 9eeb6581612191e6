"""The figures of the page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from matplotlib.figure import Figure

from benchmarks.harness.page import BLACK, BLUE, COLOURS, GREY, ORANGE, dress
from benchmarks.speed import alone, contenders, whole
from benchmarks.speed.turns import Rows


def without_passes(found: Mapping[str, Rows]) -> Figure:
    """The ratio to letsam's time, a group of bars for each workload."""
    groups = {name.replace("/", "\n"): rows for name, rows in found.items()}
    bars = [name for name in contenders.CONTENDERS if name != "SGD alone"]
    return _bars(groups, bars, "time of a step / letsam's", 3.8)


def whole_steps(found: Mapping[str, Rows]) -> Figure:
    """The ratio to two passes and SGD, a group of bars for each network."""
    bars = [name for name in whole.CONTENDERS if name != whole.REFERENCE]
    return _bars(found, bars, "time of a step / two passes and SGD", 3.4)


def growth(found: Mapping[str, Rows]) -> Figure:
    """Nanoseconds for each weight by their number; milliseconds by the number of tensors."""
    figure = Figure(figsize=(10.5, 3.2), layout="constrained")
    for axes, kind in zip(figure.subplots(1, 2), ("weights", "tensors"), strict=True):
        chosen = {int(name.split("/")[1]): rows for name, rows in found.items() if name.startswith(kind)}
        for contender, colour in zip(alone.GROWING, (GREY, ORANGE, BLUE), strict=True):
            times = [rows[contender]["ms"] for rows in chosen.values()]
            values = [1e6 * ms / count for ms, count in zip(times, chosen, strict=True)] if kind == "weights" else times
            axes.plot(list(chosen), values, "o-", ms=3.5, lw=1.2, color=colour, label=contender)
        axes.set_xscale("log")
        axes.set_yscale("log")
        dress(axes, x=kind, y="ns for each weight" if kind == "weights" else "ms of a step", size=7)
        axes.legend(frameon=False, fontsize=7)
    return figure


def _bars(groups: Mapping[str, Rows], bars: Iterable[str], label: str, height: float) -> Figure:
    figure = Figure(figsize=(10.5, height), layout="constrained")
    axes, bars = figure.subplots(), list(bars)
    width = 0.8 / len(bars)
    for i, (bar, colour) in enumerate(zip(bars, COLOURS, strict=False)):
        shift = (i - (len(bars) - 1) / 2) * width
        places = [(x + shift, rows[bar]["ratio"]) for x, rows in enumerate(groups.values()) if bar in rows]
        axes.bar([x for x, _ in places], [ratio for _, ratio in places], width, color=colour, label=bar)
    axes.axhline(1, color=BLACK, lw=0.8, alpha=0.4)
    axes.set_xticks(range(len(groups)), list(groups))
    dress(axes, y=label, size=7)
    figure.legend(loc="outside upper center", frameon=False, fontsize=7, ncols=len(bars))
    return figure
