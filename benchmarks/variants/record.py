"""What is run, and docs/evidence/variants.json, which keeps it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.evidence.loading import loaded
from benchmarks.evidence.suite import SETTINGS, Setting
from letsam.results import Run, write_atomically
from letsam.training.config import TrialConfig
from letsam.training.devices import make_fabric
from letsam.training.loop import Training
from letsam.training.methods import REFIT, Method
from letsam.variants import VARIANTS

ROOT = Path(__file__).resolve().parents[2]
RECORD = ROOT / "docs" / "evidence" / "variants.json"
QUICK = ROOT / "runs" / "variants-quick.json"
SEEDS = 3


def _methods(*variants: str) -> tuple[str, ...]:
    return ("sgd", *(prefix + name for name in variants for prefix in ("", "lets-")))


PLACES = dict.fromkeys(("digits-0.0", "digits-0.4", "fashion-cnn-0.4"), _methods(*VARIANTS))
PLACES["fashion-resnet-0.4"] = _methods("sam", "samon")
"""Where which methods run. The networks of the first three have no normalisation layers, which SAM-ON perturbs."""


@dataclass(frozen=True)
class Row:
    """One run.

    Attributes:
        setting: of `PLACES`.
        method: a method's name; "+refit" for the training on all data with what was learned.
        seed: as for a trial.
        epochs: of the run; None: the task's own number.
        accuracy: of the test set, in [0, 1].
        passes: gradient passes, those of the search included in a refit.
        seconds: of training, those of the search included in a refit.
        rho: at the end; None without one.
        hindered: why it could not be run; None where it was.
    """

    setting: str
    method: str
    seed: int
    epochs: int | None
    accuracy: float = 0.0
    passes: int = 0
    seconds: float = 0.0
    rho: float | None = None
    hindered: str | None = None


@dataclass(frozen=True)
class Order:
    """A method on a setting with a seed, its refit included."""

    setting: Setting
    method: str
    seed: int

    @property
    def rows(self) -> tuple[str, ...]:
        """The methods' names of its rows."""
        return (self.method, self.method + REFIT) if Method.parse(self.method).is_learned else (self.method,)


def settings(*, quick: bool) -> list[Setting]:
    """The settings; with `quick` the first of them alone, tiny."""
    chosen = [setting for name in PLACES for setting in SETTINGS if setting.name == name]
    return [dataclasses.replace(chosen[0], epochs=1)] if quick else chosen


def orders(rows: Sequence[Row], *, quick: bool) -> list[Order]:
    """What is not yet recorded, cheapest setting first."""
    done = {(row.setting, row.method, row.seed, row.epochs) for row in rows}
    found = [
        Order(setting, method, seed)
        for setting in settings(quick=quick)
        for seed in range(1 if quick else SEEDS)
        for method in PLACES[setting.name]
    ]
    return [
        order
        for order in found
        if not all((order.setting.name, row, order.seed, order.setting.epochs) in done for row in order.rows)
    ]


def perform(order: Order, tell: Callable[[list[Row]], None]) -> None:
    """Train, and tell the rows; a method that does not fit the model says so in its row.

    Raises:
        TaskError: the data of the setting is missing.
    """
    setting = order.setting
    task = loaded(setting)
    method = Method.parse(order.method)
    config = TrialConfig(
        task=setting.task,
        methods=(method,),
        seeds=(order.seed,),
        epochs=setting.epochs,
        label_noise=setting.noise,
    )
    place = (setting.name, order.seed, setting.epochs)
    searched: Run | None = None
    rows: list[Row] = []
    for name in order.rows:
        try:
            training = Training(task, method, order.seed, config, make_fabric("cpu"), searched)
        except ValueError as error:
            rows.append(Row(place[0], name, place[1], place[2], hindered=str(error)))
            continue
        while not training.finished:
            training.advance()
        searched = run = training.result()
        rows.append(
            Row(place[0], name, place[1], place[2], run.test_accuracy, run.gradient_passes, run.seconds, run.rho_final)
        )
    tell(rows)


def read(path: Path) -> tuple[list[Row], list[dict[str, Any]]]:
    """The runs, and the errors of the hypergradients; nothing where there is no record yet."""
    if not path.exists():
        return [], []
    content = json.loads(path.read_text(encoding="utf-8"))
    return [Row(**fields) for fields in content["runs"]], content["errors"]


def write(path: Path, rows: Sequence[Row], errors: Sequence[dict[str, Any]]) -> None:
    """Save, one run a line, in a fixed order."""
    place = {name: i for i, name in enumerate(PLACES)}
    ordered = sorted(rows, key=lambda row: (place.get(row.setting, 99), row.method, row.seed))
    lines = ",\n  ".join(json.dumps(asdict(row)) for row in ordered)
    more = ",\n  ".join(json.dumps(error) for error in errors)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, f'{{\n "runs": [\n  {lines}\n ],\n "errors": [\n  {more}\n ]\n}}\n')
