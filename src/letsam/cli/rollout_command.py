"""`letsam rollout`: proceed, hold or roll back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from letsam.cli.commands import app
from letsam.cli.guidance import examples
from letsam.cli.terminal import print_line, print_note, print_rows, print_table
from letsam.results import printable

__all__ = ["rollout_command"]


@app.command(
    "rollout", epilog=examples("how-to/rollout", "letsam rollout july.toml --init", "letsam rollout july.toml --json")
)
def rollout_command(
    plan: Annotated[Path, typer.Argument(metavar="PLAN.toml", help="The plan: models, stages and their gates.")],
    init: Annotated[
        bool, typer.Option("--init", help="Write an example of a plan with comments to PLAN.toml.")
    ] = False,
    stage: Annotated[
        str | None, typer.Option(help="Judge this stage, such as 10%; the log is neither read nor written.")
    ] = None,
    since: Annotated[
        str | None, typer.Option(help="With --stage: when it began, such as 2030-01-31T12:00:00Z.  [default: always]")
    ] = None,
    now: Annotated[str | None, typer.Option(help="The time, for simulations.  [default: by the clock]")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the decision as JSON.")] = False,
) -> int:
    """Say whether a roll-out proceeds, holds or is rolled back. Says why, from the comparison and the watches.

    A scheduler calls it as often as it likes. Where the roll-out stands is in the log PLAN-rollout/rollout.jsonl, to
    which new decisions are added.

    Exit status: 0 to proceed (or when it is complete), 3 to hold, 1 to roll back, 2 for invalid input.
    """
    from rich.text import Text

    from letsam.operation import rollout

    if init:
        _write_example(plan)
        return 0
    made = rollout(plan, stage, since, now=now)
    if as_json:
        print(json.dumps(made.as_json(), ensure_ascii=False, indent=1))
        return made.exit_status
    print_table(Text(printable(made.headline), style="bold"))
    print_rows(("gate", "state", "why"), [(check.gate, check.state, check.text) for check in made.checks])
    for note in made.notes:
        print_note(f"note: {note}")
    print_line(f"share of the challenger: {100 * made.share:g} %")
    return made.exit_status


def _write_example(plan: Path) -> None:
    from letsam.operation.rollout_plan import EXAMPLE
    from letsam.results import write_atomically

    if plan.exists():
        raise ValueError(f"{plan}: exists already; --init writes a new plan")
    write_atomically(plan, EXAMPLE)
    print_line(f"plan: {plan}")
