"""`letsam tasks`, `methods` and `docs`: the commands that list what there is."""

from __future__ import annotations

from typing import Annotated

import typer

from letsam.cli.commands import app
from letsam.cli.guidance import EXAMPLES
from letsam.docs import complete_pages, print_page, print_pages

__all__ = ["list_methods", "list_tasks", "show_page"]


@app.command("tasks", epilog=EXAMPLES["tasks"])
def list_tasks() -> None:
    """List the built-in tasks."""
    from letsam.tasks import available_tasks

    for name, description in available_tasks():
        print(f"{name:15} {description}")
    print("Your own: path/to/file.py:function or package.module:function, returning a letsam.tasks.Task.")


@app.command("methods", epilog=EXAMPLES["methods"])
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


@app.command("docs", epilog=EXAMPLES["docs"])
def show_page(
    page: Annotated[
        str | None,
        typer.Argument(metavar="[PAGE]", help="Name of a page; none: list them all.", autocompletion=complete_pages),
    ] = None,
) -> None:
    """Read a page of the documentation."""
    if page is None:
        print_pages()
    else:
        print_page(page)
