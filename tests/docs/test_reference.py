"""Every public name is in the reference, with its docstring as it is meant."""

from __future__ import annotations

import importlib
import pkgutil
import zlib
from pathlib import Path
from types import ModuleType

import pytest
import typer

import letsam
from letsam.cli import app
from site_cases import tool

# Their `__all__` is for the rest of letsam; the commands have a page of their own.
INTERNAL = {"letsam.cli", "letsam.languages", "letsam.step"}


def packages() -> list[str]:
    """letsam, and the packages and modules in it that say what is public."""
    found = ["letsam"]
    for one in pkgutil.iter_modules(letsam.__path__, "letsam."):
        if not one.name.endswith("__main__") and hasattr(importlib.import_module(one.name), "__all__"):
            found.append(one.name)
    return [name for name in found if name not in INTERNAL]


@pytest.fixture(scope="module")
def inventory(site: Path) -> dict[str, str]:
    """The address of each name that the reference has, as other projects would link it."""
    data = (site / "objects.inv").read_bytes()
    lines = zlib.decompress(data[data.index(b"zlib.\n") + 6 :]).decode().splitlines()
    rows = [line.split(" ") for line in lines]
    return {row[0]: row[3] for row in rows if row[1].startswith("py:")}


def test_every_public_name_is_in_the_reference(inventory: dict[str, str]) -> None:
    names = packages()
    assert {"letsam.radius", "letsam.validation", "letsam.hypergradient"} <= set(names)
    missing = []
    for name in names:
        package = importlib.import_module(name)
        assert package.__all__
        for public in package.__all__:
            value = getattr(package, public)
            places = {f"{name}.{public}"}
            if hasattr(value, "__qualname__"):  # a module may have the same name, as with `letsam.validation.split`
                places.add(f"{value.__module__}.{value.__qualname__}")
            if not isinstance(value, ModuleType) and not places & set(inventory):
                missing.append(f"{name}.{public}")
    assert missing == []


def test_examples_and_comparisons_are_read_as_they_are_meant() -> None:
    readable = tool("site_docstrings").readable
    assert readable("One.\n\nArgs:\n    rho: > 0.\n\nExample:\n    >>> 1\n    1\n") == (
        "One.\n\nArgs:\n    rho: \\> 0.\n\nExamples:\n    >>> 1\n    1\n"
    )


def test_every_command_is_in_the_reference(site: Path) -> None:
    page = (site / "reference" / "command-line" / "index.html").read_text(encoding="utf-8")
    names = list(typer.main.get_command(app).commands)
    assert len(names) > 8
    for name in names:
        assert f'id="letsam-{name}"' in page
        assert f"Usage: letsam {name} " in page


def test_examples_are_shown_as_code(site: Path) -> None:
    page = (site / "reference" / "radii" / "index.html").read_text(encoding="utf-8")
    assert page.count('<span class="gp">&gt;&gt;&gt; </span>') > 30
    assert "<blockquote>" not in page
