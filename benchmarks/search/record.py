"""What is kept of a trial of an idea, and how it is measured."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.search.batched import Radii, Samples, train
from benchmarks.search.ideas import BY_NAME, IDEAS, Idea
from benchmarks.search.radii import ReplayedRadii
from benchmarks.search.settings import SETTINGS, STARTS, Setting, samples
from letsam.results import write_atomically
from letsam.tasks import Task

RECORD = Path(__file__).resolve().parents[2] / "docs" / "evidence" / "search.json"
GRID = {"SGD": 0.0, "SAM 0.05": 0.05, "SAM 0.1": 0.1, "SAM 0.2": 0.2, "SAM 0.5": 0.5}
NAMES = (*GRID, *BY_NAME)
MOMENTS = (0.25, 0.5, 1.0)  # shares of the run at which the radius is kept


@dataclass(frozen=True)
class Row:
    """One idea, or one radius of the grid, on one setting.

    Attributes:
        setting: of `SETTINGS`.
        name: of `NAMES`.
        epochs: of every training.
        accuracy: test accuracy in percent after training on all data, [start][seed]; the grid has one "start".
        held_out: the same at the end of learning the radius, trained on what is not held out; none for the grid.
        rho: geometric mean over the seeds at `MOMENTS` of the training, [start][moment]; none for the grid.
    """

    setting: str
    name: str
    epochs: int
    accuracy: list[list[float]]
    held_out: list[list[float]]
    rho: list[list[float]]


def measure_grid(task: Task, name: str, setting: Setting) -> list[Row]:
    """Train with every radius of the grid, all at once."""
    everything = samples(task, setting, None)
    seeds = [seed for _ in GRID for seed in range(setting.seeds)]
    rho = torch.tensor([rho for rho in GRID.values() for _ in range(setting.seeds)])
    end = train(everything, setting.sizes, seeds, Radii(rho), epochs=setting.epochs)
    by_radius = _rows(end.accuracy, len(GRID))
    return [Row(name, one, setting.epochs, [found], [], []) for one, found in zip(GRID, by_radius, strict=True)]


def measure(task: Task, name: str, setting: Setting, idea: Idea) -> Row:
    """Learn the radii from every start and with every seed, then train on all data with what was learned."""
    seeds = [seed for _ in STARTS for seed in range(setting.seeds)]
    starts = torch.tensor([start for start in STARTS for _ in range(setting.seeds)])
    held_out: Samples = samples(task, setting, idea.share)
    radii = idea.radii(starts, **idea.options)
    learned = train(held_out, setting.sizes, seeds, radii, epochs=setting.epochs)
    everything = samples(task, setting, None)
    replayed = ReplayedRadii(learned.rho, setting.epochs * everything.order(0).shape[1], radii.rule.burn_in)
    refit = train(everything, setting.sizes, seeds, replayed, epochs=setting.epochs)
    last = len(learned.rho) - 1
    curve = learned.rho[[round(moment * last) for moment in MOMENTS]].log()
    means = curve.view(len(MOMENTS), len(STARTS), -1).mean(2).exp().t()
    accuracies = [_rows(end.accuracy, len(STARTS)) for end in (refit, learned)]
    return Row(name, idea.name, setting.epochs, *accuracies, rho=means.tolist())


def missing(rows: Sequence[Row], name: str, setting: Setting) -> Iterator[str]:
    """The ideas and radii that are not yet measured on a setting as it is now."""
    done = {row.name for row in rows if row.setting == name and _fits(row, setting)}
    wanted = [*GRID, *(idea.name for idea in IDEAS if idea.everywhere or setting.all_ideas)]
    return (one for one in wanted if one not in done)


def read(path: Path | None = None) -> list[Row]:
    """The rows that are finished; none where there is no record yet."""
    path = path or RECORD
    if not path.exists():
        return []
    return [Row(**fields) for fields in json.loads(path.read_text(encoding="utf-8"))["rows"]]


def write(rows: Sequence[Row], path: Path | None = None) -> None:
    """Save the rows, one a line, in the order of the settings and names."""
    order = {(s, n): i for i, (s, n) in enumerate((s, n) for s in SETTINGS for n in NAMES)}
    lines = [json.dumps(_rounded(row)) for row in sorted(rows, key=lambda row: order[row.setting, row.name])]
    head = f'{{\n "schema": 1,\n "starts": {json.dumps(STARTS)},\n "rows": [\n  '
    write_atomically(path or RECORD, head + ",\n  ".join(lines) + "\n ]\n}\n")


def _fits(row: Row, setting: Setting) -> bool:
    return row.epochs == setting.epochs and all(len(seeds) == setting.seeds for seeds in row.accuracy)


def _rows(values: Tensor, count: int) -> list[list[float]]:
    return values.view(count, -1).tolist()


def _rounded(row: Row) -> dict[str, Any]:
    """Its fields, numbers with 4 digits."""
    fields = asdict(row)
    for name in ("accuracy", "held_out", "rho"):
        fields[name] = [[float(f"{x:.4g}") for x in one] for one in fields[name]]
    return fields
