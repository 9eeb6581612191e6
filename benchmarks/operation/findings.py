"""What the years say: tables, a figure, and the sentences of the conclusion."""

from __future__ import annotations

import dataclasses
import itertools
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure

from benchmarks.harness.page import BLUE, GREEN, GREY, LIGHT_BLUE, ORANGE, dress, filled, named, table
from benchmarks.operation.worlds import MONTHS, World
from benchmarks.operation.year import BASE, COMMAND, MONTHLY, NEVER, OLD, POLICIES, RETUNED, Month
from letsam.decision import bounds, critical_values

LEVEL = 0.05
COLOURS = {NEVER: GREY, BASE: LIGHT_BLUE, OLD: BLUE, RETUNED: ORANGE, COMMAND: GREEN}
INPUTS = ("drift_auc", "feature_drift", "embedding_distance")
QUARTERS = (1, 4, 7, 10)  # their first months


@dataclass(frozen=True)
class Years:
    """The finished years of a world: rows by policy and seed, each with all months in order."""

    name: str
    world: World
    found: Mapping[str, Mapping[int, Sequence[Month]]]

    @classmethod
    def of(cls, name: str, world: World, rows: Sequence[Month]) -> Years:
        """Those whose months are all there."""
        found: dict[str, dict[int, list[Month]]] = {}
        for policy in POLICIES:
            for seed in range(world.seeds):
                mine = [row for row in rows if (row.world, row.policy, row.seed) == (name, policy, seed)]
                if len(mine) == MONTHS:
                    found.setdefault(policy, {})[seed] = sorted(mine, key=lambda row: row.month)
        return cls(name, world, found)

    def accuracy(self, policy: str, first: int = 1, last: int = MONTHS) -> float:
        """Mean over seeds and months, in %."""
        months = [row for year in self.found[policy].values() for row in year[first - 1 : last]]
        return 100 * statistics.fmean(row.accuracy for row in months)

    def gains(self, policy: str, other: str) -> list[float]:
        """Points of accuracy by which a policy is better than another, for each month and seed that both have."""
        seeds = self.found[policy].keys() & self.found[other].keys()
        pairs = ((self.found[policy][seed], self.found[other][seed]) for seed in sorted(seeds))
        return [100 * (a.accuracy - b.accuracy) for mine, theirs in pairs for a, b in zip(mine, theirs, strict=True)]

    @property
    def months(self) -> list[Month]:
        """All months of the model that is never re-trained."""
        return [row for year in self.found.get(NEVER, {}).values() for row in year]


def sections(rows: Sequence[Month], settings: Mapping[str, World]) -> dict[str, object]:
    """What fills the page."""
    years = [Years.of(name, world, rows) for name, world in settings.items()]
    drifting = [one for one in years if not one.world.calm and NEVER in one.found]
    calm = [one for one in years if one.world.calm and NEVER in one.found]
    return {
        "lead": filled(" ".join([f"**{gained(drifting)}**", *ways(drifting)])),
        "conclusion": f"{conclusion(drifting, calm)}{_unmeasured(years)}",
        "accuracy": "\n\n".join(f"### {one.world.title}\n\n<!-- open -->\n\n{accuracy_table(one)}" for one in drifting),
        "pairs": "\n\n".join(f"### {one.world.title}\n\n{pairs_table(one)}" for one in drifting),
        "alarms": alarm_table([*drifting, *calm]),
        "months": "\n\n".join(f"### {one.world.title}\n\n{month_table(one)}" for one in drifting),
        "seconds": round(sum(row.seconds for row in rows)),
    }


def gained(drifting: Sequence[Years]) -> str:
    """Whether re-training each month was worth it, in each world."""
    told: list[str] = []
    for one in drifting:
        gains = {policy: one.gains(policy, NEVER) for policy in MONTHLY if policy in one.found}
        if not gains:
            continue
        shown = {policy for policy, found in gains.items() if _shown(found)}
        means = [statistics.fmean(found) for found in gains.values()]
        size = " to ".join(dict.fromkeys(f"{value:+.1f}" for value in (min(means), max(means))))
        if shown == set(gains) and min(means) > 0:
            told.append(f"paid among the {one.world.word} ({size} points of accuracy)")
        elif shown == set(gains) and max(means) < 0:
            told.append(f"cost accuracy among the {one.world.word} ({size} points)")
        elif shown:
            told.append(
                f"had mixed results among the {one.world.word} ({size} points; shown for {named(sorted(shown))})"
            )
        else:
            told.append(f"brought nothing that could be shown among the {one.world.word} ({size} points)")
    return f"Re-training each month {'; it '.join(told)}." if told else "Nothing is measured yet."


def ways(drifting: Sequence[Years]) -> list[str]:
    """Whether it mattered how it was re-trained, and what a season did to it."""
    told: list[str] = []
    for one in drifting:
        for other in (BASE, OLD):
            if {RETUNED, other} <= one.found.keys():
                gains = one.gains(RETUNED, other)
                word = "better" if statistics.fmean(gains) > 0 else "worse"
                size = f"{statistics.fmean(gains):+.1f} points"
                verdict = f"was {word} than the {other} ({size})" if _shown(gains) else None
                verdict = verdict or f"did not differ from the {other} by more than chance ({size})"
                told.append(f"The re-tuned radius {verdict} among the {one.world.word}.")
        if COMMAND in one.found:
            gains = one.gains(COMMAND, NEVER)
            verdict = "changed" if _shown(gains) else "did not change beyond chance"
            mean = statistics.fmean(gains)
            told.append(f"`letsam retune` {verdict} the accuracy of the {one.world.word} ({mean:+.1f} points).")
        monthly = [policy for policy in MONTHLY if policy in one.found]
        if one.world.changed is None and monthly:
            quarters = [
                statistics.fmean(one.accuracy(policy, q, q + 2) for policy in monthly) - one.accuracy(NEVER, q, q + 2)
                for q in QUARTERS
            ]
            sizes = named([f"{value:+.1f}" for value in quarters])
            told.append(f"By quarter, re-training changed the accuracy of the {one.world.word} by {sizes} points.")
    return told


def watched(years: Years) -> str:
    """In how many months the inputs gave an alarm, and how far the expected accuracy was from the accuracy."""
    counts = [
        f"{sum(bool(set(row.drift or ()) & set(INPUTS)) for row in rows)} of the {len(rows)} {what}"
        for what, rows in _by_truth(years).items()
    ]
    text = f"- **The watch of the {years.world.word}** had an alarm of the inputs in {named(counts)}."
    errors = [100 * (row.expected - row.accuracy) for row in years.months if row.expected is not None]
    if errors:
        high = sum(error > 0 for error in errors)
        text += (
            f" The accuracy that it expected without labels was too high in {high} of {len(errors)} months, by "
            f"{statistics.fmean(errors):+.1f} points as a mean over all of them."
        )
    return text


def _shown(gains: Sequence[float]) -> bool:
    low, high = _bounds(gains)
    return low > 0 or high < 0


def conclusion(drifting: Sequence[Years], calm: Sequence[Years]) -> str:
    """The numbers first."""
    parts: list[str] = []
    for one in drifting:
        shown = [f"{policy} {one.accuracy(policy):.1f} %" for policy in POLICIES if policy in one.found]
        seeds = len(one.found[NEVER])
        parts.append(f"- **{one.world.title}** ({_counted(seeds, 'year')}): mean accuracy {', '.join(shown)}.")
    parts += [watched(one) for one in drifting]
    batches = sum(len(one.months) for one in calm)
    false = sum(bool(row.drift) + bool(row.late) for one in calm for row in one.months)
    troubled = sum(any(row.drift or row.late for row in year) for one in calm for year in one.found[NEVER].values())
    total = sum(len(one.found[NEVER]) for one in calm)
    if total:
        parts.append(
            f"- **False alarms**: {false} in {batches} months without drift; {troubled} of {total} watches had any. "
            "Promised are at most 5 % of the watches."
        )
    return "\n".join(filled(part) for part in parts)


def _unmeasured(years: Sequence[Years]) -> str:
    """Of which worlds and policies no year is finished."""
    lacking = [
        f"{one.world.title} ({', '.join(policies)})"
        for one in years
        for policies in [[name for name in ((NEVER,) if one.world.calm else POLICIES) if name not in one.found]]
        if policies
    ]
    return "\n" + filled("- **Not measured yet**: " + "; ".join(lacking) + ".") if lacking else ""


def accuracy_table(years: Years) -> str:
    """Accuracy over the year and in its quarters, what it took."""
    head = ["policy", "years", "whole year", *(f"months {q}-{q + 2}" for q in QUARTERS)]
    head += ["new versions a year", "gradients a year", "seconds a year"]
    cells: list[list[str]] = []
    for policy, found in years.found.items():
        rows = [row for year in found.values() for row in year]
        count = len(found)
        quarters = [f"{years.accuracy(policy, q, q + 2):.1f}" for q in QUARTERS]
        cells.append(
            [
                policy,
                str(count),
                f"**{years.accuracy(policy):.1f}**",
                *quarters,
                f"{sum(year[-1].version - 1 for year in found.values()) / count:.1f}",
                f"{sum(row.passes for row in rows) / count:,.0f}",
                f"{sum(row.seconds for row in rows) / count:.0f}",
            ]
        )
    return table(head, cells)


PAIRS = ((BASE, NEVER), (OLD, NEVER), (RETUNED, NEVER), (RETUNED, BASE), (RETUNED, OLD), (COMMAND, NEVER))


def pairs_table(years: Years) -> str:
    """Differences of two policies on the same months."""
    cells: list[list[str]] = []
    for policy, other in PAIRS:
        if policy in years.found and other in years.found:
            gains = years.gains(policy, other)
            cells.append([f"{policy} minus {other}", str(len(gains)), difference(gains)])
    return table(["difference", "months", "points of accuracy"], cells)


def difference(gains: Sequence[float]) -> str:
    """Mean and bounds; bold if they leave out 0."""
    low, high = _bounds(gains)
    text = f"{statistics.fmean(gains):+.1f} [{low:+.1f}, {high:+.1f}]"
    return f"**{text}**" if _shown(gains) else text


def _bounds(gains: Sequence[float]) -> tuple[float, float]:
    return bounds(gains, critical_values((len(gains),), LEVEL)[-1]) if len(set(gains)) > 1 else (gains[0], gains[0])


def alarm_table(years: Sequence[Years]) -> str:
    """Of the watch of the first model: alarms in months that differ from training, and in others."""
    head = ["world", "watches", "months", "of inputs", "of expected accuracy", "of labels"]
    cells: list[list[str]] = []
    for one in years:
        for what, rows in _by_truth(one).items():
            inputs = sum(bool(set(row.drift or ()) & set(INPUTS)) for row in rows)
            expected = sum("expected_accuracy" in (row.drift or ()) for row in rows)
            watched = [row for row in rows if row.late is not None]
            labels = sum(bool(row.late) for row in watched)
            name = f"{one.world.title}: {what}"
            share = [f"{count} of {total}" for count, total in ((inputs, len(rows)), (expected, len(rows)))]
            cells.append([name, str(len(one.found[NEVER])), str(len(rows)), *share, f"{labels} of {len(watched)}"])
    return table(head, cells, "lr")


def _by_truth(years: Years) -> dict[str, list[Month]]:
    """The months of the first model by what is known of them, each with the alarms of its own labels, which came later.

    The labels of the last month do not come within the year.
    """
    rows = [
        dataclasses.replace(row, late=later.late if later is not None else None)
        for year in years.found[NEVER].values()
        for row, later in itertools.zip_longest(year, year[1:])
    ]
    if years.world.calm:
        return {"no drift, all alarms are false": rows}
    if years.world.changed is not None:
        changed = years.world.changed
        return {
            "months before the drift": [row for row in rows if not changed[row.month - 1]],
            "months with drift": [row for row in rows if changed[row.month - 1]],
        }
    return {"months of the seasons": rows}


def month_table(years: Years) -> str:
    """Each month: accuracy of each policy, and the alarms of the first model's watch; the first seed."""
    shown = {policy: found[0] for policy, found in years.found.items() if 0 in found}
    head = ["month", *shown, "expected", "alarms, inputs", "alarms, labels of the month before", "`letsam retune`"]
    cells: list[list[str]] = []
    for place in range(MONTHS):
        never = shown[NEVER][place]
        verdict = shown[COMMAND][place].retuned if COMMAND in shown else None
        cells.append(
            [
                str(place + 1),
                *(f"{100 * year[place].accuracy:.1f}" for year in shown.values()),
                "" if never.expected is None else f"{100 * never.expected:.1f}",
                _written(never.drift),
                _written(never.late),
                verdict or "",
            ]
        )
    return table(head, cells, "r" + "r" * (len(shown) + 1) + "l")


def _written(codes: Sequence[str] | None) -> str:
    return ", ".join(code.replace("_", " ") for code in codes or ())


def _counted(number: int, word: str) -> str:
    return f"{number} {word}{'s' if number > 1 else ''}"


def figure(rows: Sequence[Month], settings: Mapping[str, World]) -> Figure:
    """Accuracy over the year, a panel for each world that drifts; marks where the first model's watch had an alarm."""
    years = [Years.of(name, world, rows) for name, world in settings.items() if not world.calm]
    years = [one for one in years if NEVER in one.found]
    drawn = Figure(figsize=(5.2 * max(1, len(years)), 3.8), layout="constrained")
    panels: Any = drawn.subplots(1, max(1, len(years)), squeeze=False)[0]
    for axes, one in zip(panels, years, strict=False):
        for policy, found in one.found.items():
            curve = [100 * statistics.fmean(year[place].accuracy for year in found.values()) for place in range(MONTHS)]
            axes.plot(range(1, MONTHS + 1), curve, color=COLOURS[policy], label=policy, lw=1.6, marker="o", ms=2.5)
        bottom = axes.get_ylim()[0]
        alarmed = sorted({row.month for row in one.months if row.drift})
        axes.plot(alarmed, [bottom] * len(alarmed), "^", color="black", ms=5, label="alarm of inputs", clip_on=False)
        late = sorted({row.month - 1 for row in one.months if row.late})
        axes.plot(late, [bottom] * len(late), "x", color="red", ms=6, label="alarm of labels", clip_on=False)
        dress(axes, one.world.title, "month", "accuracy %")
        axes.set_xticks(range(1, MONTHS + 1))
    if years:
        fullest = max(range(len(years)), key=lambda place: len(years[place].found))
        panels[fullest].legend(frameon=False, fontsize=7)
    return drawn
