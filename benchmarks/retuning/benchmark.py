"""The settings, the work and the page of the benchmark."""

from __future__ import annotations

import dataclasses
import functools
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn
from torch.utils.data import Dataset, TensorDataset

from benchmarks.harness import Benchmark, Row, Unit
from benchmarks.harness.page import filled, spread, table
from benchmarks.harness.training import loaded
from letsam.decision import bounds, critical_values
from letsam.models import ModelOptions, with_options
from letsam.operation.challengers import AFRESH, GOES_ON, OLD, RETUNED, Challenger, RadiusHistory, challengers
from letsam.operation.retune_plan import EPOCHS, LR_FACTOR
from letsam.tasks import Task
from letsam.training.config import TrialConfig
from letsam.training.devices import make_fabric
from letsam.training.loop import Training
from letsam.training.methods import Method
from letsam.training.sampling import make_splits
from letsam.validation import shifted

SEEDS = 8
TRAIN_EPOCHS = 30  # of the model in use
SCHEDULES = ((0.1, 5), (0.1, 20), (0.3, 5), (0.3, 20), (1.0, 5), (1.0, 20), (1.0, 60))
"""Learning rates, as parts of that of training, and epochs."""
CHAMPION, BASE = "champion", "base optimizer"
FRESH, CONTINUE = "radius afresh", "radius goes on"
METHODS = (CHAMPION, BASE, OLD, FRESH, CONTINUE)
LEVEL = 0.05


@dataclass(frozen=True)
class World:
    """How the new data differ from those that the model in use was trained on."""

    title: str
    old_noise: float = 0.0  # fraction of wrong labels that the model in use was trained with
    new_noise: float = 0.0  # fraction of wrong labels in the new data; the test data have none
    shift: str | None = None  # of the new training, validation and test images


WORLDS = {
    "same": World("nothing changes"),
    "noise-sets-in": World("40% of the new labels are wrong", new_noise=0.4),
    "noise-ends": World("40% of the old labels were wrong, those of the new ones are right", old_noise=0.4),
    "shifted": World("the new images are turned, moved, scaled and sheared", shift="affine:3"),
    "shifted-noise": World("both: such images, 40% of the labels wrong", new_noise=0.4, shift="affine:3"),
}


@dataclass(frozen=True)
class Retuned(Row):
    """A model after its re-tuning."""

    parts: ClassVar[tuple[str, ...]] = ("world", "rate", "epochs", "method", "seed")

    world: str
    rate: float  # part of the learning rate of training
    epochs: int
    method: str
    seed: int
    rho_initial: float | None
    rho_final: float | None
    test_accuracy: float  # 0 to 1, on new test data


class Retuning(Benchmark[Retuned]):
    """Train a model on half of the digits, and go on with the other half."""

    name, digits = "retuning", 5
    row, head = Retuned, {"schema": 1, "train_epochs": TRAIN_EPOCHS}
    settings = WORLDS

    def units(self) -> list[Unit]:
        """One for each world and seed: a model in use and all its re-tunings."""
        keys = functools.partial(_keys)
        return [
            Unit(f"{world}/{seed}", keys(world, seed), (world, seed))
            for world in self.settings
            for seed in range(SEEDS)
        ]

    def measure(self, unit: Unit) -> list[Retuned]:
        """Train the model in use, and re-tune it in every way."""
        name, seed = unit.work
        world = self.settings[name]
        old, new = tasks_of(world)
        before = Training(old, Method.parse("lets-sam"), seed, _config(TRAIN_EPOCHS, world.old_noise), _fabric())
        _finish(before)
        history = RadiusHistory("lets-sam", before.rho_initial or 0.0, tuple(before.result().radii[-1]))
        weights = {key: value.clone() for key, value in before.model.module.state_dict().items()}
        found: list[Retuned] = []
        for rate, epochs in SCHEDULES:
            task = dataclasses.replace(new, model=functools.partial(_restored, new.model, weights))
            lr = rate * _learning_rate(new)
            task = dataclasses.replace(task, optimizer=with_options(new.optimizer, ModelOptions(lr=lr)))
            for method, challenger in _compared(history).items():
                training = _retuned(task, challenger, seed, _config(epochs, world.new_noise))
                run = training.result()
                radii = (None, None) if challenger is None else (run.rho_initial, run.rho_final)
                found.append(Retuned(name, rate, epochs, method, seed, *radii, run.test_accuracy))
        return found

    def sections(self, rows: Sequence[Retuned]) -> Mapping[str, object]:
        """A table of each world, and the differences of the two ways of learning the radius."""
        parts = [
            f"### {name}: {world.title}\n\n{_table([row for row in rows if row.world == name])}"
            for name, world in self.settings.items()
        ]
        return {
            "seeds": SEEDS,
            "train_epochs": TRAIN_EPOCHS,
            "differences": _differences(rows, self.settings),
            "findings": _findings(rows, self.settings),
            "defaults": _defaults(rows, self.settings),
            "worlds": "\n\n".join(parts),
            "default_rate": f"{LR_FACTOR:g}",
            "default_epochs": EPOCHS,
        }


def _keys(world: str, seed: int) -> tuple[str, ...]:
    return tuple(f"{world}/{rate}/{epochs}/{method}/{seed}" for rate, epochs in SCHEDULES for method in METHODS)


def tasks_of(world: World) -> tuple[Task, Task]:
    """The digits in two halves of the training images, as tasks of the old and of the new world."""
    whole = loaded("digits")
    images, targets = (tensor for tensor in _tensors(whole.train))
    half = len(images) // 2
    old = dataclasses.replace(whole, train=TensorDataset(images[:half], targets[:half]))
    train: Dataset[Any] = TensorDataset(images[half:], targets[half:])
    test: Dataset[Any] = whole.test
    if world.shift is not None:
        train, test = (_shifted(data, world.shift, seed) for seed, data in enumerate((train, test)))
    return old, dataclasses.replace(whole, train=train, test=test)


def _tensors(dataset: Any) -> tuple[Tensor, ...]:
    return dataset.tensors


def _shifted(dataset: Dataset[Any], shift: str, seed: int) -> TensorDataset:
    """The images as they are under the shift, once and for all."""
    import torch

    found: Any = shifted(dataset, shift, modality="image", seed=seed)
    samples = [found[i] for i in range(len(found))]
    return TensorDataset(torch.stack([x for x, _ in samples]), torch.tensor([int(y) for _, y in samples]))


def _config(epochs: int, noise: float) -> TrialConfig:
    return TrialConfig(task="digits", methods=(Method.parse("sgd"),), epochs=epochs, label_noise=noise)


@functools.cache
def _fabric() -> Any:
    return make_fabric("cpu")


def _learning_rate(task: Task) -> float:
    return float(task.optimizer(task.model().parameters()).param_groups[0]["lr"])


def _restored(make: Callable[[], nn.Module], weights: dict[str, Tensor]) -> nn.Module:
    network = make()
    network.load_state_dict(weights)
    return network


def _compared(history: RadiusHistory) -> dict[str, Challenger | None]:
    fresh, on = ({one.role: one for one in challengers(history, radius)} for radius in (AFRESH, GOES_ON))
    return {CHAMPION: None, BASE: fresh[BASE], OLD: fresh[OLD], FRESH: fresh[RETUNED], CONTINUE: on[RETUNED]}


def _retuned(task: Task, challenger: Challenger | None, seed: int, config: TrialConfig) -> Training:
    """All hold out the same samples, as in `letsam retune`."""
    method = Method.parse("sgd") if challenger is None else challenger.method
    splits = make_splits(task, seed, **config.split_options, hold_out=True)
    training = Training(task, method, seed, config, _fabric(), splits=splits)
    if challenger is None:
        training.record()
        return training
    challenger.prepare(training)
    return _finish(training)


def _finish(training: Training) -> Training:
    while not training.finished:
        training.advance()
    return training


def _of(rows: Sequence[Retuned], method: str, rate: float, epochs: int) -> list[Retuned]:
    found = [row for row in rows if (row.method, row.rate, row.epochs) == (method, rate, epochs)]
    return sorted(found, key=lambda row: row.seed)


def _table(rows: Sequence[Retuned]) -> str:
    """Accuracy of each method, and the last radius of those that learn it."""
    cells: list[list[str]] = []
    for rate, epochs in SCHEDULES:
        line = [f"{rate:g}", str(epochs)]
        for method in METHODS:
            mine = _of(rows, method, rate, epochs)
            text = spread([100 * row.test_accuracy for row in mine], ".1f", ".1f") if mine else "?"
            radii = [row.rho_final for row in mine if row.rho_final is not None]
            line.append(text + (f" ({statistics.fmean(radii):.2g})" if radii else ""))
        cells.append(line)
    return table(["learning rate", "epochs", *METHODS], cells, "r")


def _gains(rows: Sequence[Retuned], method: str, other: str, rate: float, epochs: int) -> list[float]:
    """By how many points a method is better than another, for each seed."""
    mine, theirs = (_of(rows, name, rate, epochs) for name in (method, other))
    return [100 * (a.test_accuracy - b.test_accuracy) for a, b in zip(mine, theirs, strict=True)]


def _differences(rows: Sequence[Retuned], worlds: Mapping[str, World]) -> str:
    """Afresh minus going on, with the bounds of the paired test."""
    cells: list[list[str]] = []
    for name in worlds:
        mine = [row for row in rows if row.world == name]
        line = [name]
        line += [_bounded(_gains(mine, FRESH, CONTINUE, rate, epochs)) for rate, epochs in SCHEDULES]
        cells.append(line)
    return table(["world", *(f"{rate:g}, {epochs} epochs" for rate, epochs in SCHEDULES)], cells)


def _bounded(gains: Sequence[float]) -> str:
    if len(gains) < 3:
        return "?"
    low, high = bounds(gains, critical_values((len(gains),), LEVEL)[-1])
    text = f"{statistics.fmean(gains):+.1f} [{low:+.1f}, {high:+.1f}]"
    return f"**{text}**" if low > 0 or high < 0 else text


def _findings(rows: Sequence[Retuned], worlds: Mapping[str, World]) -> str:
    """In which of the cells of the table one of the two is shown to be better."""
    better: dict[str, list[str]] = {FRESH: [], CONTINUE: []}
    cells = 0
    for name in worlds:
        mine = [row for row in rows if row.world == name]
        for rate, epochs in SCHEDULES:
            gains = _gains(mine, FRESH, CONTINUE, rate, epochs)
            if len(gains) < 3:
                continue
            cells += 1
            low, high = bounds(gains, critical_values((len(gains),), LEVEL)[-1])
            for method, shown in ((FRESH, low > 0), (CONTINUE, high < 0)):
                if shown:
                    better[method].append(f"{name} ({rate:g}, {epochs} epochs)")
    texts = [
        f"{method.capitalize()} is shown to be better in {len(found)} of {cells} cells"
        + (f": {', '.join(found)}." if found else ".")
        for method, found in better.items()
    ]
    return filled(" ".join(texts))


def _defaults(rows: Sequence[Retuned], worlds: Mapping[str, World]) -> str:
    """The mean accuracy over the worlds, of the radius learned afresh."""
    cells = [
        [f"{rate:g}", str(epochs)]
        + [
            f"{100 * statistics.fmean(row.test_accuracy for row in mine):.1f}"
            for method in (BASE, OLD, FRESH, CONTINUE)
            for mine in [_of([row for row in rows if row.world in worlds], method, rate, epochs)]
            if mine
        ]
        for rate, epochs in SCHEDULES
    ]
    return table(["learning rate", "epochs", BASE, OLD, FRESH, CONTINUE], cells, "r")
