"""Groups of options that commands share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import pytest
import typer

from letsam.cli.options import takes


@dataclass(frozen=True, kw_only=True)
class Where:
    place: Annotated[str, typer.Argument()]
    depth: Annotated[int | None, typer.Option(help="How deep.")] = None


@dataclass(frozen=True, kw_only=True)
class How:
    quick: Annotated[bool, typer.Option("--quick")] = False


def test_a_command_gets_its_groups_and_its_own_options() -> None:
    calls: list[tuple[Any, ...]] = []
    app = typer.Typer()

    @app.command()
    @takes(Where, How)
    def dig(where: Where, how: How, times: Annotated[int, typer.Option()] = 1) -> int:
        """Dig a hole."""
        calls.append((where, how, times))
        return 3

    assert app(["garden", "--depth", "4", "--times", "2"], standalone_mode=False) == 3
    app(["garden", "--quick"], standalone_mode=False)
    assert calls == [
        (Where(place="garden", depth=4), How(), 2),
        (Where(place="garden"), How(quick=True), 1),
    ]
    assert dig.__doc__ == "Dig a hole."


@pytest.mark.parametrize(
    "options", [("--target", "x"), ("--drop", "a,b"), ("--test", "b.csv"), ("--test-share", "0.3")]
)
def test_options_of_data_need_a_file(options: tuple[str, str], bad: Any) -> None:
    bad("trial", "digits", *options, message=f"`{options[0]}` needs a TASK that is a file or folder of data, got 'dig")


def test_a_file_of_data_takes_no_options_of_other_tasks(bad: Any) -> None:
    bad("trial", "missing.csv", "--target", "x", message="missing.csv: expected a file or folder of data, but there is")
    bad("trial", "missing.csv", "--train-size", "3", message="`train_size` must not be given with a file or folder of")
    bad("trial", "missing.csv", "--drop", ",", message="`drop` must name at least one, got ','")
