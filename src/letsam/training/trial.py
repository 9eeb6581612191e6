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
from letsam.results import Results, Run, checked_folder
from letsam.tasks import Task
from letsam.training.config import TrialConfig
from letsam.training.data_record import DataRecord
from letsam.training.devices import make_fabric, sharded
from letsam.training.executors import Backend, Here, Tell, run_all
from letsam.training.hyperparameter_search import Searches, run_search_trial, with_values
from letsam.training.loggers import LogTo, logged
from letsam.training.loop import Training
from letsam.training.methods import Method, PlannedRun
from letsam.training.predictions import Finished
from letsam.training.rehearsal import rehearse
from letsam.training.sampling import SplitCache

RESULTS = "results.json"
REPORT = "report.html"

EpochCallback = Callable[[PlannedRun, int, int], None]
"""Called after every epoch with the run, the epochs that are done and the number of epochs."""


def planned(config: TrialConfig) -> list[PlannedRun]:
    """The runs of a trial in order: seed by seed, so that methods can be compared early; a refit follows its search."""
    runs: list[PlannedRun] = []
    for seed in config.seeds:
        for method in config.methods:
            runs.append(PlannedRun(method, seed))
            if config.refit and method.is_learned:
                runs.append(PlannedRun(method, seed, refit=True))
    return runs


def open_results(
    out: Path,
    config: TrialConfig,
    environment: dict[str, Any],
    inferred: tuple[tuple[str, str], ...] = (),
    *,
    resume: bool,
    more_epochs: bool = False,
) -> Results:
    """The results to add runs to: with `resume` those in the folder, else empty ones.

    Args:
        out: the folder of the trial.
        config: the options of the trial.
        environment: versions, platform and device.
        inferred: what was inferred from files of data, `Task.inferred`.
        resume: whether finished runs are kept.
        more_epochs: whether the runs in the folder may have had fewer epochs. They are returned as well.

    Returns:
        Results with the options of this trial.

    Raises:
        ValueError: the folder has results and `resume` is False, they belong to another trial, or they cannot be read.
            Nothing is written.
    """
    path = checked_folder(out) / RESULTS
    if not path.exists():
        return Results(config.task, config.as_json(), environment, inferred=inferred, name=config.name)
    if not resume:
        raise ValueError(f"{path}: holds results already; add --resume to complete them, or choose another --out")
    earlier = Results.load(path)
    try:
        config.check_continues(earlier.config, more_epochs=more_epochs)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    # Where the refit is asked for, its search is needed with the whole schedule: of many radii, each of them.
    searches = {row.search.key: row.method.kind.per for row in planned(config) if row.refit}
    runs = tuple(run for run in earlier.runs if run.key not in searches or _has_schedule(run, searches[run.key]))
    kept = {"decision": earlier.decision, "audit": earlier.audit}
    return Results(config.task, config.as_json(), environment, runs, inferred, config.name, **kept)


def without_shorter_runs(results: Results, config: TrialConfig) -> tuple[Results, int | None]:
    """Leave out runs of fewer epochs: a trial keeps no checkpoints from which they could go on.

    Returns:
        The other runs, and the epochs of those that are left out; None where there are none.
    """
    lengths = {run.history["epoch"][-1] for run in results.runs if run.history["epoch"]}
    shorter = [length for length in lengths if length < (config.epochs or 0)]
    return (dataclasses.replace(results, runs=()), max(shorter)) if shorter else (results, None)


def set_aside(out: Path, epochs: int) -> Path:
    """Rename the results of a trial with so many epochs, so that one with more does not replace them."""
    kept = out / f"results-{epochs}-epochs.json"
    (out / RESULTS).replace(kept)
    return kept


def run_trial(
    task: Task,
    config: TrialConfig,
    fabric: Fabric,
    results: Results,
    out: Path,
    callback: EpochCallback | None = None,
    splits: SplitCache | None = None,
    searches: Searches | None = None,
    logs: LogTo | None = None,
) -> Iterator[Results]:
    """Run what is missing in `results`; save and yield them after every run.

    Args:
        task: the loaded task.
        config: the options of the trial.
        fabric: where it runs.
        results: from `open_results`.
        out: the folder for `results.json`.
        callback: called after every epoch.
        splits: from `check_data`; None: they are made here.
        searches: where the searches are kept, with `config.search`.
        logs: where the runs are logged; None: nowhere.

    Yields:
        The results so far.
    """
    splits = splits or SplitCache(task, **config.split_options)

    def work(item: _Work | _Search, tell: Tell) -> Any:
        return _worked(item, fabric, splits, tell)

    for finished in _finished(work, Here(), config, "auto", results, callback, searches, logs):
        assert isinstance(finished, Finished)
        results = results.with_run(finished.run)
        if fabric.is_global_zero:
            finished.save_predictions(out)
            results.save(out / RESULTS)
        yield results


def run_trial_on(
    backend: Backend,
    config: TrialConfig,
    device: str,
    results: Results,
    out: Path,
    callback: EpochCallback | None = None,
    searches: Searches | None = None,
    logs: LogTo | None = None,
    *,
    rehearsed: bool = False,
) -> Iterator[Results]:
    """The same as `run_trial` by workers, which load the task themselves.

    Each worker has one thread, so the numbers equal those of `run_trial` with one thread bit for bit. A refit gets the
    record of its search. With `rehearsed`, one worker tries a batch with each method before anything is trained, and
    the environment on record is that of this worker.

    Args:
        backend: the workers, from `make_backend`.
        config: the options, with the defaults of the task filled in.
        device: as in `make_fabric`, for each worker.
        results: from `open_results`.
        out: the folder for `results.json`.
        callback: called after every epoch that a worker tells of.
        searches: as in `run_trial`; the workers do not need the storage.
        logs: where each worker logs its runs; None: nowhere.
        rehearsed: whether a worker calls `rehearse` first.

    Yields:
        The results so far, in the order of `planned`.
    """
    plan = planned(config)
    for finished in _finished(_work, backend, config, device, results, callback, searches, logs, rehearsed=rehearsed):
        if isinstance(finished, dict):
            results = dataclasses.replace(
                results, environment={**finished, "command": results.environment.get("command")}
            )
            continue
        finished.save_predictions(out)
        results = _in_order(results.with_run(finished.run), plan)
        results.save(out / RESULTS)
        yield results


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


def check_data(task: Task, config: TrialConfig) -> SplitCache:
    """Check that the data can be split and given label noise, and that each learned radius can start at its value.

    Returns:
        The splits of the first seed, for `run_trial`.

    Raises:
        ValueError: naming the option, before anything is trained.
    """
    for method in config.methods:
        if method.kind.learned is not None:
            method.kind.learned(method.initial_rho(task, config.rho) or 0)  # checks the initial radius
    splits = SplitCache(task, **config.split_options)
    splits.get(config.seeds[0], hold_out=any(method.is_learned for method in config.methods))
    return splits


@dataclass(frozen=True)
class _Work:
    """One run of the trial.

    Attributes:
        config: the options of the trial.
        device: as in `make_fabric`.
        row: the run.
        searched: the record of the run whose schedule a refit replays.
        values: of the base optimizer, which a search has chosen.
        logs: where it is logged.
    """

    config: TrialConfig
    device: str
    row: PlannedRun
    searched: Run | None = None
    values: tuple[tuple[str, float], ...] = ()
    logs: LogTo | None = None

    def __str__(self) -> str:
        return f"{self.row.name}, seed {self.row.seed}"


@dataclass(frozen=True)
class _Search:
    """The next trial of a search.

    Attributes:
        config: the options of the trial.
        device: as in `make_fabric`.
        method: what is tuned.
        earlier: its finished trials.
    """

    config: TrialConfig
    device: str
    method: Method
    earlier: tuple[Any, ...]

    def __str__(self) -> str:
        return f"{self.method.name}, trial {len(self.earlier) + 1} of the search"


@dataclass(frozen=True)
class _Rehearsal:
    """What is done once on a cluster before its runs.

    Attributes:
        config: the options of the trial.
        device: as in `make_fabric`.
        rows: the runs that are missing.
    """

    config: TrialConfig
    device: str
    rows: tuple[PlannedRun, ...]

    def __str__(self) -> str:
        return "the rehearsal of the methods"


def _finished(
    work: Callable[[Any, Tell], Any],
    backend: Backend,
    config: TrialConfig,
    device: str,
    results: Results,
    callback: EpochCallback | None,
    searches: Searches | None = None,
    logs: LogTo | None = None,
    *,
    rehearsed: bool = False,
) -> Iterator[Finished | dict[str, Any]]:
    """What is missing in `results`, as it is finished; a refit is next in the queue when its run is finished.

    The runs of a method wait for its search. If it is rehearsed, the environment of the worker comes first.
    """
    done = {run.key: run for run in results.runs}
    missing = {row.key: row for row in planned(config) if row.key not in done}

    def ready(method: Method | None = None) -> Iterator[_Work | _Search]:
        """The runs that can begin, of one method or of all; while a method is searched, its next trial instead."""
        searching: set[Method] = set()
        for row in missing.values():
            if method not in (None, row.method) or (row.refit and row.search.key in missing):
                continue
            values = searches.chosen(row.method) if searches is not None else {}
            if values is not None:
                searched = done[row.search.key] if row.refit else None
                yield _Work(config, device, row, searched, tuple(sorted(values.items())), logs)
            elif searches is not None and row.method not in searching:
                searching.add(row.method)
                yield _Search(config, device, row.method, searches.earlier(row.method))

    items = list(ready())

    def follow(item: _Work | _Search | _Rehearsal, value: Any) -> Iterator[_Work | _Search]:
        if isinstance(item, _Rehearsal):
            yield from items
        elif isinstance(item, _Search):
            assert searches is not None
            searches.add(item.method, value)
            yield from ready(item.method)
        else:
            refit = missing.get(PlannedRun(item.row.method, item.row.seed, refit=True).key)
            if refit is not None and not item.row.refit:
                yield dataclasses.replace(item, row=refit, searched=value.run)

    def heard(item: _Work | _Search | _Rehearsal, epochs: tuple[int, int]) -> None:
        if callback and isinstance(item, _Work):
            callback(item.row, *epochs)

    first = [_Rehearsal(config, device, tuple(missing.values()))] if rehearsed and items else items
    for item, finished in run_all(work, first, backend, heard=heard, follow=follow):
        if not isinstance(item, _Search):
            yield finished


def _work(item: _Work | _Search | _Rehearsal, tell: Tell) -> Any:
    return _worked(item, *_loaded(item.config, item.device), tell)


def _worked(item: _Work | _Search | _Rehearsal, fabric: Fabric, splits: SplitCache, tell: Tell) -> Any:
    """What a worker returns: a `Finished`, a trial of Optuna, or the environment after a rehearsal."""
    if isinstance(item, _Rehearsal):
        rehearse(item.config, fabric, splits, item.rows)
        return environment(fabric)
    if isinstance(item, _Search):
        return run_search_trial(item.config, fabric, splits.task, item.method, item.earlier)
    return _run(item, fabric, splits, tell)


@functools.lru_cache(maxsize=1)
def _loaded(config: TrialConfig, device: str) -> tuple[Fabric, SplitCache]:
    """The device and the data, once for each worker."""
    task = config.load_task()
    if config.data is not None and (difference := DataRecord.of(task).difference(config.data.as_json())):
        raise ValueError(f"a worker has other data than the trial: {difference}")
    return make_fabric(device, precision=config.precision), SplitCache(task, **config.split_options)


def _run(item: _Work, fabric: Fabric, splits: SplitCache, tell: Tell) -> Finished:
    """Train one run of the trial from beginning to end; tells the epochs that are done, and their number."""
    row = item.row
    data = splits.get(row.seed, hold_out=row.method.is_learned and not row.refit)
    values = dict(item.values)
    task = with_values(splits.task, values)
    training = Training(task, row.method, row.seed, item.config, fabric, item.searched, data)
    with logged(item.logs, training) as log:
        while not training.finished:
            training.advance()
            log()
            tell((training.epoch, training.epochs))
    finished = training.finish()
    return dataclasses.replace(finished, run=dataclasses.replace(finished.run, hyperparameters=values))


def _has_schedule(run: Run, per: str) -> bool:
    """Whether it has the schedule that its refit needs; files of schema 1 have only the means of many radii."""
    return any(per == "all" or isinstance(step, list) for step in run.history.get("rho_schedule", ()))


def _in_order(results: Results, plan: list[PlannedRun]) -> Results:
    """The planned runs in their order. Runs that are not planned, of an earlier trial, come first."""
    place = {row.key: index for index, row in enumerate(plan)}
    runs = sorted(results.runs, key=lambda run: place.get(run.key, -1))
    return dataclasses.replace(results, runs=tuple(runs))
