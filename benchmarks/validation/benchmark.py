"""The settings and what is trained in each."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure

from benchmarks.harness import Benchmark, Row, Unit
from benchmarks.harness.training import trained
from benchmarks.validation.comparison import (
    ELSEWHERE,
    ON_SHIFTED,
    Results,
    figure,
    findings,
    lead,
    setting_table,
    summary_table,
)
from benchmarks.validation.data import DRAWS, augmented, task_named
from letsam.results import Run
from letsam.tasks import Task
from letsam.training.methods import Method

START = "lets-sam:0.05"
BASE, GRID = "base", "sam:"
LEARNED = {"learned-clean": None, "learned-test": "test", "learned-other": "other"}
AUGMENTED = {"base-augmented": "test", "base-augmented-other": "other", "learned-augmented": "test"}


@dataclass(frozen=True)
class Setting:
    """A task, the shifts of its test data, and others."""

    task: str
    title: str
    test: str  # each sample has one of these shifts
    other: str
    epochs: int
    seeds: int
    base: str = "SGD"
    label_noise: float = 0.0
    batch_size: int | None = None
    grid: tuple[float, ...] = (0.05, 0.1, 0.2, 0.5)

    @property
    def rows(self) -> list[str]:
        """What is trained."""
        return [BASE, *self.grid_rows, *LEARNED, *AUGMENTED]

    @property
    def grid_rows(self) -> list[str]:
        """SAM with each radius of the grid."""
        return [f"{GRID}{rho}" for rho in self.grid]

    def shifts(self, which: str | None) -> str | None:
        """The shifts "test" or "other"; None for clean data."""
        return None if which is None else {"test": self.test, "other": self.other}[which]


@dataclass(frozen=True)
class Measured(Row):
    """A trained model: accuracies from 0 to 1 on the test data; of a learned radius those of its refit."""

    setting: str
    method: str
    seed: int
    epochs: int
    clean: float
    under: dict[str, float]  # each of the shifts "test" and "other"
    rho_final: float | None
    passes: int  # with those of the search
    seconds: float  # of processor time, with the tests


DIGITS: dict[str, Any] = {"test": "noise:5,blur:5", "other": "contrast:5,affine:2"}  # 8x8 pixels bear more
CLOTHES: dict[str, Any] = {"test": "noise:4,blur:4", "other": "contrast:3,affine:2", "epochs": 20, "seeds": 3}

SMALL = (0.02, 0.05, 0.1, 0.2)

# The severities were chosen by the base optimizer alone, such that it loses some, but not all, of its accuracy.
SETTINGS = {
    "digits-0.0": Setting("digits", "digits, perceptron", **DIGITS, epochs=60, seeds=5, grid=(0.1, 0.2, 0.5, 1.0)),
    "digits-0.4": Setting(
        "digits",
        "digits, perceptron, 40% wrong labels",
        **DIGITS,
        epochs=60,
        seeds=5,
        label_noise=0.4,
        grid=(0.2, 0.5, 1.0, 2.0),
    ),
    "satimage": Setting(
        "satimage", "satimage (table), perceptron", "noisy:4,missing:4", "scaled:4,quantiles:3", 60, 5, base="AdamW"
    ),
    "letters": Setting("letters", "spoken letters (audio), CNN", "noise:2", "gain:3,band:1", 10, 3),
    "fashion-cnn": Setting("fashion-cnn", "Fashion-MNIST, CNN", **CLOTHES, grid=SMALL),
    "fashion-resnet": Setting("fashion-resnet", "Fashion-MNIST, ResNet", **CLOTHES),
    "fashion-vit": Setting("fashion-vit", "Fashion-MNIST, ViT", **CLOTHES, base="AdamW"),
    "snippets": Setting(
        "snippets",
        "movie snippets (text), transformer",
        "typos:5,dropped:5",
        "truncated:4",
        6,
        3,
        base="AdamW",
        batch_size=32,
        grid=SMALL,
    ),
    "fashion-cnn-0.4": Setting("fashion-cnn", "Fashion-MNIST, CNN, 40% wrong labels", **CLOTHES, label_noise=0.4),
}


class Validation(Benchmark[Measured]):
    """Train with clean and with shifted validation data, and test on clean and on shifted data."""

    name, digits = "validation", 5
    row, head = Measured, {"schema": 1}
    settings = SETTINGS

    def units(self) -> list[Unit]:
        """A run for each row and seed of each setting; seeds first, so that an unfinished setting has all rows."""
        work = [(n, row, s) for n, one in self.settings.items() for s in range(one.seeds) for row in one.rows]
        return [Unit(key := f"{name}/{row}/{seed}", (key,), (name, row, seed)) for name, row, seed in work]

    def measure(self, unit: Unit) -> list[Measured]:
        """Train a model, and test it."""
        started = time.process_time()
        name, row, seed = unit.work
        setting = self.settings[name]
        method = START if row.startswith("learned") else row if row.startswith(GRID) else "sgd"
        trains_on = setting.shifts(AUGMENTED.get(row))
        task = augmented(setting.task, trains_on) if trains_on else task_named(setting.task)
        validation = setting.shifts(LEARNED.get(row) or AUGMENTED.get(row))
        tested = f"{setting.test},{setting.other}"
        options = {"epochs": setting.epochs, "label_noise": setting.label_noise, "batch_size": setting.batch_size}
        run = _tested(task, method, seed, validation_shift=validation, evaluate_shift=tested, **options)
        under = {shift: run.shifted[shift]["metric"] or 0.0 for shift in tested.split(",")}
        found = (run.test_accuracy, under, run.rho_final, run.gradient_passes, time.process_time() - started)
        return [Measured(name, row, seed, setting.epochs, *found)]

    def fits(self, row: Measured) -> bool:
        """Whether the setting has the same length, shifts and rows."""
        setting = self.settings.get(row.setting)
        if setting is None or row.method not in setting.rows or row.seed >= setting.seeds:
            return False
        return row.epochs == setting.epochs and [*row.under] == f"{setting.test},{setting.other}".split(",")

    def sections(self, rows: Sequence[Measured]) -> Mapping[str, object]:
        """Numbers for the conclusion, a summary, and a table for each setting."""
        found = self._finished(rows)
        return {
            "minutes": round(sum(row.seconds for row in rows) / 60),
            "settings": len(found),
            "draws": DRAWS,
            "lead": lead(found),
            "findings": findings(found),
            "summary": summary_table(found, ON_SHIFTED),
            "elsewhere": summary_table(found, ELSEWHERE),
            "tables": "\n\n".join(f"### {_title(one)}\n\n{setting_table(one)}" for one in found),
        }

    def figures(self, rows: Sequence[Measured]) -> Mapping[str, Figure]:
        """The gains over the base optimizer."""
        return {"images/validation.png": figure(self._finished(rows))}

    def _finished(self, rows: Sequence[Measured]) -> list[Results]:
        """The settings of which at least one seed is finished."""
        made = (Results.of(one, [r for r in rows if r.setting == name]) for name, one in self.settings.items())
        return [one for one in made if one is not None]


def _title(found: Results) -> str:
    setting = found.setting
    return (
        f"{setting.title}\n\n{setting.base}, {setting.epochs} epochs, {found.seeds} seeds. "
        f"Shifted test: `{setting.test}`. Other shifts: `{setting.other}`."
    )


def _tested(task: Task, method: str, seed: int, **options: Any) -> Run:
    """A finished run; of a learned radius the refit on all the training data."""
    learned = Method.parse(method).is_learned
    searched = trained(task, method, seed, **options).result() if learned else None
    return trained(task, method, seed, searched=searched, **options).finish().run
