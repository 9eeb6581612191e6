"""The options of the commands, and how lists of methods and seeds are read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from letsam.training.methods import Method

MAX_SEEDS = 1000  # a larger number is probably meant as one seed, not as a count

TaskName = Annotated[
    str, typer.Argument(metavar="TASK", help="A task's name, path/to/file.py:function or package.module:function.")
]
Methods = Annotated[str, typer.Option(help="Names, separated by commas; see letsam methods.")]
MethodOption = Annotated[str, typer.Option(help="One method's name; see letsam methods.")]
Seeds = Annotated[str, typer.Option(help="A count (3: seeds 0, 1, 2) or a list (11,12,13).")]
Seed = Annotated[int, typer.Option(help="Splits, initial weights and batch order depend on it alone.")]
Rho = Annotated[float | None, typer.Option(help="Radius where a method's name gives none.")]
Epochs = Annotated[int | None, typer.Option(help="Passes over the training data.  [default: the task's]")]
BatchSize = Annotated[int | None, typer.Option(help="Samples a step.  [default: the task's]")]
LabelNoise = Annotated[float, typer.Option(help="Fraction of wrong training labels, at least 0 and below 1.")]
ValidationShare = Annotated[float, typer.Option(help="Fraction held out for learned radii, between 0 and 1.")]
Refit = Annotated[bool, typer.Option(help="Replay each learned schedule on all the data, as another run.")]
TrainSize = Annotated[int | None, typer.Option(help="Training samples, for tasks that offer a choice.")]
DataDir = Annotated[Path | None, typer.Option(help="Folder with the data, for tasks that read files.")]
ModelName = Annotated[str | None, typer.Option(help="The model, for tasks that offer a choice.")]
Out = Annotated[Path | None, typer.Option(help="Folder for the results.  [default: runs/TASK]")]
Jobs = Annotated[int, typer.Option(help="Runs in parallel, each in a process with one thread.")]
Resume = Annotated[bool, typer.Option("--resume", help="Keep what is finished in the folder and complete the rest.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
Strategy = Annotated[str | None, typer.Option(help="Under torchrun: ddp or fsdp.  [default: ddp]")]
Precision = Annotated[str | None, typer.Option(help="32-true, 16-mixed, bf16-mixed, bf16-true or 64-true.")]
Accumulate = Annotated[int, typer.Option(help="Micro-batches that a batch is split into.")]
MaxGradNorm = Annotated[float | None, typer.Option(help="Clip the gradients of all methods at this total norm.")]


def parse_methods(text: str) -> tuple[Method, ...]:
    """Read a list of methods, separated by commas."""
    from letsam.training.methods import Method

    return tuple(Method.parse(part.strip()) for part in text.split(",") if part.strip())


def parse_seeds(text: str) -> tuple[int, ...]:
    """Read a number of seeds, or a list of seeds, separated by commas.

    Example:
        >>> parse_seeds("3"), parse_seeds("7,"), parse_seeds("11,12")
        ((0, 1, 2), (7,), (11, 12))
    """
    parts = [part.strip() for part in text.split(",")]
    try:
        numbers = [int(part) for part in parts if part]
    except ValueError:
        numbers = []
    if not numbers or min(numbers) < 0 or (len(parts) == 1 and numbers[0] < 1):
        raise ValueError(f"`seeds` must be a count >= 1 (3) or a list of whole numbers >= 0 (11,12,13), got {text!r}")
    if len(parts) == 1 and numbers[0] > MAX_SEEDS:
        raise ValueError(f"`seeds` must be a count up to {MAX_SEEDS}, got {text}; for one seed write {text.strip()},")
    return tuple(range(numbers[0])) if len(parts) == 1 else tuple(numbers)


def default_folder(task: str) -> Path:
    """The folder for the results of a task where the option `--out` is not given."""
    return Path("runs") / Path(task.replace(":", "-")).name
