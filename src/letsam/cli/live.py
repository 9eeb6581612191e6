"""What is shown while a trial runs: finished seeds, means so far, what is running, time left.

A terminal has a table of it; where stderr is piped, there is a line now and then.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from letsam.results import printable

if TYPE_CHECKING:
    from letsam.results import Results
    from letsam.training.methods import PlannedRun

__all__ = ["LiveTrial", "clock_text", "live_trial"]


FIRST = 5.0
"""After how many seconds there is a first line; the times between the next ones are three times as long each."""
SECONDS = 30.0
"""How long there is no line after a line, at most."""
SHARE = 0.02
"""Of all that is to be trained: how much must be done before the time that is left is told."""


class LiveTrial:
    """What is known of a trial that is running; rich shows it as a table.

    Args:
        results: so far.
        plan: all runs, in order.
        clock: gives seconds.
        tell: is given a line after `FIRST` seconds, then less often, at last every `SECONDS`; None: no lines.
    """

    def __init__(
        self,
        results: Results,
        plan: Sequence[PlannedRun],
        clock: Callable[[], float] = time.monotonic,
        tell: Callable[[str], None] | None = None,
    ) -> None:
        self._clock, self._started, self._told = clock, clock(), clock()
        self._pause = FIRST
        self._tell: Callable[[str], None] | None = None
        self._plan = {run.key: run for run in plan}
        self._running: dict[tuple[str, int], tuple[int, int]] = {}
        self.finished(results)
        self._at_start = len(self._done)
        self._tell = tell

    def epoch(self, run: PlannedRun, epoch: int, epochs: int) -> None:
        """Take in that `epoch` of the `epochs` of a run are done."""
        self._running[run.key] = epoch, epochs
        self._tell_now_and_then()

    def finished(self, results: Results) -> None:
        """Take in the results after a run has finished."""
        from letsam.reports.table import columns, table_rows

        self._task = results.task
        self._metric = columns(results)[1]
        self._rows = {row.method: row for row in table_rows(results)}
        self._done = {run.key for run in results.runs} & self._plan.keys()
        for key in self._done:
            self._running.pop(key, None)
        self._tell_now_and_then()

    def _tell_now_and_then(self) -> None:
        if self._tell is not None and self._clock() - self._told >= min(self._pause, SECONDS):
            self._told, self._pause = self._clock(), 3 * self._pause
            running = [f"{method} seed {seed} epoch {e} of {n}" for (method, seed), (e, n) in self._running.items()]
            self._tell(self._title() + printable(f"; running: {', '.join(running)}" if running else ""))

    @property
    def seconds_left(self) -> float | None:
        """How long the rest will take at the speed so far; None before a fiftieth is done, as what is first is slow."""
        shares = sum(epoch / epochs for epoch, epochs in self._running.values())
        finished = len(self._done) - self._at_start + shares
        left = len(self._plan) - len(self._done) - shares
        told = finished > 0 and finished >= SHARE * (finished + left)
        return (self._clock() - self._started) * left / finished if told else None

    def __rich__(self) -> Group:
        """The table, as it is now, below a line on the whole."""
        table = Table(box=None, padding=(0, 2, 0, 0))
        for heading in ("method", "seeds"):
            table.add_column(heading, justify="left" if heading == "method" else "right", no_wrap=True)
        table.add_column(Text(printable(f"{self._metric}, so far")), justify="right", no_wrap=True)
        table.add_column("now", no_wrap=True)
        for method in dict.fromkeys(name for name, _ in self._plan):
            row = self._rows.get(method)
            seeds = [key for key in self._plan if key[0] == method]
            now = [f"seed {key[1]}: epoch {e} of {n}" for key, (e, n) in self._running.items() if key[0] == method]
            cells = (
                printable(method),
                f"{sum(key in self._done for key in seeds)}/{len(seeds)}",
                "" if row is None else row.cells[1],
                ", ".join(now),
            )
            table.add_row(*map(Text, cells), style="bold" if row is not None and row.best else None)
        return Group(Text(self._title(), no_wrap=True, overflow="ellipsis"), table)

    def _title(self) -> str:
        parts = [f"{len(self._done)}/{len(self._plan)} runs"]
        best = next((row for row in self._rows.values() if row.best), None)
        if best is not None:
            parts.append(f"best so far {best.method} {best.cells[1]}")
        parts.append(f"{clock_text(self._clock() - self._started)} elapsed")
        if self.seconds_left is not None:
            parts.append(f"about {clock_text(self.seconds_left)} left")
        return printable(f"{self._task}: {', '.join(parts)}")


def clock_text(seconds: float) -> str:
    """A duration as hours, minutes and seconds.

    Example:
        >>> clock_text(75), clock_text(7384)
        ('1:15', '2:03:04')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


@contextmanager
def live_trial(results: Results, plan: Sequence[PlannedRun], *, shown: bool) -> Iterator[LiveTrial]:
    """Show the table on stderr while the block runs, where stderr is a terminal; it disappears at the end.

    Where stderr is no terminal, a line is written to it after 5, 20 and 50 seconds, and then every 30 seconds.

    Args:
        results: so far.
        plan: all runs, in order.
        shown: False on ranks that show nothing.
    """
    from rich.live import Live

    console = Console(stderr=True)
    if not (shown and console.is_terminal):
        tell: Callable[[str], None] = lambda line: print(line, file=sys.stderr, flush=True)  # noqa: E731
        yield LiveTrial(results, plan, tell=tell if shown else None)
        return
    trial = LiveTrial(results, plan)
    with Live(get_renderable=lambda: trial.__rich__(), console=console, transient=True, refresh_per_second=4):
        yield trial
