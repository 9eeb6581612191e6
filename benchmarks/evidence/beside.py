"""What else one could do, beside the learned radius: tuned for each setting, and with one setting for all of them."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable

from benchmarks.evidence.suite import PAPER_START
from benchmarks.evidence.summary import EMPTY, Measured, Row, in_points, is_close
from benchmarks.harness.page import table
from letsam.reports.table import NOTHING
from letsam.training.methods import REFIT

SCHEDULES = {
    "sam": {"rising": "sam-rising", "GSAM schedule": "gsam-schedule", "loss budget": "sam-budget"},
    "asam": {"rising": "asam-rising"},
}
PAPER = f"lets-paper-sam:{PAPER_START}"
ALONE = {"Optuna": "optuna-sam", "the paper's reading, refit": PAPER + REFIT}
PEERS = (*SCHEDULES["sam"], *ALONE)


def tuned(found: list[Measured]) -> str:
    """Each at its best in each setting, in one table over the settings in which all of it is finished."""
    lines = [(one.setting.title, *result) for one in found if (result := _tuned(one))]
    if not lines:
        return EMPTY
    rows = [[title, str(seeds), *map(in_points, values)] for title, seeds, values in lines]
    ahead = [sum(values[0] > values[place] for *_, values in lines) for place in range(1, len(PEERS) + 1)]
    counts = ", ".join(f"{name} {count}" for name, count in zip(PEERS, ahead, strict=True))
    numbers = table(["setting", "seeds", "learned, refit", *PEERS], rows)
    return f"{numbers}\n\nLearning is ahead, of {len(lines)} settings: {counts}."


def _tuned(one: Measured) -> tuple[int, list[float]] | None:
    """(seeds, [learned, *PEERS]) of a setting; None unless all of them have a seed in common with the grid."""
    grids = [one.names(kind) for kind in SCHEDULES["sam"].values()]
    learned = [f"lets-sam:{start}{REFIT}" for start in one.setting.sam_starts]
    best = one.best("sam")
    names = [*learned, *ALONE.values(), *(name for grid in grids for name in grid)]
    seeds = one.seeds("sam").intersection(*map(one.of, names))
    if best is None or not seeds or not all(grids):
        return None
    values = {name: one.difference(name, best, seeds) for name in names}
    at_best = [max(values[name] for name in grid if not math.isnan(values[name])) for grid in grids]
    mean = statistics.fmean(values[name] for name in learned)
    return len(seeds), [mean, *at_best, *(values[name] for name in ALONE.values())]


def untuned(kind: str, found: list[Measured]) -> str:
    """Each with the same number in all settings of images, and in all of text."""
    bests = [(one, best) for one in found if (best := one.best(kind))]
    sides = [[(one, best) for one, best in bests if one.setting.text is text] for text in (False, True)]
    rows = {name: [_differences(name, side) for side in sides] for name in _methods(kind, found)}
    if not any(name.startswith("lets-") for name in rows):
        return EMPTY
    ordered = sorted(rows.items(), key=lambda row: -min(row[1][0], default=-math.inf))
    titles = zip(("images", "text"), sides, strict=True)
    columns = [f"{name}: {one}" for name, side in titles for one in ("mean", "worst", f"close, of {len(side)}")]
    return table(
        ["method", *columns],
        [[f"`{name}`", *_cells(images), *_cells(text)] for name, (images, text) in ordered if images or text],
    )


def _methods(kind: str, found: list[Measured]) -> Iterable[str]:
    """All that take one number, and what learns or searches it, in the order of the suite."""
    kinds = {"sgd", kind, f"lets-{kind}", f"lets-paper-{kind}", f"optuna-{kind}", *SCHEDULES[kind].values()}
    names = [record.method for one in found for record in one.records]
    return dict.fromkeys(name for name in names if name.split(":")[0] in kinds)


def _differences(name: str, side: list[tuple[Measured, Row]]) -> list[float]:
    """A method minus the best of the grid in each setting; empty unless it ran in all, and diverged in none."""
    values = [one.difference(name, best) for one, best in side]
    return [] if any(map(math.isnan, values)) else values


def _cells(values: list[float]) -> list[str]:
    if not values:
        return [NOTHING] * 3
    return [in_points(statistics.fmean(values)), in_points(min(values)), str(sum(map(is_close, values)))]
