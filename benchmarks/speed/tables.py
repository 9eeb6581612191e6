"""The tables and figures of the page, and the sentences that depend on the results."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from matplotlib.figure import Figure

from benchmarks.harness.page import BLACK, BLUE, COLOURS, GREY, ORANGE, dress, filled, named, table
from benchmarks.speed import alone, contenders, forward, whole
from benchmarks.speed.cost import Rows
from benchmarks.speed.messages import WIDTHS, numbers
from benchmarks.speed.networks import NETWORKS
from benchmarks.speed.whole import EACH, OURS, PROFILED, REFERENCE, TENTH

Found = Mapping[str, Rows]
Sections = dict[str, object]
ACCURATE = 0.01  # the largest relative error in float32 at which a way is useful
GOALS = {  # of what, in units of what, at most
    "SAM in units of two passes and SGD": (OURS, "ratio", 1.02),
    "LETS-SAM with `interval=1` in units of SAM": (EACH, "to SAM", 1.55),
    "LETS-SAM with `interval=10` in units of SAM": (TENTH, "to SAM", 1.08),
}
PEERS = [name for name in contenders.CONTENDERS if name not in ("SGD alone", "letsam")]
COLUMNS = ("SGD alone", "letsam", *contenders.LEARNED, *PEERS)
PARTS = (*whole.PARTS, "rest")


def whole_steps(found: Found) -> Sections:
    """Goals, ratios, profile."""
    networks = [
        f"{name} ({rows[REFERENCE]['weights'] / 1e6:.2f}M weights, {NETWORKS[name][1][0]} images)"
        for name, rows in found.items()
    ]
    ratios = [[one, *(_ratios(rows.get(one)) for rows in found.values())] for one in whole.CONTENDERS]
    shares = [
        [f"{contender}: {part}", *(f"{100 * rows[contender][part]:.1f}" for rows in found.values())]
        for contender in (OURS, EACH)
        for part in PARTS
    ]
    return {
        "whole": filled(
            f"Passes included, with batches of random images: {named(networks)}. A third pass in every step makes the "
            f"passes cost 1.5 times those of SAM, one in every tenth step 1.05 times; the rest is overhead. "
            f"{whole.ROUNDS} rounds of {whole.CONTENDERS[OURS][1]} steps each."
        ),
        "goals": "\n".join(_goal(goal, found) for goal in GOALS),
        "whole_times": table(["", *found], ratios),
        "profiled": PROFILED,
        "whole_shares": table(["", *found], shares),
    }


def _ratios(row: dict[str, float] | None) -> str:
    return f"{row['ms']:.3g} ({row['ratio']:.3f}, {row['to SAM']:.3f})" if row else ""


def _goal(goal: str, found: Found) -> str:
    """Where it is met; elsewhere by how much it is missed, and which parts of the step cause it."""
    contender, unit, limit = GOALS[goal]
    values = {name: rows[contender][unit] for name, rows in found.items()}
    met = [f"{name} ({value:.3f})" for name, value in values.items() if value <= limit]
    missed = {name: value for name, value in values.items() if value > limit}
    said = [f"met on {named(met)}"] if met else []
    if missed:
        said.append(f"missed on {named([f'{n} by {value - limit:.3f} ({value:.3f})' for n, value in missed.items()])}")
        said.append(_reasons({name: found[name] for name in missed}, OURS if contender == TENTH else contender))
    return filled(f"- **{goal}, at most {limit}**: {'; '.join(said)}.")


def _reasons(found: Found, contender: str) -> str:
    reasons: list[str] = []
    for name, rows in found.items():
        shares = {part: rows[contender][part] for part in PARTS if part != "SGD"}
        largest = sorted(shares, key=lambda part: -shares[part])[:3]
        parts = ", ".join(f"{part} {100 * shares[part]:.1f}%" for part in largest)
        reasons.append(f"{100 * sum(shares.values()):.1f}% on {name} ({parts})")
    return f"outside of its passes and SGD, {contender} takes (in percent of two passes and SGD) {named(reasons)}"


def slopes(found: Found) -> Sections:
    """What a validation pass without a backward saves, and how accurate it is."""
    columns = {
        "error, float32": "float32",
        "best": "best float32",
        "error, float64": "float64",
        "best ": "best float64",
    }
    rows = [
        [
            f"{name}, {way}",
            f"{row['ms']:.3g} ({row['ratio']:.2f})",
            *(f"{row[key]:.1e}" if row.get(key) else "" for key in columns.values()),
        ]
        for name, measured in found.items()
        for way, row in measured.items()
    ]
    head = ["", "ms (of a backward)", *(column.strip() for column in columns)]
    return {"batches": forward.BATCHES, "slopes_verdict": _verdict(found), "slopes": table(head, rows)}


def _verdict(found: Found) -> str:
    """A way is useful where it is faster than a backward and accurate."""
    said: list[str] = []
    for way in list(forward.WAYS)[1:]:
        ratios, errors = ([rows[way][key] for rows in found.values()] for key in ("ratio", "float32"))
        pays = [name for name, *row in zip(found, ratios, errors, strict=True) if row[0] < 1 and row[1] < ACCURATE]
        said.append(
            f"`{way}` takes {min(ratios):.2f} to {max(ratios):.2f} times as long as a backward, with errors of "
            f"{min(errors):.1e} to {max(errors):.1e} in float32: it is useful on "
            f"{named(pays) if pays else 'none of them'}"
        )
    saved = 1 - min(row["ratio"] for rows in found.values() for row in rows.values())
    return filled(
        f"The goal is an option where it is faster and the error in float32 is below {ACCURATE:.0%}. "
        + ". ".join(said)
        + f". At most {saved:.0%} of a pass would be saved in each update: {saved / 3:.0%} of a step with "
        f"`interval=1`, {saved / 4 / 2.25:.0%} with the default of one in four; and the cosine with Z, which the "
        "default radius uses, would be lost. Neither is in the library."
    )


def without_passes(found: Found) -> Sections:
    """Who is faster; times, operators and memory."""

    def times(row: dict[str, float]) -> str:
        return f"{row['ms']:.3g} ({row['ratio']:.2f})"

    def numbers(cell: Callable[[dict[str, float]], str], columns: Iterable[str] = COLUMNS) -> str:
        columns = list(columns)
        rows = [[name, *(cell(rows[one]) if one in rows else "" for one in columns)] for name, rows in found.items()]
        return table(["workload", *columns], rows)

    return {
        "step_rounds": alone.ROUNDS,
        "fastest": _fastest(found),
        "step_times": numbers(times),
        "step_parts": numbers(times, contenders.PARTS),
        "operators": numbers(lambda row: f"{row['operators']:,.0f}"),
        "copies": numbers(lambda row: f"{row['copies']:.2f}"),
    }


def _fastest(found: Found) -> str:
    """Where letsam is not the fastest, as measured."""
    slower = [
        f"- {name}: `{peer}` takes {row['ratio']:.2f} times as long as letsam"
        for name, rows in found.items()
        for peer, row in rows.items()
        if peer in PEERS and row["ratio"] < 1
    ]
    first = len(found) - len({line.split(":")[0] for line in slower})
    others = " The others:\n" if slower else ""
    return "\n".join([f"letsam has the fastest step in {first} of {len(found)} workloads.{others}", *slower])


def growth(found: Found) -> Sections:
    """By how much an additional weight, or tensor, slows a step."""
    rows: list[list[str]] = []
    for name, measured in found.items():
        kind, _, size = name.partition("/")
        count = int(size) if kind == "weights" else alone.NUMBERS
        cells = [f"{row['ms']:.3g}, {1e6 * row['ms'] / count:.3g} ({row['ratio']:.1f})" for row in measured.values()]
        rows.append([f"{int(size):,} {kind}", *cells])
    most = max(int(name.split("/")[1]) for name in found if name.startswith("weights/"))
    each = [f"{1e6 * row['ms'] / most:.2g} ns for {name}" for name, row in found[f"weights/{most}"].items()]
    return {
        "tensors": alone.TENSORS,
        "held": f"{alone.NUMBERS:,}",
        "growth_rounds": alone.ROUNDS,
        "largest": f"At {most:,} weights each costs {', '.join(each)}.",
        "growth": table(["", *alone.GROWING], rows),
    }


def messages(found: Found) -> Sections:
    """Calls and bytes."""
    once = 4 * numbers()
    silent = [ranks for ranks, measured in found.items() if not any(row["calls"] for row in measured.values())]
    rows = [
        [
            f"{ranks} ranks, {contender}",
            *(f"{row[key]:,}" for key in ("calls", "bytes", "beyond")),
            _in_gradients(int(row["beyond"]), once),
        ]
        for ranks, measured in found.items()
        if ranks not in silent
        for contender, row in measured.items()
    ]
    said = [f"With {ranks} rank no contender sends anything.\n" for ranks in silent]
    return {
        "network": f"{numbers():,}",
        "widths": " - ".join(map(str, WIDTHS)),
        "bytes": f"{once:,}",
        "messages": "\n".join([*said, table(["", "all-reduces", "bytes", "beyond plain SAM", "that is"], rows)]),
    }


def _in_gradients(beyond: int, once: int) -> str:
    """As gradients and single numbers."""
    gradients = round(beyond / once)
    single = (beyond - gradients * once) // 4
    return f"{gradients:+} gradients, {single:+} numbers" if beyond else "nothing"


def bars_without_passes(found: Found) -> Figure:
    """The ratio to letsam's time, a group of bars for each workload."""
    groups = {name.replace("/", "\n"): rows for name, rows in found.items()}
    bars = [name for name in contenders.CONTENDERS if name != "SGD alone"]
    return _bars(groups, bars, "time of a step / letsam's", 3.8)


def bars_of_whole_steps(found: Found) -> Figure:
    """The ratio to two passes and SGD, a group of bars for each network."""
    bars = [name for name in whole.CONTENDERS if name != whole.REFERENCE]
    return _bars(found, bars, "time of a step / two passes and SGD", 3.4)


def curves_of_growth(found: Found) -> Figure:
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
