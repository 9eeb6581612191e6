"""Every public name is in the reference, with its docstring as it is meant."""

from __future__ import annotations

import importlib
import pkgutil
import zlib
from pathlib import Path

import pytest

import letsam
from site_cases import tool

# Their `__all__` is for the rest of letsam; the commands have a page of their own.
INTERNAL = {"letsam.cli", "letsam.step"}


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
    for package in names:
        public = importlib.import_module(package).__all__
        assert public or package == "letsam.operation"
        modules = {name for name in public if hasattr(importlib.import_module(package), name)} & {
            one.name for one in pkgutil.iter_modules(letsam.__path__)
        }
        missing += [f"{package}.{name}" for name in public if name not in modules and f"{package}.{name}" not in inventory]
    assert missing == []


def test_examples_and_comparisons_are_read_as_they_are_meant() -> None:
    readable = tool("site_docstrings").readable
    assert readable("One.\n\nArgs:\n    rho: > 0.\n\nExample:\n    >>> 1\n    1\n") == (
        "One.\n\nArgs:\n    rho: \\> 0.\n\nExamples:\n    >>> 1\n    1\n"
    )


def test_examples_are_shown_as_code(site: Path) -> None:
    page = (site / "reference" / "radii" / "index.html").read_text(encoding="utf-8")
    assert page.count("language-pycon") > 10
    assert "<blockquote>" not in page
