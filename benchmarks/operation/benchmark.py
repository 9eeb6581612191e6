"""The settings, the work and the page of the benchmark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from benchmarks.harness import Benchmark, Unit
from benchmarks.operation import findings
from benchmarks.operation.worlds import MONTHS, WORLDS
from benchmarks.operation.year import NEVER, POLICIES, Month, begun, operated


class Operation(Benchmark[Month]):
    """Go through years of operation."""

    name, page, digits = "operation", "drifting-world", 5
    row, head = Month, {"schema": 1}
    rows = "months"
    settings = WORLDS

    def units(self) -> list[Unit]:
        """A year for each world, seed and policy; without drift, nothing is re-trained."""
        found: list[Unit] = []
        for name, world in self.settings.items():
            for seed in range(world.seeds):
                for policy in (NEVER,) if world.calm else POLICIES:
                    key = f"{name}/{policy}/{seed}"
                    keys = tuple(f"{key}/{month}" for month in range(1, MONTHS + 1))
                    found.append(Unit(key, keys, (name, policy, seed)))
        return found

    def measure(self, unit: Unit) -> list[Month]:
        """A whole year."""
        name, policy, seed = unit.work
        return operated(name, policy, seed, begun(self.settings[name], seed))

    def fits(self, row: Month) -> bool:
        """Whether it is of a year that would be measured."""
        return row.world in self.settings and row.seed < self.settings[row.world].seeds

    def sections(self, rows: Sequence[Month]) -> Mapping[str, object]:
        """Tables, and the numbers of the conclusion."""
        return findings.sections(rows, self.settings)

    def figures(self, rows: Sequence[Month]) -> Mapping[str, Figure]:
        """Accuracy and alarms over the year."""
        return {"images/drifting-world.png": findings.figure(rows, self.settings)}
