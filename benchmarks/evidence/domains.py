"""Kinds of data that the suite does not have: the learned radius in one run against a small grid."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.evidence.suite import SAM_STARTS
from benchmarks.evidence.summary import BELOW, EMPTY, Measured, in_points, is_close
from benchmarks.evidence.validation_kinds import RELEASED
from benchmarks.harness.page import table


def domains(found: Sequence[Measured]) -> str:
    """One line for each setting, and from how many starts learning meets the goal."""
    lines = [line for one in found if (line := _line(one))]
    if not lines:
        return EMPTY
    values = [value for _, differences, _ in lines for value in differences]
    rows = [[*head, *map(in_points, differences), cost] for head, differences, cost in lines]
    head = ["setting", "data", "seeds", "base", "best of grid", *(f"from {start}" for start in SAM_STARTS), "cost"]
    close = f"At least the best of the grid minus {BELOW}: {sum(map(is_close, values))} of {len(values)} starts."
    return f"{table(head, rows)}\n\n{close}"


def _line(one: Measured) -> tuple[list[str], list[float], str] | None:
    """(first cells, difference from each start, cost); None unless the grid and all starts have a seed in common."""
    best, names = one.best("sam"), [f"lets-sam:{start}@{RELEASED}" for start in SAM_STARTS]
    seeds = one.seeds("sam").intersection(*map(one.of, ["sgd", *names]))
    if best is None or not seeds:
        return None
    means = {name: row for name in ["sgd", best.name, *names] if (row := one.row(name, seeds))}
    highest = means[best.name]
    cost = sum(means[name].passes for name in names) / len(names) / highest.passes
    radius = f"{highest.accuracy:.1f} (`{best.name.split(':')[1]}`)"
    head = [one.setting.title, str(one.setting.domain), str(len(seeds)), f"{means['sgd'].accuracy:.1f}", radius]
    return head, [one.difference(name, best, seeds) for name in names], f"{cost:.2f}"
