"""The commands of `letsam`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from letsam import checks
from letsam._version import __version__
from letsam.cli import options
from letsam.cli.concluding import DecisionArguments, check_compared, conclude, conclude_trial, print_last_verdict
from letsam.cli.drift_options import DriftArguments
from letsam.cli.guidance import EXAMPLES
from letsam.cli.live import live_trial
from letsam.cli.terminal import (
    interruptible,
    print_inferred,
    print_line,
    print_note,
    print_results,
    print_table,
    print_verdict,
)
from letsam.languages import ENGLISH, check_language
from letsam.results import locked_folder, printable

if TYPE_CHECKING:
    from letsam.doctor import Finding
    from letsam.training.config import TrialConfig

__all__ = ["app"]

app = typer.Typer(pretty_exceptions_enable=False, rich_markup_mode=None)


def _show_version(asked: bool) -> None:
    if asked:
        print_line(f"letsam {__version__}")
        raise typer.Exit


@app.callback()
def all_commands(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Sharpness-aware training for PyTorch with a learned perturbation radius."""


@app.command("trial", epilog=EXAMPLES["trial"])
@options.takes(
    options.RunArguments,
    options.DataArguments,
    options.ModelArguments,
    DriftArguments,
    options.SearchArguments,
    DecisionArguments,
)
def trial_command(
    run: options.RunArguments,
    data: options.DataArguments,
    model: options.ModelArguments,
    drift: DriftArguments,
    search: options.SearchArguments,
    verdict: DecisionArguments,
    methods: options.Methods = None,
    seeds: options.Seeds = "3",
    refit: options.Refit = True,
    jobs: options.Jobs = 1,
    executor: options.ExecutorOption = "joblib",
    refit_best: options.RefitBest = False,
    export: options.Export = None,
) -> None:
    """Compare methods on a task. Prints a table and a verdict, writes results.json and report.html."""
    from letsam.model_folder.exporting import check_export
    from letsam.training.executors import check_executor

    check_executor(executor, jobs)
    check_export(export)
    check_language(run.language)
    if export is not None and not refit_best:
        raise ValueError(f"`export` needs --refit-best, which writes a model, got {export!r} without it")
    parsed, numbers = options.parse_methods(methods), options.parse_seeds(seeds)
    config = options.make_config(run, data, model, drift, methods=parsed, seeds=numbers, refit=refit)
    config = search.added_to(config)
    out = run.out or options.default_folder(run.task)
    storage = search.search_storage
    how: dict[str, Any] = {"executor": executor, "jobs": jobs, "refit_best": refit_best, "export": export}
    _run_trial(config, out, run, drift, storage, verdict, **how)


def _run_trial(
    config: TrialConfig,
    folder: Path,
    run: options.RunArguments,
    drift: DriftArguments,
    storage: str | None,
    verdict: DecisionArguments,
    *,
    executor: str,
    jobs: int,
    refit_best: bool,
    export: str | None,
) -> None:
    from letsam.cli.auditing_task import audit_for_record, print_audit
    from letsam.cli.saving import save_winner
    from letsam.reports.html import write_report
    from letsam.training import trial
    from letsam.training.devices import make_fabric
    from letsam.training.executors import make_backend
    from letsam.training.hyperparameter_search import Searches, check_search
    from letsam.training.learned_shift import with_learned_shift
    from letsam.training.learning_rate import with_learning_rate
    from letsam.training.rehearsal import rehearse

    logs = run.logs(folder)
    task = config.load_task()
    results_file = folder / trial.RESULTS if run.resume else None
    config, task = with_learned_shift(config.for_task(task), task, results_file)
    splits = trial.check_data(task, config)
    elsewhere = executor != "joblib"
    # A cluster has devices of its own, which this machine need not have.
    fabric = make_fabric("cpu") if elsewhere else make_fabric(run.device, run.strategy, config.precision)
    if (jobs > 1 or elsewhere) and fabric.world_size > 1:
        name, value, expected = ("executor", executor, "joblib") if elsewhere else ("jobs", jobs, 1)
        raise ValueError(f"`{name}` must be {expected} under torchrun, got {value}")
    if config.search is not None and fabric.world_size > 1:
        raise ValueError(f"`search` must not be given under torchrun, got {', '.join(config.search)}")
    config, task = with_learning_rate(config, splits, fabric, results_file)
    check_search(config, task)
    found, new = audit_for_record(config, task, drift, results_file, fabric)
    if fabric.is_global_zero:
        print_inferred(task.inferred)
        print_audit(found if new else None)
    with locked_folder(folder) if fabric.is_global_zero else nullcontext():
        surroundings, more = trial.environment(fabric), run.epochs is not None
        results = trial.open_results(folder, config, surroundings, task.inferred, resume=run.resume, more_epochs=more)
        fabric.barrier()  # all ranks must have read the folder before the first of them writes
        results, shorter = trial.without_shorter_runs(dataclasses.replace(results, audit=found), config)
        check_compared(verdict, [*(row.name for row in trial.planned(config)), *results.methods])
        keys = {row.key for row in trial.planned(config)}
        known = {row.key for row in results.runs}
        missing = [row for row in trial.planned(config) if row.key not in known]
        if not elsewhere:
            rehearse(config, fabric, splits, missing)
        if shorter is not None and fabric.is_global_zero:
            kept = trial.set_aside(folder, shorter)
            print_note(
                f"a trial keeps no checkpoints: all runs are trained again with {config.epochs} epochs; those with "
                f"{shorter} are in {kept}"
            )
        searches = None if config.search is None else Searches(config, task, storage, folder)
        state: Callable[[], str] = lambda: f"{len(results.runs)} of {len(keys)} runs are finished"  # noqa: E731
        if logs is not None and fabric.is_global_zero and not elsewhere:
            logs.prepare()
        with interruptible(state), live_trial(results, trial.planned(config), shown=fabric.is_global_zero) as live:
            if jobs > 1 or elsewhere:
                backend = make_backend(executor, jobs, run.device)
                running = trial.run_trial_on(
                    backend, config, run.device, results, folder, live.epoch, searches, logs, rehearsed=elsewhere
                )
            else:
                running = trial.run_trial(task, config, fabric, results, folder, live.epoch, splits, searches, logs)
            for finished in running:
                results = finished
                live.finished(results)
        if fabric.is_global_zero:
            print_results(results)
            results = conclude_trial(results, folder, verdict)
            write_report(results, folder / trial.REPORT, run.language)
            print_last_verdict(results)
            print_line(f"report: {folder / trial.REPORT}")
        if refit_best:
            save_winner(config, results, splits, fabric, folder, export, run.language)


@app.command("predict", epilog=EXAMPLES["predict"])
def predict_command(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="The folder of a model, or of results with one.")],
    data: Annotated[
        str, typer.Argument(metavar="DATA", help="A file or folder of the same form as the training data.")
    ],
    out: Annotated[Path, typer.Option(help="The CSV file to write.")] = Path("predictions.csv"),
    device: Annotated[str, typer.Option(help="cpu, cuda or mps.")] = "cpu",
    batch_size: Annotated[int, typer.Option(help="Samples that are predicted at once.")] = 256,
    key: Annotated[
        Path | None, typer.Option(metavar="PUBLIC", help="Public key that the model must be signed with.")
    ] = None,
) -> None:
    """Predict for new data with a model. Writes a CSV file with classes and probabilities, or numbers."""
    from letsam.model_folder import load

    checks.whole("batch_size", batch_size, 1)
    checks.choice("device", device, ("cpu", "cuda", "mps"))
    model = load(folder, device=device, key=key)
    if model.preparation is None:
        raise ValueError(
            f"{folder}: the model of the task {model.results.task!r}, which is no file of data, takes none"
        )
    table = model.predict(data, batch_size)
    table.save(out)
    print_line(f"{len(table)} predictions: {out}")


@app.command("report", epilog=EXAMPLES["report"])
def report_command(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder of a trial, with its results.json.")],
    language: options.Language = ENGLISH,
) -> None:
    """Make table, verdict and report of a trial again. Reads its results.json."""
    from letsam.reports.html import write_report
    from letsam.results import Results

    check_language(language)
    results = Results.load(folder / "results.json")
    write_report(results, folder / "report.html", language)
    print_results(results)
    print_last_verdict(results)
    print_line(f"report: {folder / 'report.html'}")


@app.command("decide", epilog=EXAMPLES["decide"])
@options.takes(DecisionArguments)
def decide_command(
    verdict: DecisionArguments,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder of a trial, with its results.json.")],
) -> int:
    """Make the verdict of a trial again, with its numbers. Reads results.json and the predictions beside it.

    Exit status: 0 for go, 1 for no-go, 3 if more seeds are needed, 2 for invalid input.
    """
    from letsam.results import Results

    Results.load(folder / "results.json")  # a folder without one is not locked, which would make the folder
    with locked_folder(folder):
        found = conclude(Results.load(folder / "results.json"), folder, verdict)
    print_verdict(found, numbers=True)
    return found.exit_status


@app.command("doctor", epilog=EXAMPLES["doctor"])
def doctor_command(
    setup: Annotated[str, typer.Argument(metavar="SETUP", help="path/to/file.py:function or package.module:function.")],
) -> int:
    """Look for mistakes in a training loop. Exit status: 1 where there is an error, 0 with warnings alone.

    The function of SETUP takes nothing and returns (optimizer, closure), followed by as many of validation_closure,
    model and scheduler as there are, or a mapping with these names.
    """
    from letsam.doctor import check
    from letsam.tasks.loading import call_function

    findings = check(**_check_arguments(setup, call_function(setup, {}, "setup")))
    if not findings:
        print("nothing is wrong")
        return 0
    print_findings(findings)
    return int(any(finding.severity == "error" for finding in findings))


def print_findings(findings: Iterable[Finding]) -> None:
    """Print a table of findings."""
    from rich.table import Column, Table
    from rich.text import Text

    table = Table("severity", Column("code", no_wrap=True), "what is wrong, and what to change")
    for finding in findings:
        lines = "\n".join(map(printable, f"{finding.message} (more: letsam docs {finding.page})".split("\n")))
        table.add_row(finding.severity, finding.code, Text(lines))
    print_table(table)


def _check_arguments(setup: str, returned: object) -> dict[str, Any]:
    """The arguments of `letsam.check` by name, from what the function of `letsam doctor` has returned."""
    names = ("optimizer", "closure", "validation_closure", "model", "scheduler")
    if isinstance(returned, (tuple, list)) and 2 <= len(returned) <= len(names):
        return dict(zip(names, returned, strict=False))
    if not isinstance(returned, Mapping) or not {"optimizer", "closure"} <= returned.keys():
        shown = checks.shown(returned)
        raise ValueError(f"{setup} must return (optimizer, closure), optionally with more of {names}, got {shown}")
    if unknown := [str(name) for name in returned if name not in names]:
        raise ValueError(f"{setup} gives `{unknown[0]}`, expected {', '.join(names)}")
    return dict(returned)
