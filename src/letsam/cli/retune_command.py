"""`letsam retune`: train a model again on new data, compare, and write the next version."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from letsam.cli.commands import app
from letsam.cli.guidance import examples
from letsam.cli.live import live_trial
from letsam.cli.options import Language, Seeds, parse_seeds
from letsam.cli.terminal import interruptible, print_line, print_results, print_verdict
from letsam.languages import ENGLISH

if TYPE_CHECKING:
    from letsam.operation.retuning import RetuneReport
    from letsam.results import Results
    from letsam.training.methods import PlannedRun

__all__ = ["retune_command"]


@app.command(
    "retune",
    epilog=examples(
        "how-to/retune",
        "letsam retune runs/patients october.csv",
        "letsam retune runs/patients-versions november.csv --old patients.csv --evaluate-shift noisy:2 --resume",
    ),
)
def retune_command(
    model: Annotated[
        Path, typer.Argument(metavar="MODEL", help="Folder of a model, of results with one, or of versions.")
    ],
    data: Annotated[
        str, typer.Argument(metavar="DATA", help="New data of the same form as the training data, with targets.")
    ],
    old: Annotated[
        str | None, typer.Option(metavar="DATA", help="Earlier data that are mixed with the new ones.")
    ] = None,
    test: Annotated[
        str | None, typer.Option(metavar="DATA", help="Test data.  [default: a part of DATA is held out]")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the versions.  [default: that of MODEL, or MODEL-versions]")
    ] = None,
    radius: Annotated[
        str, typer.Option(help="fresh: learned from its first value on; continue: from its last one.")
    ] = "fresh",
    epochs: Annotated[int | None, typer.Option(help="Passes over the data.  [default: 20]")] = None,
    lr: Annotated[float | None, typer.Option(help="Learning rate.  [default: 0.3 times that of training]")] = None,
    seeds: Seeds = "5",
    validation_share: Annotated[
        float, typer.Option(help="Fraction of the new data that the radius is learned on, between 0 and 1.")
    ] = 0.1,
    evaluate_shift: Annotated[
        str | None, typer.Option(help="Test under drift as well, such as noise,blur:2; a loss there is no go.")
    ] = None,
    minimum_effect: Annotated[
        float, typer.Option(help="Gain worth having, in the unit of the table: points of an accuracy.")
    ] = 0.0,
    promote: Annotated[bool, typer.Option(help="Make the new version the current one if the verdict is go.")] = True,
    sign: Annotated[
        Path | None, typer.Option(metavar="PRIVATE", help="Key that the new version is signed with; see letsam sign.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Complete a re-tuning that was interrupted.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    language: Language = ENGLISH,
) -> int:
    """Train a model again on new data. The best challenger becomes a version, and the current one after a go.

    Challengers: the base optimizer, the old radius, and the radius learned again. Each is compared with the model as it
    is, on test data held out of DATA.

    Exit status: 0 for go, 1 for no-go, 2 for invalid input.
    """
    from letsam.operation.retune_plan import EPOCHS
    from letsam.operation.retuning import retune

    state = _RunsDone()
    with interruptible(state.text):
        found = retune(
            model,
            data,
            out=out,
            old=old,
            test=test,
            radius=radius,
            epochs=EPOCHS if epochs is None else epochs,
            lr=lr,
            seeds=parse_seeds(seeds),
            validation_share=validation_share,
            evaluate_shift=evaluate_shift,
            minimum_effect=minimum_effect,
            promote=promote,
            sign=sign,
            resume=resume,
            device=device,
            language=language,
            progress=state.shown,
        )
    _print_report(found)
    return found.exit_status


class _RunsDone:
    """How many runs are finished, for who interrupts."""

    def __init__(self) -> None:
        self.done, self.all = 0, 0

    def text(self) -> str:
        return f"{self.done} of {self.all} runs are finished" if self.all else "no run is finished"

    @contextmanager
    def shown(self, results: Results, plan: Sequence[PlannedRun]) -> Iterator[Any]:
        """The table of `live_trial`, and the numbers of runs."""
        self.done, self.all = len(results.runs), len(plan)
        with live_trial(results, plan, shown=True) as live:
            show = live.finished

            def finished(results: Results) -> None:
                self.done = len(results.runs)
                show(results)

            live.finished = finished
            yield live


def _print_report(found: RetuneReport) -> None:
    print_results(found.results)
    print_verdict(found.promotion.held_out, numbers=False)
    shifted = found.promotion.shifted
    if shifted is not None and shifted.lower is not None and shifted.upper is not None:
        verb = "worse" if found.promotion.worse_under_shift else "not shown to be worse"
        print_line(
            f"Under shift, {shifted.candidate} is {verb}: the mean gain is {shifted.gain:+.2f}{shifted.unit}, between "
            f"{shifted.lower:+.2f} and {shifted.upper:+.2f}."
        )
    print_line(f"report: {found.page}")
    if found.version is None:
        print_line("no version is written: every challenger diverged")
        return
    print_line(f"version: {found.version} ({found.promotion.candidate}, {'' if found.current else 'not '}current)")
