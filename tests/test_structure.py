"""The shape of the code, counted in its source: small contracts, short files, one name for each variant."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import letsam
from letsam import SharpnessAware
from letsam.step.wrapper import Wrapper
from letsam.variants import VARIANTS

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "letsam"
RADIUS = sorted((PACKAGE / "radius").glob("*.py"))
SOURCES = sorted(
    path for part in ("src", "tests", "benchmarks", "examples") for path in (ROOT / part).rglob("*.py")
)  # not the environments that stand next to them


def lines_of(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def classes_of(paths: list[Path]) -> Iterator[ast.ClassDef]:
    for path in paths:
        yield from (n for n in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(n, ast.ClassDef))


def methods_of(node: ast.ClassDef) -> dict[str, ast.FunctionDef]:
    return {child.name: child for child in node.body if isinstance(child, ast.FunctionDef)}


def named(name: str) -> ast.ClassDef:
    (node,) = [node for node in classes_of(RADIUS) if node.name == name]
    return node


def radii() -> dict[str, set[str]]:
    """The methods of `Radius` and of every class in its package that descends from it."""
    nodes = {node.name: node for node in classes_of(RADIUS)}
    found = {"Radius"}
    for _ in nodes:  # a subclass may stand before its base class
        found |= {n for n, node in nodes.items() if found & {b.id for b in node.bases if isinstance(b, ast.Name)}}
    return {name: set(methods_of(nodes[name])) for name in found}


def test_a_radius_has_a_small_contract() -> None:
    assert len(methods_of(named("Radius"))) <= 12


def test_no_method_of_radius_serves_the_learned_radius_alone() -> None:
    """Except `update`, which takes in what a step has measured, and `wants`, which says what that is."""
    methods = radii()
    assert len(methods) >= 7
    assert "LearnedRadius" in methods
    contract = methods.pop("Radius") - {"__init__"}
    others: set[str] = set().union(*(own for name, own in methods.items() if name != "LearnedRadius"))
    assert (methods["LearnedRadius"] & contract) - others <= {"wants", "update"}


def test_a_learned_radius_is_made_of_few_arguments() -> None:
    arguments = methods_of(named("LearnedRadius"))["__init__"].args
    assert arguments.vararg is None
    assert arguments.kwarg is None
    assert len(arguments.posonlyargs + arguments.args + arguments.kwonlyargs) - 1 <= 7


def test_the_learned_radius_is_a_short_file() -> None:
    assert lines_of(PACKAGE / "radius" / "learned.py") <= 250


def imported(source: str, package: tuple[str, ...]) -> set[str]:
    """The dotted names that a module imports, with those of each `from` import one level deeper."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else ()
            origin = ".".join((*base, *([node.module] if node.module else [])))
            names |= {origin} | {f"{origin}.{alias.name}" for alias in node.names}
    return names


def forbidden(source: str) -> list[str]:
    """What a module of `letsam.radius` imports of the packages that handle weights."""
    names = imported(source, ("letsam", "radius"))
    return sorted(n for n in names if n.split(".")[:2] in (["letsam", "tensors"], ["letsam", "step"]))


@pytest.mark.parametrize("path", RADIUS, ids=lambda path: path.stem)
def test_a_radius_sees_numbers_alone(path: Path) -> None:
    assert forbidden(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "source",
    [
        "from ..tensors import norm",
        "from .. import step",
        "import letsam.tensors.foreach",
        "from letsam import tensors",
    ],
)
def test_the_check_of_imports_sees_violations(source: str) -> None:
    assert forbidden(source) != []
    assert forbidden("from ..tangent import Slope\nfrom . import base") == []


def test_the_top_of_the_package_is_short() -> None:
    modules = {path.stem for path in PACKAGE.glob("*.py")}
    assert len(modules) <= 12
    assert {name for name in modules if name.startswith("_")} <= {"__init__", "__main__", "_version"}


def test_the_optimizer_inherits_from_torchs_contract_alone() -> None:
    assert SharpnessAware.__mro__ == (SharpnessAware, Wrapper, torch.optim.Optimizer, object)


@pytest.mark.parametrize("name", sorted(VARIANTS))
def test_a_variant_its_file_and_its_class_share_a_name(name: str) -> None:
    variant = VARIANTS[name]
    made_of = variant.made_of
    assert name == variant.__name__.lower()
    assert made_of.__module__ == f"{letsam.perturbations.__name__}.{name}"
    assert made_of.__name__ == f"{variant.__name__}Perturbation"
    assert (PACKAGE / "perturbations" / f"{name}.py").is_file()


def test_no_code_is_kept_from_the_formatter() -> None:
    assert len(SOURCES) > 200
    comment = "# " + "fmt:"
    assert [str(path.relative_to(ROOT)) for path in SOURCES if comment in path.read_text(encoding="utf-8")] == []


def test_no_file_of_tests_is_long() -> None:
    sizes = {str(path.relative_to(ROOT)): lines_of(path) for path in (ROOT / "tests").rglob("*.py")}
    assert {name: size for name, size in sizes.items() if size > 450} == {}
