"""What is kept of a run: three numbers for each variant, and the curves of the one that `LearnedRadius` defaults to."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.fidelity.estimates import ESTIMATORS, Variant, compare
from benchmarks.fidelity.statistics import fidelity
from benchmarks.fidelity.trajectory import LEARNED, moments
from letsam.results import write_atomically

RECORD = Path(__file__).resolve().parents[2] / "docs" / "evidence" / "fidelity.json"
RADII: tuple[float | str, ...] = (0.02, 0.05, 0.1, 0.2, 0.5, LEARNED)
EVERY = 25
CURVES = Variant("validation_loss", "next", True, "secant")  # the other estimators' curves are drawn beside it


@dataclass(frozen=True)
class Row:
    """One variant along one run; see `statistics.fidelity`."""

    variant: Variant
    ratio: float
    sign: float
    correlation: float


@dataclass(frozen=True)
class Compared:
    """One training run.

    Attributes:
        radius: the fixed radius, or "learned".
        rho: the radius used at each compared step.
        rows: every variant.
        curves: "exact" and each estimator at each compared step, for the target of `CURVES`.
    """

    radius: float | str
    rho: list[float]
    rows: list[Row]
    curves: dict[str, list[float]]


def run(radius: float | str, every: int = EVERY, epochs: int | None = None) -> Compared:
    """Train once and compare every variant at every `every`-th step."""
    rho: list[float] = []
    pairs: dict[Variant, list[tuple[float, float]]] = {}
    for moment, value in moments(radius, seed=0, every=every, epochs=epochs):
        rho.append(value)
        for variant, pair in compare(moment, value).items():
            pairs.setdefault(variant, []).append(pair)
    curves = {name: [e for e, _ in pairs[replace(CURVES, estimator=name)]] for name in ESTIMATORS}
    curves["exact"] = [truth for _, truth in pairs[CURVES]]
    return Compared(radius, rho, [Row(variant, **fidelity(found)) for variant, found in pairs.items()], curves)


def read() -> list[Compared]:
    """The runs that are finished; none where there is no record yet."""
    if not RECORD.exists():
        return []
    runs = json.loads(RECORD.read_text(encoding="utf-8"))["runs"]
    return [
        Compared(one["radius"], one["rho"], [_row(fields) for fields in one["rows"]], one["curves"]) for one in runs
    ]


def _row(fields: dict[str, Any]) -> Row:
    return Row(Variant(**fields["variant"]), fields["ratio"], fields["sign"], fields["correlation"])


def write(runs: Sequence[Compared]) -> None:
    """Save the runs in the order of `RADII`, numbers with 4 digits."""
    parts: list[str] = []
    for one in sorted(runs, key=lambda one: RADII.index(one.radius)):
        rows = ",\n    ".join(json.dumps(_rounded(asdict(row))) for row in one.rows)
        curves = ",\n    ".join(f"{json.dumps(name)}: {json.dumps(_rounded(c))}" for name, c in one.curves.items())
        parts.append(
            f'  {{"radius": {json.dumps(one.radius)}, "rho": {json.dumps(_rounded(one.rho))},\n'
            f'   "rows": [\n    {rows}],\n   "curves": {{\n    {curves}}}}}'
        )
    write_atomically(RECORD, f'{{\n "schema": 1,\n "every": {EVERY},\n "runs": [\n' + ",\n".join(parts) + "\n ]\n}\n")


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _rounded(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_rounded(one) for one in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value
