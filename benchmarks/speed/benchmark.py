"""The measurements, and the page."""

from __future__ import annotations

import functools
import importlib.util
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from matplotlib.figure import Figure

from benchmarks.harness import Benchmark, Row, Unit
from benchmarks.speed import alone, forward, messages, tables, whole
from benchmarks.speed.cost import Rows
from benchmarks.speed.networks import NETWORKS

PARTS: dict[str, dict[str, Callable[[], Rows]]] = {
    "whole": {f"whole/{name}": functools.partial(whole.measure, name) for name in NETWORKS},
    "forward": {f"forward/{name}": functools.partial(forward.measure, name) for name in NETWORKS},
    "step": {name: functools.partial(alone.measure, *workload) for name, workload in alone.ALL.items()},
    "growth": {name: functools.partial(alone.measure_growth, *sizes) for name, sizes in alone.SIZES.items()},
    "ranks": {f"ranks/{ranks}": functools.partial(messages.measure, ranks) for ranks in (1, 2)},
}
"""By the sections of the page."""
SETTINGS = {name: make for part in PARTS.values() for name, make in part.items()}


@dataclass(frozen=True)
class Piece(Row):
    """The results of one measurement."""

    parts: ClassVar = ("name",)
    name: str
    measured: Rows  # numbers by what they are of, for each contender


class Speed(Benchmark[Piece]):
    """The benchmark of speed; the contenders of a piece alternate."""

    name, depth = "speed", 3
    settings = SETTINGS

    def units(self) -> list[Unit]:
        """One unit per piece."""
        return [Unit(name, (name,)) for name in self.settings]

    def measure(self, unit: Unit) -> list[Piece]:
        """All contenders of a piece."""
        if unit.name.startswith("whole/") and importlib.util.find_spec("betty") is None:
            print("betty-ml is not installed (docs/speed.md says how): its rows will be missing", file=sys.stderr)
        return [Piece(unit.name, self.settings[unit.name]())]

    def from_json(self, content: dict[str, Any]) -> list[Piece]:
        """A line for each contender."""
        return [Piece(name, measured) for name, measured in content["workloads"].items()]

    def to_json(self, rows: Sequence[Piece]) -> dict[str, Any]:
        """In the order of the pieces."""
        found = {row.key: row.measured for row in rows}
        return {"schema": 1, "workloads": {name: found[name] for name in self.settings if name in found}}

    def sections(self, rows: Sequence[Piece]) -> Mapping[str, object]:
        """A section for each part."""
        found = _by_part(rows)
        return {
            **tables.whole_steps(found["whole"]),
            **tables.slopes(found["forward"]),
            **tables.without_passes(found["step"]),
            **tables.growth(found["growth"]),
            **tables.messages(found["ranks"]),
        }

    def figures(self, rows: Sequence[Piece]) -> Mapping[str, Figure]:
        """Ratios as bars, and growth."""
        found = _by_part(rows)
        return {
            "images/speed.png": tables.bars_without_passes(found["step"]),
            "images/speed-steps.png": tables.bars_of_whole_steps(found["whole"]),
            "images/speed-growth.png": tables.curves_of_growth(found["growth"]),
        }


def _by_part(rows: Sequence[Piece]) -> dict[str, dict[str, Rows]]:
    """What was measured by part and piece; the first part of a piece's name is left out where it is the part's."""
    found = {row.key: row.measured for row in rows}
    return {
        part: {name.removeprefix(f"{part}/"): found[name] for name in names if name in found}
        for part, names in PARTS.items()
    }
