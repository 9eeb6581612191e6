"""The fixed radii that a trial tries by default, against the grids of docs/evidence.md."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean

import pytest

from letsam.training.config import DEFAULT_METHODS

EVIDENCE = Path(__file__).parents[2] / "docs" / "evidence"
NAMES = [method.name for method in DEFAULT_METHODS]


def grids(kind: str) -> Iterator[tuple[str, dict[str, float]]]:
    """Of each setting with a grid: the mean accuracy of every fixed radius, in percent."""
    for path in sorted(EVIDENCE.glob("*.json")):
        content = json.loads(path.read_text())
        if "setting" not in content:  # of another benchmark
            continue
        seeds: dict[str, list[float]] = defaultdict(list)
        for row in content["runs"]:
            if row["method"].startswith(f"{kind}:"):
                seeds[row["method"]].append(row["accuracy"])
        if seeds:
            yield path.stem, {method: 100 * fmean(values) for method, values in seeds.items()}


@pytest.mark.parametrize("kind", ["sam", "asam"])
def test_the_best_default_radius_is_close_to_the_best_of_the_whole_grid(kind: str) -> None:
    settings = dict(grids(kind))
    assert len(settings) >= 24
    lost = {
        setting: max(grid.values()) - max(value for method, value in grid.items() if method in NAMES)
        for setting, grid in settings.items()
    }
    assert max(lost.values()) <= 1.5
    assert fmean(lost.values()) <= 0.15


def test_the_other_defaults() -> None:
    assert [name for name in NAMES if ":" not in name] == ["sgd", "lets-sam", "lets-asam"]
    assert sum(name.startswith("sam:") for name in NAMES) == sum(name.startswith("asam:") for name in NAMES) == 4
