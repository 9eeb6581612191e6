"""One unit of work, done in a process that keeps the tasks it has loaded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lightning_fabric import Fabric

from benchmarks.evidence import tried as tried  # its methods are known by name
from benchmarks.evidence.loading import loaded
from benchmarks.evidence.optuna_search import search
from benchmarks.evidence.records import Record, Store
from benchmarks.evidence.suite import Unit
from letsam.results import Run
from letsam.tasks import Task, TaskError
from letsam.training.config import TrialConfig
from letsam.training.devices import make_fabric
from letsam.training.loop import Training
from letsam.training.methods import Method
from letsam.training.trial import environment

VALIDATION_SHARE = 0.1


@dataclass(frozen=True)
class Order:
    """A unit, where its records go and on which device it runs."""

    unit: Unit
    store: Store
    device: str


def perform(order: Order, tell: Callable[[str | None], None]) -> None:
    """Train the unit, save its records, then tell None, or in one line what hinders it."""
    unit = order.unit
    fabric = make_fabric(order.device)
    try:
        task = loaded(unit.setting)
        runs = runs_of(unit, task, fabric)
    except TaskError as error:
        tell(f"{unit.setting.name}: {error}")
        return
    except Exception as error:  # one method that fails must not end a night's work
        tell(f"{unit.setting.name}, {unit.method}, seed {unit.seed}: {type(error).__name__}: {error}")
        return
    where = {"metric": task.metric_name, **environment(fabric)}
    del where["command"]
    for run in runs:
        order.store.save(unit.setting, Record.of(run), where)
    tell(None)


def runs_of(unit: Unit, task: Task, fabric: Fabric) -> list[Run]:
    """Train the unit, and what is learned once more on all data."""
    setting, seed = unit.setting, unit.seed

    def train(task: Task, method: str, noise: float, searched: Run | None = None) -> Run:
        parsed = Method.parse(method)
        config = TrialConfig(
            task=setting.task,
            methods=(parsed,),
            seeds=(seed,),
            epochs=setting.epochs,
            label_noise=noise,
            validation_share=VALIDATION_SHARE,
            max_grad_norm=setting.max_grad_norm,
        )
        training = Training(task, parsed, seed, config, fabric, searched)
        while not training.finished:
            training.advance()
        return training.result()

    if unit.method.startswith("optuna-"):
        kind = unit.method.removeprefix("optuna-")
        return [search(task, kind, seed, setting.noise, VALIDATION_SHARE, train)]
    runs = [train(task, unit.method, setting.noise)]
    if len(unit.rows) > 1:
        runs.append(train(task, unit.method, setting.noise, runs[0]))
    return runs
