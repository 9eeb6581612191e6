"""The settings on which the ideas are tried, how an idea is measured, and the page."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d
from torch.utils.data import TensorDataset

from benchmarks.harness import Benchmark, Unit
from benchmarks.harness.page import table
from benchmarks.search.batched import LearnedRadii, Radii, ReplayedRadii, Samples, cross_entropy, train
from benchmarks.search.claims import RADIUS, SPREAD, Tried, answered
from benchmarks.search.ideas import BY_NAME, IDEAS, LOSSES, Idea
from letsam.tasks import Task, load_task
from letsam.training.sampling import make_splits

STARTS = (0.01, 1.0)
TESTED = 4000  # test images, at most


@dataclass(frozen=True)
class Setting:
    """A task with label noise, a network and a length."""

    task: str  # "digits" or "fashion-mnist"
    train_size: int | None  # training samples; None for all
    pooled: int  # side of the squares of pixels that are averaged into one
    noise: float  # share of wrong training labels
    hidden: tuple[int, ...]  # widths of the hidden layers
    epochs: int  # of every training
    seeds: int  # 0 to `seeds` - 1
    all_ideas: bool = False  # whether those ideas are tried here that are not for everywhere

    @property
    def sizes(self) -> tuple[int, ...]:
        """Inputs, hidden layers, classes."""
        side = {"digits": 8, "fashion-mnist": 28}[self.task] // self.pooled
        return (side * side, *self.hidden, 10)


SETTINGS = {
    "digits-0.0": Setting("digits", None, 1, 0.0, (128, 128), 60, 3, True),
    "digits-0.2": Setting("digits", None, 1, 0.2, (128, 128), 60, 3),
    "digits-0.4": Setting("digits", None, 1, 0.4, (128, 128), 60, 3, True),
    "fashion-0.0": Setting("fashion-mnist", 2000, 2, 0.0, (128, 128), 30, 2),
    "fashion-0.4": Setting("fashion-mnist", 2000, 2, 0.4, (128, 128), 30, 2),
    "deep-0.4": Setting("fashion-mnist", 2000, 2, 0.4, (64,) * 5, 30, 2),
}


@functools.cache
def load(setting: Setting) -> Task:
    """The task, with flat inputs for the networks of this module."""
    task = load_task(setting.task, train_size=setting.train_size)

    def flat(data: Any, count: int | None = None) -> TensorDataset:
        images, targets = (tensor[:count] for tensor in data.tensors)
        return TensorDataset(torch.flatten(avg_pool2d(images, setting.pooled), 1), targets)

    return Task(name=task.name, model=task.model, train=flat(task.train), test=flat(task.test, TESTED))


def samples(task: Task, setting: Setting, share: float | None) -> Samples:
    """The splits of all seeds; without a share nothing is held out."""
    options = {"label_noise": setting.noise, "validation_share": share or 0.0, "hold_out": share is not None}
    return Samples({seed: make_splits(task, seed, **options) for seed in range(setting.seeds)})


GRID = {"SGD": 0.0, "SAM 0.05": 0.05, "SAM 0.1": 0.1, "SAM 0.2": 0.2, "SAM 0.5": 0.5}
NAMES = (*GRID, *BY_NAME)
MOMENTS = (0.25, 0.5, 1.0)  # shares of the run at which the radius is kept


class Search(Benchmark[Tried]):
    """Ideas x settings, and a grid of fixed radii."""

    name, row, rows, head = "search", Tried, "rows", {"schema": 1, "starts": STARTS}
    settings: Mapping[str, Setting] = SETTINGS

    def units(self) -> list[Unit]:
        """For each setting the grid, in one unit, and each idea."""
        units: list[Unit] = []
        for name, setting in self.settings.items():
            units.append(Unit(f"grid/{name}", tuple(f"{one}/{name}" for one in GRID), (name, None)))
            ideas = [idea.name for idea in IDEAS if idea.everywhere or setting.all_ideas]
            units += [Unit(f"{idea}/{name}", (f"{idea}/{name}",), (name, idea)) for idea in ideas]
        return units

    def measure(self, unit: Unit) -> list[Tried]:
        """With all seeds, and from every start."""
        name, idea = unit.work
        return _grid(name, self.settings[name]) if idea is None else [_idea(name, self.settings[name], BY_NAME[idea])]

    def fits(self, row: Tried) -> bool:
        """Whether it has the epochs and seeds of its setting."""
        setting = self.settings.get(row.setting)
        if setting is None or row.name not in NAMES:
            return False
        return row.epochs == setting.epochs and all(len(seeds) == setting.seeds for seeds in row.accuracy)

    def sections(self, rows: Sequence[Tried]) -> Mapping[str, object]:
        """Baseline, ideas, radii and claims."""
        settings = [name for name in self.settings if any(row.setting == name for row in rows)]
        best = {s: max(row.mean for row in rows if row.setting == s and row.name in GRID) for s in settings}
        scores: dict[str, list[float]] = {}
        for row in rows:
            scores.setdefault(row.name, []).append(row.mean - best[row.setting])
        means = {idea.name: fmean(scores[idea.name]) for idea in IDEAS if len(scores.get(idea.name, [])) == len(best)}
        top = max(means, key=lambda name: float(f"{means[name]:.1f}"))

        def numbers(head: list[str], lines: Sequence[tuple[str, ...]], cell: Callable[[Tried], str]) -> str:
            """One line per name, one column per setting; a cell is empty where the idea was not tried."""
            cells = {(row.name, row.setting): cell(row) for row in rows if any(row.name == line[0] for line in lines)}
            found = [[*line, *(cells.get((line[0], s), "") for s in settings)] for line in lines if line[0] in scores]
            return table([*head, *settings], found, "l" * len(head) + "r")

        def score(row: Tried) -> str:
            return f"{row.mean - best[row.setting]:+.1f} ({fmean(row.values(SPREAD)):.1f})"

        shown = {name: f"{mean:+.1f}" for name, mean in means.items()}
        ideas = [(one.name, one.predicts, one.decision, shown.get(one.name, "")) for one in IDEAS]
        names = [(idea.name,) for idea in IDEAS]
        return {
            "yardstick": numbers(["method"], [(name,) for name in GRID], lambda row: f"{row.mean:.1f}"),
            "ideas": numbers(["idea", "what it predicts", "decision", "mean"], ideas, score),
            "highest": f"The highest mean has *{top}* ({means[top]:+.1f}).",
            "radii": numbers(["idea"], names, lambda row: " / ".join(f"{rho:.2g}" for rho in row.values(RADIUS))),
            "claims": answered(rows),
        }


def _grid(name: str, setting: Setting) -> list[Tried]:
    """Train with all radii of the grid in parallel."""
    everything = samples(load(setting), setting, None)
    seeds = [seed for _ in GRID for seed in range(setting.seeds)]
    rho = torch.tensor([rho for rho in GRID.values() for _ in range(setting.seeds)])
    end = train(everything, setting.sizes, seeds, Radii(rho), epochs=setting.epochs)
    found = zip(GRID, _rows(end.accuracy, len(GRID)), strict=True)
    return [Tried(name, one, setting.epochs, [accuracy], [], []) for one, accuracy in found]


def _idea(name: str, setting: Setting, idea: Idea) -> Tried:
    """Learn the radii from every start and with every seed, then train on all data with the learned schedules."""
    task = load(setting)
    seeds = [seed for _ in STARTS for seed in range(setting.seeds)]
    starts = torch.tensor([start for start in STARTS for _ in range(setting.seeds)])
    radii = LearnedRadii(starts, idea.radius, LOSSES.get(idea.name, cross_entropy))
    learned = train(samples(task, setting, idea.share), setting.sizes, seeds, radii, epochs=setting.epochs)
    everything = samples(task, setting, None)
    replayed = ReplayedRadii(learned.rho, setting.epochs * everything.order(0).shape[1], radii.radius.rule.burn_in)
    refit = train(everything, setting.sizes, seeds, replayed, epochs=setting.epochs)
    last = len(learned.rho) - 1
    curve = learned.rho[[round(moment * last) for moment in MOMENTS]].log()
    means = curve.view(len(MOMENTS), len(STARTS), -1).mean(2).exp().t()
    accuracies = [_rows(end.accuracy, len(STARTS)) for end in (refit, learned)]
    return Tried(name, idea.name, setting.epochs, *accuracies, rho=means.tolist())


def _rows(values: Tensor, count: int) -> list[list[float]]:
    return values.view(count, -1).tolist()
