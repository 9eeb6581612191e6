"""A trial: methods x seeds on a task. Every finished run is saved at once, so an interruption loses one run at most."""

from __future__ import annotations

import dataclasses
import functools
import platform
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric

from letsam._version import __version__
from letsam.results import Results, Run, is_learned
from letsam.tasks import Task, load_task
from letsam.training.config import TrialConfig
from letsam.training.data import make_splits
from letsam.training.devices import make_fabric, sharded
from letsam.training.loop import Training
from letsam.training.methods import REFIT, Method
from letsam.training.parallel import side_by_side

RESULTS = "results.json"
REPORT = "report.html"

Watch = Callable[[str, int, int, int], None]
"""Called after every epoch with the method's row name, the seed, the epoch and the number of epochs."""


def planned(config: TrialConfig) -> list[tuple[str, int]]:
    """The rows x seeds of a trial in the order in which they run: seed by seed, so that a row is comparable early."""
    rows: list[tuple[str, int]] = []
    for seed in config.seeds:
        for name in config.methods:
            rows.append((name, seed))
            if config.refit and is_learned(name):
                rows.append((name + REFIT, seed))
    return rows


def open_results(out: Path, config: TrialConfig, environment: dict[str, Any], *, resume: bool) -> Results:
    """The results to add to: those in the folder with `resume`, else none.

    Args:
        out: the trial's folder.
        config: the trial's options.
        environment: versions, platform and device.
        resume: whether finished runs are kept.

    Returns:
        Results with this trial's options.

    Raises:
        ValueError: results are there without `resume`, belong to another trial, or cannot be read. Nothing is written.
    """
    path = out / RESULTS
    for place in (out, *out.parents):
        if place.exists() and not place.is_dir():
            raise ValueError(f"`out` must be a folder, got the file {place}")
    if not path.exists():
        return Results(task=config.task, config=config.as_json(), environment=environment)
    if not resume:
        raise ValueError(f"{path}: holds results already; add --resume to complete them, or choose another --out")
    earlier = Results.load(path)
    try:
        config.check_continues(earlier.config)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    runs = tuple(run for run in earlier.runs if not (config.refit and _kept_means_alone(run, config)))
    return Results(task=config.task, config=config.as_json(), environment=environment, runs=runs)


def _kept_means_alone(run: Run, config: TrialConfig) -> bool:
    """Whether it learned many radii of which an older letsam kept the means: its refit needs each, so it runs again."""
    again = run.method in config.methods and run.seed in config.seeds
    if not again or Method.parse(run.method).per == "all":
        return False
    return not any(isinstance(step, list) for step in run.history.get("rho_schedule", ()))


def run_trial(
    task: Task, config: TrialConfig, fabric: Fabric, results: Results, out: Path, watch: Watch | None = None
) -> Iterator[Results]:
    """Run what is missing in `results`, saving and yielding them after every run.

    Args:
        task: the loaded task.
        config: its options.
        fabric: where it runs.
        results: from `open_results`.
        out: the folder for `results.json`.
        watch: told of every epoch.

    Yields:
        The results so far.
    """
    done = {(run.method, run.seed): run for run in results.runs}
    for row, seed in planned(config):
        if (row, seed) in done:
            continue
        searched = done[row.removesuffix(REFIT), seed] if row.endswith(REFIT) else None
        run = _run(task, config, fabric, row, seed, searched, watch)
        done[row, seed] = run
        results = results.with_run(run)
        if fabric.is_global_zero:
            results.save(out / RESULTS)
        yield results


def run_trial_side_by_side(
    config: TrialConfig, device: str, jobs: int, results: Results, out: Path, watch: Watch | None = None
) -> Iterator[Results]:
    """The same as `run_trial` in worker processes; they load the task themselves, since models need not be sent.

    Each worker has one thread, so the numbers are those of `run_trial` with one thread, bit for bit. A refit runs
    where its search has run.

    Args:
        config: the options, with the task's defaults filled in.
        device: as `make_fabric` takes it.
        jobs: number of processes, >= 1.
        results: from `open_results`.
        out: the folder for `results.json`.
        watch: told of every epoch.

    Yields:
        The results so far, in the order of `planned`.
    """
    rows = planned(config)
    done = {(run.method, run.seed): run for run in results.runs}
    work: list[_Work] = []
    for name, seed in dict.fromkeys((row.removesuffix(REFIT), seed) for row, seed in rows):
        left = tuple(r for r in (name, name + REFIT) if (r, seed) in rows and (r, seed) not in done)
        if left:
            work.append(_Work(config, device, name, seed, left, done.get((name, seed))))

    for _, told in side_by_side(_work, work, jobs):
        if isinstance(told, Run):
            results = _in_order(results.with_run(told), rows)
            results.save(out / RESULTS)
            yield results
        elif watch:
            watch(*told)


@dataclass(frozen=True)
class _Work:
    """What a worker does in one go: a method with a seed and its refit, or what is left of the two."""

    config: TrialConfig
    device: str
    name: str
    seed: int
    left: tuple[str, ...]
    searched: Run | None


def _work(item: _Work, tell: Callable[[Any], None]) -> None:
    task, fabric = _loaded(item.config, item.device)
    searched = item.searched
    for row in item.left:
        run = _run(
            task,
            item.config,
            fabric,
            row,
            item.seed,
            searched if row.endswith(REFIT) else None,
            lambda *epoch: tell(epoch),
        )
        searched = run
        tell(run)


@functools.lru_cache(maxsize=1)
def _loaded(config: TrialConfig, device: str) -> tuple[Task, Fabric]:
    """The task and the device, once for each worker."""
    data_dir = Path(config.data_dir) if config.data_dir else None
    task = load_task(config.task, train_size=config.train_size, data_dir=data_dir, model=config.model)
    return task, make_fabric(device, precision=config.precision)


def _in_order(results: Results, rows: list[tuple[str, int]]) -> Results:
    """The planned runs in their order; runs of other methods and seeds, which an earlier trial made, stay in front."""
    place = {row: index for index, row in enumerate(rows)}
    runs = sorted(results.runs, key=lambda run: place.get((run.method, run.seed), -1))
    return dataclasses.replace(results, runs=tuple(runs))


def _run(
    task: Task, config: TrialConfig, fabric: Fabric, row: str, seed: int, searched: Run | None, watch: Watch | None
) -> Run:
    training = Training(task, Method.parse(row.removesuffix(REFIT)), seed, config, fabric, searched)
    while not training.finished:
        training.advance()
        if watch:
            watch(row, seed, training.epoch, training.epochs)
    return training.result()


def environment(fabric: Fabric) -> dict[str, Any]:
    """Versions, platform and device, for the record."""
    device = fabric.device
    return {
        "letsam": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
        "threads": torch.get_num_threads(),
        "ranks": fabric.world_size,
        "sharded": sharded(fabric),
        "command": " ".join(["letsam", *sys.argv[1:]]),
    }


def check_data(task: Task, config: TrialConfig) -> None:
    """Raise where the data cannot be split or given label noise, or a radius not be learned from its starting value.

    Raises:
        ValueError: naming the option, before anything is trained.
    """
    methods = [Method.parse(name) for name in config.methods]
    learned = any(method.is_learned for method in methods)
    for method in methods:
        if method.kind.learned is not None:
            method.kind.learned(method.initial_rho(task, config.rho) or 0)
    make_splits(
        task,
        config.seeds[0],
        label_noise=config.label_noise,
        validation_share=config.validation_share,
        hold_out=learned,
    )
