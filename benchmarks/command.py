"""The command line of a benchmark whose record is made piece by piece: `run [--again] [names]`, and `table`.

The first part of a name, `few-large` of `few-large/SAM/bf16`, stands for all pieces that begin with it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

Piece = TypeVar("Piece")


def main(
    program: str,
    doc: str | None,
    noun: str,
    pieces: Mapping[str, Piece],
    run: Callable[[list[Piece], bool], None],
    table: Callable[[], None],
) -> None:
    """Read the command line and do what it says.

    Args:
        program: the module, as `python -m` takes it.
        doc: its docstring, whose first line is the description.
        noun: what the pieces are.
        pieces: by the names that the command line knows them by.
        run: measures pieces, with True those afresh that are finished.
        table: makes the page.
    """
    parser = argparse.ArgumentParser(prog=f"python -m {program}", description=str(doc).splitlines()[0])
    parser.add_argument("action", choices=("run", "table"))
    parser.add_argument(noun, nargs="*", help=f"{of(pieces)}; all without")
    parser.add_argument("--again", action="store_true", help="measure what is finished once more")
    arguments = parser.parse_intermixed_args()  # the names may stand after an option
    asked: list[str] = getattr(arguments, noun)
    chosen = {name: [piece for piece in pieces if piece == name or piece.startswith(name + "/")] for name in asked}
    if unknown := [name for name, found in chosen.items() if not found]:
        parser.error(f"unknown {noun} {', '.join(sorted(unknown))}, expected {', '.join(pieces)}")
    if arguments.action == "run":
        names = dict.fromkeys(name for found in chosen.values() for name in found)
        run([pieces[name] for name in names or pieces], arguments.again)
    else:
        table()


def of(names: Iterable[str]) -> str:
    """The help of an argument that takes these names; argparse would take a % in one for a place to fill in."""
    return f"of {'; '.join(names)}".replace("%", "%%")
