"""What is kept of a run, and where: one small file a run under runs/, one file a setting under docs/evidence."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.evidence.suite import Setting
from letsam.results import Run, write_atomically

ROOT = Path(__file__).resolve().parents[2]
POINTS = 20
"""The most points of a kept curve."""
DIGITS = 5
"""Significant digits of what is kept."""


@dataclass(frozen=True)
class Record:
    """One run without its history; a number that is not finite is NaN here and null in JSON.

    Attributes:
        method, seed: of the run.
        accuracy: on the test set, 0 to 1.
        loss: on the test set.
        train_loss: on what was trained on.
        gap: `loss - train_loss`.
        rho: after the last step, or what a search chose; None without a radius.
        passes: forward and backward passes, those of a search included.
        seconds: of training, those of a search included.
        curve: the learned radius at evenly spaced steps, at most 20; None for other methods.
    """

    method: str
    seed: int
    accuracy: float
    loss: float
    train_loss: float
    gap: float
    rho: float | None
    passes: int
    seconds: float
    curve: tuple[float, ...] | None = None

    @classmethod
    def of(cls, run: Run) -> Record:
        """What is kept of `run`."""
        schedule = run.mean_radii
        return cls(
            run.method,
            run.seed,
            run.test_accuracy,
            run.test_loss,
            run.train_loss,
            run.generalization_gap,
            run.rho_final,
            run.gradient_passes,
            run.seconds,
            thinned(schedule) if schedule else None,
        )

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Record:
        """Take back what `as_json` gave."""
        fields = dict(value)
        for name in ("accuracy", "loss", "train_loss", "gap"):
            fields[name] = math.nan if fields[name] is None else fields[name]
        if curve := fields.get("curve"):
            fields["curve"] = tuple(math.nan if rho is None else rho for rho in curve)
        return cls(**fields)

    def as_json(self) -> dict[str, Any]:
        """The fields as JSON values, numbers rounded; a missing curve is left out."""
        fields = {name: _plain(value) for name, value in vars(self).items()}
        return fields if self.curve is not None else {k: v for k, v in fields.items() if k != "curve"}


def thinned(values: Sequence[float]) -> tuple[float, ...]:
    """At most `POINTS` of the values, evenly spaced, the first and the last among them."""
    last = len(values) - 1
    count = min(POINTS, len(values))
    return tuple(values[round(i * last / max(count - 1, 1))] for i in range(count))


@dataclass(frozen=True)
class Store:
    """Where things are.

    Attributes:
        runs: folder of one file a run; what is there is finished.
        kept: folder of one file a setting, from which the tables are made.
        page: the page with the tables.
    """

    runs: Path = ROOT / "runs" / "evidence"
    kept: Path = ROOT / "docs" / "evidence"
    page: Path = ROOT / "docs" / "evidence.md"

    @classmethod
    def within(cls, folder: Path) -> Store:
        """All of it in one folder, away from the documentation."""
        return cls(folder / "runs", folder / "kept", folder / "evidence.md")

    def save(self, setting: Setting, record: Record, environment: dict[str, Any]) -> None:
        """Keep a finished run."""
        value = {"config": setting.config, "environment": environment, "run": record.as_json()}
        write_atomically(self._path(setting, record.method, record.seed), json.dumps(value) + "\n")

    def finished(self, setting: Setting) -> Callable[[str, int], bool]:
        """Whether a row with a seed is finished: here, or earlier and kept for the tables."""
        kept = self.kept_records(setting)
        return lambda row, seed: (row, seed) in kept or self._read(setting, row, seed) is not None

    def forget(self, setting: Setting, rows: Iterable[tuple[str, int]]) -> int:
        """Remove finished runs, so that they are run again; returns how many there were."""
        paths = [path for row, seed in rows if (path := self._path(setting, row, seed)).exists()]
        for path in paths:
            path.unlink()
        return len(paths)

    def collect(self, setting: Setting, rows: Iterable[tuple[str, int]]) -> Path | None:
        """Write what the tables need of a setting: the finished runs, and those kept earlier that are not run again.

        Args:
            setting: the setting.
            rows: (row, seed) in their order.

        Returns:
            The file written; None where nothing is finished.
        """
        kept = self.kept_records(setting)
        found: list[Record] = []
        environment: dict[str, Any] = self._environment(setting)
        for row, seed in rows:
            value = self._read(setting, row, seed)
            if value:
                environment = value["environment"]
                found.append(Record.from_json(value["run"]))
            elif (row, seed) in kept:
                found.append(kept[row, seed])
        if not found:
            return None
        head = {"setting": setting.name, "config": setting.config, "environment": environment}
        lines = ",\n".join(f"  {json.dumps(record.as_json())}" for record in found)
        text = "\n".join(f" {json.dumps(name)}: {json.dumps(value)}," for name, value in head.items())
        path = self.kept / f"{setting.name}.json"
        write_atomically(path, "{\n" + text + '\n "runs": [\n' + lines + "\n ]\n}\n")
        return path

    def kept_records(self, setting: Setting) -> dict[tuple[str, int], Record]:
        """The records of a setting's file, by row and seed; none where it has other options."""
        value = self._kept(setting)
        records = map(Record.from_json, value["runs"]) if value else []
        return {(record.method, record.seed): record for record in records}

    def _environment(self, setting: Setting) -> dict[str, Any]:
        value = self._kept(setting)
        return value["environment"] if value else {}

    def _kept(self, setting: Setting) -> dict[str, Any] | None:
        path = self.kept / f"{setting.name}.json"
        value = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        return value if value.get("config") == setting.config else None

    def _path(self, setting: Setting, row: str, seed: int) -> Path:
        return self.runs / setting.name / f"{row.replace(':', '=')}@{seed}.json"

    def _read(self, setting: Setting, row: str, seed: int) -> dict[str, Any] | None:
        path = self._path(setting, row, seed)
        if not path.exists():
            return None
        value = json.loads(path.read_text(encoding="utf-8"))
        return value if value["config"] == setting.config else None


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None
    return value
