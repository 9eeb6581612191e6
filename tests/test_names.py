"""One name for one thing: module names, and public top-level classes and functions, are unique in letsam."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

import letsam

PACKAGE = Path(letsam.__file__).parent
SHARED = {"__init__", "base"}  # a package's own contract is in its `base`


def repeated(places: dict[str, list[str]]) -> dict[str, list[str]]:
    return {name: found for name, found in places.items() if len(found) > 1}


def definitions(source: str) -> set[str]:
    """The public classes and functions that a module defines at its top level; overloads count once."""
    nodes = ast.parse(source).body
    names = {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    return {name for name in names if not name.startswith("_")}


def test_module_names_are_unique() -> None:
    places: dict[str, list[str]] = defaultdict(list)
    for path in sorted(PACKAGE.rglob("*.py")):
        if path.stem not in SHARED:
            places[path.stem].append(str(path.relative_to(PACKAGE)))
    assert len(places) > 50
    assert repeated(places) == {}


def test_public_names_are_unique() -> None:
    places: dict[str, list[str]] = defaultdict(list)
    for path in sorted(PACKAGE.rglob("*.py")):
        for name in definitions(path.read_text(encoding="utf-8")):
            places[name].append(str(path.relative_to(PACKAGE)))
    assert len(places) > 100
    assert repeated(places) == {}
