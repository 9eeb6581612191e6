"""The learned radius in one run, its cheaper form, and methods that climb in the last part of a run only."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.evidence.late_peers import TITLES
from benchmarks.evidence.suite import LATE_GRID, QUICK
from benchmarks.evidence.summary import EMPTY, Measured, in_points
from benchmarks.evidence.validation_kinds import RELEASED
from benchmarks.harness.page import filled, table

OURS = ("learned", "cheaper")


@dataclass(frozen=True)
class Side:
    """A method in a setting."""

    difference: float  # minus the best of the grid, in points
    passes: float  # as a multiple of those of the base optimizer, which makes one in each step
    rho: str = ""  # the best of its grid

    def cells(self) -> list[str]:
        """Difference and passes."""
        radius = f" (`{self.rho}`)" if self.rho else ""
        return [f"{in_points(self.difference)}{radius}", f"{self.passes:.2f}"]


@dataclass(frozen=True)
class Line:
    """A setting in which everything that is compared has a seed in common."""

    title: str
    seeds: int
    base: float  # the base optimizer minus the best of the grid, in points
    sides: dict[str, Side]  # of OURS and TITLES


def late(found: Sequence[Measured]) -> str:
    """One line for each setting, their mean, how often learning is ahead, and what is kept of the gain."""
    lines = [line for one in found if (line := _line(one))]
    if not lines:
        return EMPTY
    names = [*OURS, *TITLES.values()]
    rows = [[a.title, str(a.seeds), in_points(a.base), *_cells([a.sides[name] for name in names])] for a in lines]
    means = {name: _mean([line.sides[name] for line in lines]) for name in names}
    base = statistics.fmean(line.base for line in lines)
    rows.append(["mean", "", in_points(base), *_cells(list(means.values()))])
    head = [cell for name in names for cell in (name, "passes")]
    return "\n\n".join([table(["setting", "seeds", "base", *head], rows), _ahead(lines), *_kept(base, means)])


def _line(one: Measured) -> Line | None:
    """None unless the grid and all methods have a seed in common."""
    best, starts = one.best("sam"), one.setting.sam_starts
    grids = {title: {rho: f"{name}:{rho}" for rho in LATE_GRID} for name, title in TITLES.items()}
    learned = [f"lets-sam:{start}@{RELEASED}" for start in starts]
    names = ["sgd", *learned, QUICK, *(name for grid in grids.values() for name in grid.values())]
    seeds = one.seeds("sam").intersection(*map(one.of, names))
    if best is None or not seeds:
        return None
    differences = {name: one.difference(name, best, seeds) for name in names}
    passes = {name: row.passes for name in names if (row := one.row(name, seeds))}
    base = passes["sgd"]
    change, price = (statistics.fmean(values[name] for name in learned) for values in (differences, passes))
    sides = {OURS[0]: Side(change, price), OURS[1]: Side(differences[QUICK], passes[QUICK])}
    for title, grid in grids.items():
        rho = max(grid, key=lambda rho: -math.inf if math.isnan(differences[grid[rho]]) else differences[grid[rho]])
        sides[title] = Side(differences[grid[rho]], passes[grid[rho]], rho)
    sides = {title: Side(side.difference, side.passes / base, side.rho) for title, side in sides.items()}
    return Line(one.setting.title, len(seeds), differences["sgd"], sides)


def _mean(sides: list[Side]) -> Side:
    return Side(statistics.fmean(side.difference for side in sides), statistics.fmean(side.passes for side in sides))


def _cells(sides: list[Side]) -> list[str]:
    return [cell for side in sides for cell in side.cells()]


def _ahead(lines: list[Line]) -> str:
    """In how many settings each form of learning is ahead of each of the others."""
    parts: list[str] = []
    for ours in OURS:
        wins = {
            a: sum(line.sides[ours].difference > line.sides[a].difference for line in lines) for a in TITLES.values()
        }
        parts.append(f"{ours} is ahead of " + " and of ".join(f"{peer} in {count}" for peer, count in wins.items()))
    return filled(f"Of {len(lines)} settings, {'; '.join(parts)}.")


def _kept(base: float, means: dict[str, Side]) -> list[str]:
    """What the methods keep of the gain of the best radius over the base optimizer, both means over the settings."""
    if not base < 0:
        return []
    shares = [f"{name} {1 - side.difference / base:.0%}" for name, side in means.items()]
    return [filled(f"Kept of the best radius's gain over the base optimizer, in the mean: {', '.join(shares)}.")]
