"""`letsam train`: one run of one method."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from letsam import checks
from letsam.cli import options
from letsam.cli.commands import app
from letsam.cli.drift_options import DriftArguments
from letsam.cli.guidance import EXAMPLES
from letsam.cli.live import live_trial
from letsam.cli.terminal import interruptible, print_inferred, print_line, print_results
from letsam.languages import check_language
from letsam.results import locked_folder

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from letsam.training.config import TrialConfig
    from letsam.training.loggers import LogTo
    from letsam.training.loop import Training
    from letsam.training.predictions import Finished
    from letsam.training.sampling import SplitCache

__all__ = ["train_command"]


@app.command("train", epilog=EXAMPLES["train"])
@options.takes(options.TrainArguments, options.DataArguments, options.ModelArguments, DriftArguments)
def train_command(
    run: options.TrainArguments,
    data: options.DataArguments,
    model: options.ModelArguments,
    drift: DriftArguments,
    method: options.OptionalMethod = None,
    seed: options.OptionalSeed = None,
    checkpoint_steps: options.CheckpointSteps = None,
    export: options.Export = None,
    repeated: options.From = None,
) -> int:
    """Train with one method. Writes results.json, report.html, the folder model, and a checkpoint every epoch.

    With --from MODEL, the run that trained a model, again: exit status 0 for the same weights, 1 for others.
    """
    from letsam.cli.train_again import train_again
    from letsam.model_folder.exporting import check_export
    from letsam.results import MethodName
    from letsam.training.methods import Method

    check_export(export)
    check_language(run.language)
    if checkpoint_steps is not None:
        checks.whole("checkpoint_steps", checkpoint_steps, 1)
    if repeated is not None:
        train = partial(_train, run=run, drift=drift, steps=checkpoint_steps, export=export)
        return train_again(repeated, (run, data, model, drift), {"method": method, "seed": seed}, train)
    if run.task is None or method is None:
        what = "argument TASK" if run.task is None else "option --method, such as lets-sam"
        raise ValueError(f"missing {what} (or --from MODEL, which trains a model again)")
    name = MethodName.parse(method)
    parsed = Method.parse(name.search)
    if name.refit and not parsed.is_learned:
        raise ValueError(f"`method`: a refit needs a learned radius, such as lets-sam+refit, got {method!r}")
    number = 0 if seed is None else seed
    config = options.make_config(run, data, model, drift, methods=(parsed,), seeds=(number,), refit=name.refit)
    default = options.default_folder(run.task) / f"{name.text.replace(':', '-')}-{number}"
    _train(config, run.out or default, run, drift, steps=checkpoint_steps, export=export)
    return 0


def _train(
    config: TrialConfig,
    folder: Path,
    run: options.RunArguments,
    drift: DriftArguments,
    *,
    steps: int | None,
    export: str | None,
) -> None:
    from letsam.cli.auditing_task import audit_for_record, print_audit
    from letsam.training.devices import make_fabric
    from letsam.training.learned_shift import with_learned_shift
    from letsam.training.learning_rate import with_learning_rate
    from letsam.training.sampling import SplitCache
    from letsam.training.trial import RESULTS

    logs = run.logs(folder)
    task = config.load_task()
    results_file = folder / RESULTS if run.resume else None
    config, task = with_learned_shift(config.for_task(task), task, results_file)
    fabric = make_fabric(run.device, run.strategy, config.precision)
    splits = SplitCache(task, **config.split_options)
    config, task = with_learning_rate(config, splits, fabric, results_file)
    found, new = audit_for_record(config, task, drift, results_file, fabric)
    if fabric.is_global_zero:
        print_inferred(task.inferred)
        print_audit(found if new else None)
    with locked_folder(folder) if fabric.is_global_zero else nullcontext():
        how = {"resume": run.resume, "more_epochs": run.epochs is not None and config.release is None}
        _train_in(
            folder, splits, config, fabric, found, **how, steps=steps, export=export, logs=logs, language=run.language
        )


def _train_in(
    folder: Path,
    splits: SplitCache,
    config: TrialConfig,
    fabric: Fabric,
    audit: Mapping[str, Any] | None,
    *,
    resume: bool,
    more_epochs: bool,
    steps: int | None,
    export: str | None,
    logs: LogTo | None,
    language: str,
) -> None:
    """The run of `letsam train`, in a folder that no other process writes to."""
    from letsam.cli.saving import save_run
    from letsam.reports.html import write_report
    from letsam.results import Results
    from letsam.training.checkpoint_file import load_checkpoint, save_checkpoint
    from letsam.training.loggers import logged
    from letsam.training.loop import Training
    from letsam.training.rehearsal import rehearse
    from letsam.training.trial import REPORT, RESULTS, environment, open_results, planned

    runs, task = planned(config), splits.task  # a run, or the search and its refit
    paths = {run: folder / ("checkpoint.pt" if run is runs[-1] else "checkpoint-search.pt") for run in runs}
    surroundings = environment(fabric)
    earlier = open_results(folder, config, surroundings, task.inferred, resume=resume, more_epochs=more_epochs)
    if any(other.key not in {run.key for run in runs} for other in earlier.runs):
        run = runs[-1]
        raise ValueError(
            f"{folder / RESULTS}: holds other runs than {run.name} with seed {run.seed}; choose another --out"
        )
    for path in paths.values():
        if not resume and path.exists():
            raise ValueError(f"{path}: holds a run already; add --resume to complete it, or choose another --out")
    identity = config.identity
    states = {
        # A refit replays its schedule over all of its epochs, so it cannot go on with more.
        run: load_checkpoint(path, identity, config.data, more_epochs=more_epochs and not run.refit)
        for run, path in paths.items()
        if path.exists()
    }
    rehearse(config, fabric, splits, runs[:1])
    fabric.barrier()  # all ranks must have read the folder before the first of them writes
    done: list[Finished] = []
    results = dataclasses.replace(earlier, runs=())
    training: Training | None = None
    with live_trial(results, runs, shown=fabric.is_global_zero) as live:
        for run in runs:
            searched = done[0].run if run.refit else None
            data = splits.get(run.seed, hold_out=run.method.is_learned and not run.refit)
            training = Training(task, run.method, run.seed, config, fabric, searched, data)
            if run in states:
                try:
                    training.load_state_dict(states[run])
                except (RuntimeError, ValueError, KeyError, TypeError) as error:
                    expected = "expected a checkpoint of this model and optimizer, got another's"
                    raise ValueError(f"{paths[run]}: {expected}") from error
            with interruptible(partial(_epochs_done, training)), logged(logs, training) as log:
                while not training.finished:
                    training.advance(steps)
                    log()
                    state = training.state_dict()
                    if fabric.is_global_zero:
                        save_checkpoint(paths[run], state, identity)
                    live.epoch(run, training.epoch, training.epochs)
            done.append(training.finish())
    assert training is not None
    finished = tuple(one.run for one in done)
    surroundings = environment(fabric)
    results = Results(config.task, config.as_json(), surroundings, finished, task.inferred, task.name, audit=audit)
    if fabric.is_global_zero:
        for one in done:
            one.save_predictions(folder)
        results.save(folder / RESULTS)
        write_report(results, folder / REPORT, language)
        print_results(results)
        print_line(f"checkpoint: {paths[runs[-1]]}")
        print_line(f"report: {folder / REPORT}")
    save_run(training, dataclasses.replace(results, runs=finished[-1:]), folder, export)


def _epochs_done(training: Training) -> str:
    of_refit = " of the refit" if training.searched is not None else ""
    return f"{training.epoch} of {training.epochs} epochs{of_refit} are finished"
