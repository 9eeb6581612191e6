"""The command line: `letsam trial`, `train`, `report`, `doctor`, `tasks`, `methods`.

Bad input is one line on stderr and exit status 2; an interruption is exit status 130. What a command needs is imported
when it runs.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from letsam import checks

if TYPE_CHECKING:
    from rich.table import Table

    from letsam.results import Results

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Sharpness-aware training for PyTorch with a learned perturbation radius.",
)

MOST_SEEDS = 1000  # a larger count is a seed by mistake

TaskName = Annotated[
    str, typer.Argument(metavar="TASK", help="A task's name, path/to/file.py:function or package.module:function.")
]
Rho = Annotated[float | None, typer.Option(help="Radius where a method's name gives none.")]
Epochs = Annotated[int | None, typer.Option(help="Passes over the training data.  [default: the task's]")]
BatchSize = Annotated[int | None, typer.Option(help="Samples a step.  [default: the task's]")]
LabelNoise = Annotated[float, typer.Option(help="Share of wrong training labels, 0 to below 1.")]
ValidationShare = Annotated[float, typer.Option(help="Share held out for learned radii, between 0 and 1.")]
TrainSize = Annotated[int | None, typer.Option(help="Training samples, for tasks that offer a choice.")]
DataDir = Annotated[Path | None, typer.Option(help="Folder with the data, for tasks that read files.")]
ModelName = Annotated[str | None, typer.Option(help="The model, for tasks that offer a choice.")]
Out = Annotated[Path | None, typer.Option(help="Folder for what is written.  [default: runs/TASK]")]
Jobs = Annotated[int, typer.Option(help="Runs side by side, each in a process with one thread.")]
Resume = Annotated[bool, typer.Option("--resume", help="Keep what is finished in the folder and complete the rest.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
Strategy = Annotated[str | None, typer.Option(help="Under torchrun: ddp or fsdp.  [default: ddp]")]
Precision = Annotated[str | None, typer.Option(help="32-true, 16-mixed, bf16-mixed, bf16-true or 64-true.")]
Accumulate = Annotated[int, typer.Option(help="Micro-batches that a batch is split into.")]
MaxGradNorm = Annotated[float | None, typer.Option(help="Clip the gradients of all methods at this total norm.")]


@app.command()
def trial(
    task: TaskName,
    methods: Annotated[str, typer.Option(help="Names, separated by commas; see letsam methods.")] = (
        "sgd,sam,asam,lets-sam,lets-asam"
    ),
    seeds: Annotated[str, typer.Option(help="A count (3: seeds 0, 1, 2) or a list (11,12,13).")] = "3",
    rho: Rho = None,
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    label_noise: LabelNoise = 0.0,
    validation_share: ValidationShare = 0.1,
    refit: Annotated[bool, typer.Option(help="Replay each learned schedule on all the data, as its own row.")] = True,
    train_size: TrainSize = None,
    data_dir: DataDir = None,
    model: ModelName = None,
    out: Out = None,
    resume: Resume = False,
    jobs: Jobs = 1,
    device: Device = "auto",
    strategy: Strategy = None,
    precision: Precision = None,
    accumulate: Accumulate = 1,
    max_grad_norm: MaxGradNorm = None,
) -> None:
    """Compare methods on a task: a table, results.json and report.html."""
    from letsam.reports.html import write_report
    from letsam.tasks import load_task
    from letsam.training import trial as trials
    from letsam.training.config import TrialConfig
    from letsam.training.devices import make_fabric

    checks.whole("jobs", jobs, 1)
    config = TrialConfig(
        task=task,
        methods=tuple(part.strip() for part in methods.split(",") if part.strip()),
        seeds=_seeds(seeds),
        rho=rho,
        epochs=epochs,
        batch_size=batch_size,
        label_noise=label_noise,
        validation_share=validation_share,
        refit=refit,
        train_size=train_size,
        data_dir=_text(data_dir),
        model=model,
        precision=precision,
        accumulate=accumulate,
        max_grad_norm=max_grad_norm,
    )
    loaded = load_task(task, train_size=train_size, data_dir=data_dir, model=model)
    config = config.for_task(loaded)
    trials.check_data(loaded, config)
    fabric = make_fabric(device, strategy, precision)
    if jobs > 1 and fabric.world_size > 1:
        raise ValueError(f"`jobs` must be 1 under torchrun, got {jobs}")
    folder = out or _default_folder(task)
    results = trials.open_results(folder, config, trials.environment(fabric), resume=resume)
    fabric.barrier()  # all ranks have read before the first of them writes
    rows = trials.planned(config)
    done = sum((run.method, run.seed) in rows for run in results.runs)
    state: Callable[[], str] = lambda: f"{len(results.runs)} of {len(rows)} runs are finished"  # noqa: E731
    with _interruptible(state), _progress(len(rows), done, shown=fabric.is_global_zero) as watch:
        if jobs > 1:
            running = trials.run_trial_side_by_side(config, device, jobs, results, folder, watch)
        else:
            running = trials.run_trial(loaded, config, fabric, results, folder, watch)
        for finished in running:
            results = finished
    if fabric.is_global_zero:
        write_report(results, folder / trials.REPORT)
        _print_table(results)
        print(f"report: {folder / trials.REPORT}")


@app.command()
def train(
    task: TaskName,
    method: Annotated[str, typer.Option(help="One method's name; see letsam methods.")],
    seed: Annotated[int, typer.Option(help="Splits, initial weights and batch order depend on it alone.")] = 0,
    rho: Rho = None,
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    label_noise: LabelNoise = 0.0,
    validation_share: ValidationShare = 0.1,
    train_size: TrainSize = None,
    data_dir: DataDir = None,
    model: ModelName = None,
    out: Out = None,
    resume: Resume = False,
    device: Device = "auto",
    strategy: Strategy = None,
    precision: Precision = None,
    accumulate: Accumulate = 1,
    max_grad_norm: MaxGradNorm = None,
) -> None:
    """One run of one method, with a checkpoint after every epoch: results.json, report.html, checkpoint.pt."""
    from letsam.reports.html import write_report
    from letsam.results import Results
    from letsam.tasks import load_task
    from letsam.training.checkpoint import load_checkpoint, save_checkpoint
    from letsam.training.config import TrialConfig
    from letsam.training.devices import make_fabric
    from letsam.training.loop import Training
    from letsam.training.methods import Method
    from letsam.training.trial import REPORT, RESULTS, environment, open_results

    config = TrialConfig(
        task=task,
        methods=(method,),
        seeds=(seed,),
        rho=rho,
        epochs=epochs,
        batch_size=batch_size,
        label_noise=label_noise,
        validation_share=validation_share,
        refit=False,
        train_size=train_size,
        data_dir=_text(data_dir),
        model=model,
        precision=precision,
        accumulate=accumulate,
        max_grad_norm=max_grad_norm,
    )
    loaded = load_task(task, train_size=train_size, data_dir=data_dir, model=model)
    config = config.for_task(loaded)
    fabric = make_fabric(device, strategy, precision)
    folder = out or _default_folder(task) / f"{method.replace(':', '-')}-{seed}"
    path = folder / "checkpoint.pt"
    earlier = open_results(folder, config, environment(fabric), resume=resume)
    if any((run.method, run.seed) != (method, seed) for run in earlier.runs):
        raise ValueError(f"{folder / RESULTS}: holds other runs than {method} with seed {seed}; choose another --out")
    if not resume and path.exists():
        raise ValueError(f"{path}: holds a run already; add --resume to complete it, or choose another --out")
    identity = {name: value for name, value in config.as_json().items() if name != "data_dir"}
    run = Training(loaded, Method.parse(method), seed, config, fabric)
    if path.exists():
        state = load_checkpoint(path, identity)
        try:
            run.load_state_dict(state)
        except (RuntimeError, ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path}: expected a checkpoint of this model and optimizer, got another's") from error
    epochs_done: Callable[[], str] = lambda: f"{run.epoch} of {run.epochs} epochs are finished"  # noqa: E731
    fabric.barrier()  # all ranks have read before the first of them writes
    with _interruptible(epochs_done), _progress(1, 0, shown=fabric.is_global_zero) as watch:
        while not run.finished:
            run.advance()
            state = run.state_dict()
            if fabric.is_global_zero:
                save_checkpoint(path, state, identity)
            watch(method, seed, run.epoch, run.epochs)
    if not fabric.is_global_zero:
        return
    results = Results(task, config.as_json(), environment(fabric), (run.result(),))
    results.save(folder / RESULTS)
    write_report(results, folder / REPORT)
    _print_table(results)
    print(f"checkpoint: {path}\nreport: {folder / REPORT}")


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder of a trial, with its results.json.")],
) -> None:
    """Make the table and report.html again from results.json."""
    from letsam.reports.html import write_report
    from letsam.results import Results

    results = Results.load(folder / "results.json")
    write_report(results, folder / "report.html")
    _print_table(results)
    print(f"report: {folder / 'report.html'}")


@app.command()
def doctor(
    setup: Annotated[str, typer.Argument(metavar="SETUP", help="path/to/file.py:function or package.module:function.")],
) -> int:
    """Look for mistakes in a training loop; exit status 1 where there is an error, 0 with warnings alone.

    The function of SETUP takes nothing and returns (optimizer, closure), followed by as many of validation_closure,
    model and scheduler as there are, or a mapping with these names.
    """
    from rich.table import Column, Table
    from rich.text import Text

    from letsam.doctor import check
    from letsam.tasks.loading import call_function

    findings = check(**_arguments(setup, call_function(setup, {}, "setup")))
    if not findings:
        print("nothing is wrong")
        return 0
    table = Table("severity", Column("code", no_wrap=True), "what is wrong, and what to change")
    for finding in findings:
        table.add_row(finding.severity, finding.code, Text(finding.message))
    _print(table)
    return int(any(finding.severity == "error" for finding in findings))


@app.command()
def tasks() -> None:
    """List the built-in tasks."""
    from letsam.tasks import available_tasks

    for name, description in available_tasks():
        print(f"{name:15} {description}")
    print("Your own: path/to/file.py:function or package.module:function, returning a letsam.tasks.Task.")


@app.command("methods")
def list_methods() -> None:
    """List the methods."""
    from letsam.training.methods import KINDS
    from letsam.variants import VARIANTS

    width = max(map(len, KINDS))
    for name, kind in KINDS.items():
        print(f"{name:{width}} {kind.description}")
    print("With a radius: sam:0.1 (fixed), lets-sam:0.1 (learned, started there).")
    print(
        "Paper, training passes a step, copies of the weights held (one more if the radius is learned), learned radius:"
    )
    for name, variant in VARIANTS.items():
        facts = variant.facts
        print(f"{name:{width}} {facts.paper:17} {facts.passes:8} {facts.copies:<2} {facts.learned}")


def run(arguments: Sequence[str]) -> int:
    """Run the command line.

    Args:
        arguments: without the program's name.

    Returns:
        The exit status: 0, 2 for bad input, 130 for an interruption.
    """
    try:
        status = app(args=list(arguments) or ["--help"], prog_name="letsam", standalone_mode=False)
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        if os.environ.get("LETSAM_TRACEBACK"):
            raise
        return _fail(error)
    return status if isinstance(status, int) else 0


def _fail(error: Exception) -> int:
    """One line on stderr; an error that nobody foresaw names its type as well."""
    formatted = getattr(error, "format_message", None)
    message = str(formatted()) if formatted else str(error)
    if isinstance(error, ModuleNotFoundError) and error.name and not error.name.startswith("letsam"):
        message = f'the command letsam needs the package {error.name}: install it with pip install "letsam[trial]"'
    elif not formatted and not isinstance(error, (ValueError, OSError)):
        message = f"{type(error).__name__}: {message} (LETSAM_TRACEBACK=1 shows where)"
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    return 2


def _print_table(results: Results) -> None:
    from letsam.reports.table import results_table

    _print(results_table(results))


def _print(table: Table) -> None:
    """On stdout, as wide as it needs where nobody's terminal limits it."""
    console = Console()
    (console if console.is_terminal else Console(width=120)).print(table)


def _arguments(setup: str, returned: object) -> dict[str, Any]:
    """What a function for `letsam doctor` has returned, by the names of `letsam.check`."""
    names = ("optimizer", "closure", "validation_closure", "model", "scheduler")
    if isinstance(returned, (tuple, list)) and 2 <= len(returned) <= len(names):
        return dict(zip(names, returned, strict=False))
    if not isinstance(returned, Mapping) or not {"optimizer", "closure"} <= returned.keys():
        shown = checks.shown(returned)
        raise ValueError(f"{setup} must return (optimizer, closure), optionally with more of {names}, got {shown}")
    if unknown := [str(name) for name in returned if name not in names]:
        raise ValueError(f"{setup} gives `{unknown[0]}`, expected {', '.join(names)}")
    return dict(returned)


def _seeds(text: str) -> tuple[int, ...]:
    parts = [part.strip() for part in text.split(",")]
    try:
        numbers = [int(part) for part in parts if part]
    except ValueError:
        numbers = []
    if not numbers or min(numbers) < 0 or (len(parts) == 1 and numbers[0] < 1):
        raise ValueError(f"`seeds` must be a count >= 1 (3) or a list of whole numbers >= 0 (11,12,13), got {text!r}")
    if len(parts) == 1 and numbers[0] > MOST_SEEDS:
        raise ValueError(f"`seeds` must be a count up to {MOST_SEEDS}, got {text}; for one seed write {text.strip()},")
    return tuple(range(numbers[0])) if len(parts) == 1 else tuple(numbers)


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


def _default_folder(task: str) -> Path:
    return Path("runs") / Path(task.replace(":", "-")).name


@contextmanager
def _interruptible(state: Callable[[], str]) -> Iterator[None]:
    """Say what is kept when the user interrupts."""
    try:
        yield
    except KeyboardInterrupt:
        message = f"interrupted: {state()}; the same command with --resume completes the rest"
        print(message, file=sys.stderr)
        raise


@contextmanager
def _progress(total: int, finished: int, *, shown: bool) -> Iterator[Callable[[str, int, int, int], None]]:
    """A bar for the whole trial and one for each run under way, on stderr; nothing where stderr is not a terminal."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description:32}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not (shown and console.is_terminal)) as progress:
        whole = progress.add_task("runs", total=total, completed=finished)
        bars: dict[tuple[str, int], TaskID] = {}

        def watch(row: str, seed: int, epoch: int, epochs: int) -> None:
            if (row, seed) not in bars:
                bars[row, seed] = progress.add_task(f"{row}, seed {seed}", total=epochs)
            progress.update(bars[row, seed], completed=epoch)
            if epoch == epochs:
                progress.remove_task(bars.pop((row, seed)))
                progress.advance(whole)

        yield watch


__all__ = ["app", "run"]
