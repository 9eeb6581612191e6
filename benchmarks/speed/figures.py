"""The figures of the page."""

from __future__ import annotations

from matplotlib.figure import Figure

from benchmarks.speed import scaling, whole
from benchmarks.speed.contenders import CONTENDERS
from benchmarks.speed.turns import Rows

PEERS = [name for name in CONTENDERS if name != "SGD alone"]
COLOURS = ("#e0600d", "#808894", "#7cc4f2", "#1c63b0", "#12a37a", "#7a4fa3")


def beside(found: dict[str, Rows]) -> Figure:
    """The ratio to letsam's time, a group of bars for each workload."""
    names = [name.replace("/", "\n") for name in found]
    return _bars(
        names,
        PEERS,
        [{p: rows[p]["ratio"] for p in PEERS if p in rows} for rows in found.values()],
        "time of a step / letsam's",
        3.8,
    )


def steps(found: dict[str, Rows]) -> Figure:
    """The ratio to two passes and SGD, a group of bars for each network."""
    contenders = [name for name in whole.CONTENDERS if name != whole.REFERENCE]
    groups = [{name: rows[name]["ratio"] for name in contenders if name in rows} for rows in found.values()]
    names = [name.removeprefix("whole/") for name in found]
    return _bars(names, contenders, groups, "time of a step / two passes and SGD", 3.4)


def growth(found: dict[str, Rows]) -> Figure:
    """Nanoseconds for each weight by their number; milliseconds by the number of tensors."""
    figure = Figure(figsize=(10.5, 3.2), layout="constrained")
    for axes, kind in zip(figure.subplots(1, 2), ("weights", "tensors"), strict=True):
        chosen = {int(name.split("/")[1]): rows for name, rows in found.items() if name.startswith(kind)}
        for contender, colour in zip(scaling.CONTENDERS, (COLOURS[1], COLOURS[0], COLOURS[3]), strict=True):
            times = [rows[contender]["ms"] for rows in chosen.values()]
            values = [1e6 * ms / count for ms, count in zip(times, chosen, strict=True)] if kind == "weights" else times
            axes.plot(list(chosen), values, "o-", ms=3.5, lw=1.2, color=colour, label=contender)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlabel(kind, fontsize=8)
        axes.set_ylabel("ns for each weight" if kind == "weights" else "ms of a step", fontsize=8)
        axes.tick_params(labelsize=7)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=7)
    return figure


def _bars(names: list[str], bars: list[str], groups: list[dict[str, float]], label: str, height: float) -> Figure:
    figure = Figure(figsize=(10.5, height), layout="constrained")
    axes = figure.subplots()
    width = 0.8 / len(bars)
    for i, (bar, colour) in enumerate(zip(bars, COLOURS, strict=False)):
        places = [(x + (i - (len(bars) - 1) / 2) * width, group[bar]) for x, group in enumerate(groups) if bar in group]
        axes.bar([x for x, _ in places], [ratio for _, ratio in places], width, color=colour, label=bar)
    axes.axhline(1, color="#010203", lw=0.8, alpha=0.4)
    axes.set_xticks(range(len(names)), names, fontsize=7)
    axes.set_ylabel(label, fontsize=8)
    axes.tick_params(axis="y", labelsize=7)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside upper center", frameon=False, fontsize=7, ncols=len(bars))
    return figure
