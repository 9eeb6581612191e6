"""The settings, the work and the page of the benchmark."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure
from scipy.stats import rankdata
from torch import nn
from torch.utils.data import TensorDataset

from benchmarks.harness import Benchmark, Row, Unit
from benchmarks.harness.page import BLUE, GREY, LIGHT_BLUE, ORANGE, dress, spread, table
from benchmarks.harness.training import loaded, trained
from letsam.sharpness import ascent_sharpness, hessian_spectrum, landscape_slice
from letsam.tasks import Task
from letsam.training.sampling import make_splits

RADII = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
OFFSETS, DIRECTIONS = 21, 3
BATCH = 500


@dataclass(frozen=True)
class Setting:
    """A task as it is trained here, by SGD, SAM at its default and at a larger radius, and the learned radius."""

    task: str
    label_noise: float
    epochs: int
    train_size: int | None = None  # None: all
    methods: tuple[str, ...] = ("sgd", "sam:0.05", "sam:0.2", "lets-sam:0.05")
    seeds: int = 3
    samples: int | None = None  # training samples that the measures see; None: all that every method has trained on

    @property
    def title(self) -> str:
        """The title on the page."""
        size = f", {self.train_size:,} labels" if self.train_size else ""
        return f"{self.task}{size}, {self.label_noise:.0%} label noise, {self.epochs} epochs"


@dataclass(frozen=True)
class Measured(Row):
    """One solution: its accuracy and its flatness."""

    setting: str
    method: str
    seed: int
    epochs: int
    rho_final: float | None  # None for SGD
    test_accuracy: float  # 0 to 1
    train_loss: float  # on the samples that the measures see
    eigenvalue: float  # the largest of the Hessian
    residual: float  # how far it may be off
    trace: float  # of the Hessian
    trace_error: float  # its standard error
    ascent: list[float]  # `ascent_sharpness` at each of `RADII`
    slice: list[float]  # loss along filter-normalized random directions, their mean at `OFFSETS` offsets in [-1, 1]


def flatness(model: nn.Module, task: Task, batches: list[tuple[Any, ...]]) -> dict[str, Any]:
    """The last fields of `Measured`; the random directions and vectors are the same for every solution."""
    spectrum = hessian_spectrum(model, task.loss, batches, top=1, iterations=20, trace_products=30)
    slices = [landscape_slice(model, task.loss, batches, points=OFFSETS, seed=seed) for seed in range(DIRECTIONS)]
    return {
        "train_loss": slices[0].losses[OFFSETS // 2].item(),
        "eigenvalue": spectrum.eigenvalues[0],
        "residual": spectrum.residuals[0],
        "trace": spectrum.trace,
        "trace_error": spectrum.trace_error,
        "ascent": ascent_sharpness(model, task.loss, batches, RADII),
        "slice": (sum(one.losses for one in slices) / DIRECTIONS).tolist(),  # pyright: ignore[reportAttributeAccessIssue]
    }


SETTINGS = {
    "digits-0.4": Setting("digits", 0.4, 60),
    "digits-0.0": Setting("digits", 0.0, 60),
    "fashion-mnist-0.4": Setting(
        "fashion-mnist", 0.4, 30, 2000, methods=("sgd", "sam:0.05", "sam:0.1", "lets-sam:0.05"), seeds=2, samples=250
    ),
}


class Flatness(Benchmark[Measured]):
    """Train, and measure the flatness of the solutions."""

    name, digits = "flatness", 5
    row, head = Measured, {"schema": 1, "radii": RADII}
    settings = SETTINGS

    def units(self) -> list[Unit]:
        """A run for each method and seed."""
        work = [(n, m, s) for n, one in self.settings.items() for m in one.methods for s in range(one.seeds)]
        return [Unit(key := f"{name}/{method}/{seed}", (key,), (name, method, seed)) for name, method, seed in work]

    def measure(self, unit: Unit) -> list[Measured]:
        """On training samples (wrong labels included), except those that a learned radius holds out."""
        name, method, seed = unit.work
        setting = self.settings[name]
        task, noise = loaded(setting.task, setting.train_size), setting.label_noise
        training = trained(task, method, seed, label_noise=noise, epochs=setting.epochs)
        run = training.result()
        data = make_splits(task, seed, label_noise=noise, validation_share=0.1, hold_out=True).train
        assert isinstance(data, TensorDataset)
        batches = list(zip(*(tensor[: setting.samples].split(BATCH) for tensor in data.tensors), strict=True))
        found = flatness(training.model, task, batches)
        return [Measured(name, method, seed, setting.epochs, run.rho_final, run.test_accuracy, **found)]

    def fits(self, row: Measured) -> bool:
        """Whether it was trained for the epochs of its setting."""
        return row.setting in self.settings and row.epochs == self.settings[row.setting].epochs

    def sections(self, rows: Sequence[Measured]) -> Mapping[str, object]:
        """Findings over the settings, and a table and a figure of each."""
        by_setting = self._by_setting(rows)
        parts = [
            f"## {self.settings[name].title}\n\n{_table(mine)}\n\n"
            f"![Loss slice and ascent sharpness, {name}](images/flatness-{name}.png)"
            for name, mine in by_setting.items()
        ]
        return {"directions": DIRECTIONS, "findings": _findings(by_setting), "settings": "\n\n".join(parts)}

    def figures(self, rows: Sequence[Measured]) -> Mapping[str, Figure]:
        """One per setting."""
        found = self._by_setting(rows).items()
        return {f"images/flatness-{name}.png": _figure(self.settings[name].title, mine) for name, mine in found}

    def _by_setting(self, rows: Sequence[Measured]) -> dict[str, list[Measured]]:
        found = {name: [row for row in rows if row.setting == name] for name in self.settings}
        return {name: mine for name, mine in found.items() if mine}


def _ascent(rho: float) -> Callable[[Measured], float]:
    return lambda run: run.ascent[RADII.index(rho)]


MEASURES: dict[str, Callable[[Measured], float]] = {
    "top eigenvalue": lambda run: run.eigenvalue,
    "trace": lambda run: run.trace,
    **{f"ascent {rho}": _ascent(rho) for rho in (0.05, 0.2, 1.0)},
}


def _by_method(runs: Sequence[Measured]) -> dict[str, list[Measured]]:
    return {method: [run for run in runs if run.method == method] for method in dict.fromkeys(r.method for r in runs)}


def _findings(by_setting: Mapping[str, Sequence[Measured]]) -> str:
    """Which method is flattest, which is best, and the rank correlation of the two over all runs."""
    rows: list[list[str]] = []
    for name, mine in by_setting.items():
        methods = _by_method(mine)
        flattest = min(methods, key=lambda m: statistics.fmean(run.eigenvalue for run in methods[m]))
        best = max(methods, key=lambda m: statistics.fmean(run.test_accuracy for run in methods[m]))
        accuracy = [run.test_accuracy for run in mine]
        signs = [f"{rank_correlation([measure(r) for r in mine], accuracy):+.2f}" for measure in MEASURES.values()]
        rows.append([name, str(len(mine)), *signs, f"`{flattest}`", f"`{best}`"])
    head = ["setting", "runs", *MEASURES, "flattest (eigenvalue)", "most accurate"]
    return table(head, rows, "lr" + "r" * len(MEASURES) + "ll")


def rank_correlation(left: Sequence[float], right: Sequence[float]) -> float:
    """Spearman's: Pearson's correlation of the ranks; 0 where one side is constant."""
    try:
        return statistics.correlation(list(rankdata(left)), list(rankdata(right)))
    except statistics.StatisticsError:
        return 0.0


def _table(runs: Sequence[Measured]) -> str:
    rows: list[list[str]] = []
    for method, mine in _by_method(runs).items():
        radii = [run.rho_final for run in mine if run.rho_final is not None]
        accuracy = [100 * run.test_accuracy for run in mine]
        loss = f"{statistics.fmean(run.train_loss for run in mine):.3g}"
        rho = f"{statistics.fmean(radii):.3g}" if radii else ""
        measures = [spread([measure(run) for run in mine], ".3g", ".2g") for measure in MEASURES.values()]
        rows.append([f"`{method}`", str(len(mine)), spread(accuracy, ".3g", ".2g"), loss, rho, *measures])
    return table(["method", "seeds", "test accuracy %", "train loss", "final rho", *MEASURES], rows)


def _figure(title: str, runs: Sequence[Measured]) -> Figure:
    """The slice, its rise above the middle, and ascent sharpness over radii."""
    figure = Figure(figsize=(10.5, 3.4), layout="constrained")
    whole, rise, ascent = figure.subplots(1, 3)
    points = len(runs[0].slice)
    offsets = [2 * i / (points - 1) - 1 for i in range(points)]
    for (method, mine), colour in zip(_by_method(runs).items(), (GREY, LIGHT_BLUE, BLUE, ORANGE), strict=False):
        losses = [statistics.fmean(column) for column in zip(*(run.slice for run in mine), strict=True)]
        line = {"color": colour, "label": method, "lw": 2.2 if method.startswith("lets") else 1.5}
        whole.plot(offsets, losses, **line)
        rise.plot(offsets, [loss - losses[points // 2] for loss in losses], **line)
        ascent.loglog(RADII, [statistics.fmean(c) for c in zip(*(run.ascent for run in mine), strict=True)], **line)
    dress(whole, "training loss along random directions", "offset (1: every filter's own length)")
    dress(rise, "its rise above the middle", "offset")
    dress(ascent, "ascent sharpness", "rho")
    whole.legend(frameon=False, fontsize=8)
    figure.suptitle(title, fontsize=10)
    return figure
