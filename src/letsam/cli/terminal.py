"""What the commands show: tables on stdout; progress bars and messages on stderr."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console

from letsam.results import printable

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

    from letsam.decision import Decision
    from letsam.results import Results
    from letsam.training.trial import EpochCallback, PlannedRun


def print_results(results: Results) -> None:
    """Print the table of a trial, and on stderr warnings of steps that were skipped and of learned radii."""
    from letsam.reports.table import further_table, results_table
    from letsam.reports.verdict import radius_notes, skipped_steps_note

    print_table(results_table(results))
    further = further_table(results)
    if further is not None:
        print_table(further)
    note = skipped_steps_note(results)
    if note is not None:
        print_note(f"warning: {note}")
    for note in radius_notes(results):
        print_note(f"warning: {note}")


def print_verdict(found: Decision, *, numbers: bool) -> None:
    """Print a verdict, and on request the numbers that it rests on."""
    from rich.text import Text

    from letsam.decision import explanation, headline, numbers_beneath

    print_table(Text(printable(headline(found)), style="bold"))
    for text in explanation(found):
        print_table(Text(printable(text)))
    if numbers:
        print_pairs(numbers_beneath(found))


def print_pairs(pairs: Iterable[tuple[str, str]]) -> None:
    """Print numbers by name, in pairs of what and its value."""
    print_rows(("number", "value"), pairs)


def print_rows(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table of texts."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(*headings, box=box.SIMPLE_HEAD, show_edge=False)
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    print_table(table)


def print_inferred(inferred: Sequence[tuple[str, str]]) -> None:
    """Print what was inferred from files of data, if anything was."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    if not inferred:
        return
    table = Table("what", "inferred", title="the data", title_justify="left", box=box.SIMPLE_HEAD, show_edge=False)
    for what, value in inferred:
        table.add_row(Text(printable(what)), Text(printable(value)))
    print_table(table)


def print_line(text: str) -> None:
    """Print on stdout. What a terminal would act on is written as an escape."""
    print(printable(text))


def print_note(text: str) -> None:
    """Print on stderr. What a terminal would act on is written as an escape."""
    print(printable(text), file=sys.stderr)


def print_table(table: Table | Text) -> None:
    """Print on stdout, with a width of 120 where stdout is not a terminal."""
    console = Console()
    (console if console.is_terminal else Console(width=120)).print(table)


@contextmanager
def interruptible(state: Callable[[], str]) -> Iterator[None]:
    """When the user interrupts, say what is finished and how to continue."""
    try:
        yield
    except KeyboardInterrupt:
        message = f"interrupted: {state()}; the same command with --resume completes the rest"
        print(message, file=sys.stderr)
        raise


@contextmanager
def sample_bars() -> Iterator[Callable[[str, int, int], None]]:
    """A bar for each model that predicts, on stderr; nothing where stderr is not a terminal.

    Yields:
        The callback that moves the bars; it takes the name of a bar, the number of samples so far and of all.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description:12}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        bars: dict[str, TaskID] = {}

        def callback(name: str, done: int, total: int) -> None:
            if name not in bars:
                bars[name] = progress.add_task(name, total=total)
            progress.update(bars[name], completed=done)

        yield callback


@contextmanager
def progress_bars(total: int, finished: int, *, shown: bool) -> Iterator[EpochCallback]:
    """A bar for all runs and one for each run in progress, on stderr; nothing where stderr is not a terminal.

    Args:
        total: number of runs.
        finished: how many of them are finished.
        shown: False on ranks that show nothing.

    Yields:
        The callback that moves the bars.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description:32}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, disable=not (shown and console.is_terminal)) as progress:
        whole = progress.add_task("runs", total=total, completed=finished)
        bars: dict[tuple[str, int], TaskID] = {}

        def callback(run: PlannedRun, epoch: int, epochs: int) -> None:
            if run.key not in bars:
                bars[run.key] = progress.add_task(printable(f"{run.name}, seed {run.seed}"), total=epochs)
            progress.update(bars[run.key], completed=epoch)
            if epoch == epochs:
                progress.remove_task(bars.pop(run.key))
                progress.advance(whole)

        yield callback


@contextmanager
def sample_bar() -> Iterator[Callable[[int, int], None]]:
    """A bar for samples that are read, on stderr; nothing where stderr is not a terminal.

    Yields:
        What moves it: takes the number of samples that have been read, and that of all.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("samples"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as shown:
        bar = shown.add_task("samples", total=None)
        yield lambda done, total: shown.update(bar, completed=done, total=total)
