"""A trial: methods x seeds on a task. Every finished run is saved at once, so an interruption loses one run at most."""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric

from letsam._version import __version__
from letsam.results import Results, Run
from letsam.tasks import Task
from letsam.training.config import TrialConfig
from letsam.training.data import make_splits
from letsam.training.loop import Training
from letsam.training.methods import REFIT, Method

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
            if config.refit and Method.parse(name).is_learned:
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
    return Results(task=config.task, config=config.as_json(), environment=environment, runs=earlier.runs)


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
        results.save(out / RESULTS)
        yield results


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
