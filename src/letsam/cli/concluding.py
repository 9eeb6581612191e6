"""The verdict of a trial: made from its files, written into ``results.json``, and printed."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from letsam.cli.options import complete_methods
from letsam.cli.terminal import print_line, print_verdict
from letsam.results.nearest import did_you_mean

if TYPE_CHECKING:
    from letsam.decision import Decision
    from letsam.results import Results


@dataclass(frozen=True, kw_only=True)
class DecisionArguments:
    """What the verdict compares, and which gain is worth having. What is not given is as in the last verdict."""

    baseline: Annotated[
        str | None,
        typer.Option(help="Method used today.  [default: the base optimizer]", autocompletion=complete_methods),
    ] = None
    candidate: Annotated[
        str | None,
        typer.Option(
            help="Method that may replace it.  [default: the learned radius, its refit if there is one]",
            autocompletion=complete_methods,
        ),
    ] = None
    minimum_effect: Annotated[
        float | None,
        typer.Option(help="Gain worth having, in the unit of the table: points of an accuracy.  [default: 0]"),
    ] = None
    cost_per_pass: Annotated[float | None, typer.Option(help="Price of a gradient pass, in any currency.")] = None
    planned_seeds: Annotated[
        int | None, typer.Option(help="Seeds at which the trial ends without a go.  [default: 10]")
    ] = None


def check_compared(given: DecisionArguments, methods: Iterable[str]) -> None:
    """Raise ValueError where an option of the verdict names a method that there will not be, or is out of range."""
    from letsam.decision.deciding import checked_options

    names = tuple(dict.fromkeys(methods))
    for option, name in (("baseline", given.baseline), ("candidate", given.candidate)):
        if name is not None and name not in names:
            hint = did_you_mean(name, names)
            raise ValueError(f"`{option}` must be a method of this trial: {', '.join(names)}; got {name!r}{hint}")
    if given.candidate is not None and given.candidate == given.baseline:
        raise ValueError(f"`candidate` and `baseline` must be two methods, got {given.candidate!r} for both")
    checked_options(given.minimum_effect, given.cost_per_pass, given.planned_seeds)


def conclude(results: Results, folder: Path, given: DecisionArguments) -> Decision:
    """Make the verdict and write it into the ``results.json`` of the folder.

    Args:
        results: the trial.
        folder: of the trial, with the predictions of its runs.
        given: the options of the verdict; what is None is as in the last one.

    Raises:
        ValueError: there is nothing to compare.
    """
    from letsam.decision import decide
    from letsam.results.predicted import load_predictions
    from letsam.training.predictions import measure_of

    predictions = load_predictions(folder, [run.key for run in results.runs])
    options = dataclasses.asdict(given)
    found = decide(results, predictions=predictions, measure=measure_of(results, predictions), **options)
    dataclasses.replace(results, decision=found.as_json()).save(folder / "results.json")
    return found


def conclude_trial(results: Results, folder: Path, given: DecisionArguments) -> Results:
    """The same at the end of a trial, where there need not be two methods to compare.

    Returns:
        The results with the verdict, if there is one.
    """
    try:
        found = conclude(results, folder, given)
    except ValueError as error:
        if given != DecisionArguments():
            raise
        print_line(f"no verdict: {error}")
        return results
    return dataclasses.replace(results, decision=found.as_json())


def print_last_verdict(results: Results, *, numbers: bool = False) -> None:
    """Print the verdict that the results hold, if they do."""
    from letsam.decision import Decision

    if results.decision is not None:
        print_verdict(Decision.from_json(results.decision), numbers=numbers)
