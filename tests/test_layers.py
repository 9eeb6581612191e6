"""The import rule of the house: downward only. And `import letsam` is light."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import letsam

PACKAGE = Path(letsam.__file__).parent
CONTRIBUTING = Path(__file__).parents[1] / "CONTRIBUTING.md"


def layers(page: str) -> dict[str, int]:
    """The layer of each part of letsam, as the table in CONTRIBUTING.md has them from the bottom up."""
    table = page.split("| layer | what is there |\n|---|---|\n")[1].split("\n\n")[0]
    rows = [row.split("|")[1] for row in table.splitlines()]
    return {name: rank for rank, row in enumerate(rows) for name in re.findall(r"`(\w+)`", row)}


RANKS = layers(CONTRIBUTING.read_text(encoding="utf-8"))
FACADE = "the public names"  # `import letsam`, `from letsam import SAM`: variants and what is below


def part_of(path: Path, package: Path = PACKAGE) -> str:
    return path.relative_to(package).with_suffix("").parts[0]


def imports(source: str, module: tuple[str, ...]) -> Iterator[str]:
    """The top-level parts of letsam that a module imports, at whatever depth of its code.

    Args:
        source: Python code.
        module: its dotted name in pieces, "__init__" included for a package.
    """
    for node in ast.walk(ast.parse(source)):
        names: list[tuple[str, ...]] = []
        if isinstance(node, ast.Import):
            names = [tuple(alias.name.split(".")) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            origin = tuple(node.module.split(".")) if node.module else ()
            if node.level:
                origin = module[: len(module) - node.level] + origin
            names = [(*origin, alias.name) for alias in node.names]
        for name in names:
            if name[0] == "letsam":
                known = len(name) > 1 and name[1] in RANKS
                yield name[1] if known else FACADE


def violations(source: str, module: tuple[str, ...]) -> list[str]:
    part = module[1]
    found = []
    for target in imports(source, module):
        if target == part:
            continue
        rank = RANKS["variants"] if target == FACADE else RANKS[target]
        allowed = {"reports": {"languages", "results", "decision"}, "decision": {"languages", "results"}}.get(part)
        if rank >= RANKS[part] or target == "integrations" or (allowed is not None and target not in allowed):
            found.append(f"{'.'.join(module)} imports {target}")
    return found


MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_modules_import_downward_only(path: Path) -> None:
    module = ("letsam", *path.relative_to(PACKAGE).with_suffix("").parts)
    assert module[1] in RANKS, f"{module[1]} has no rank: give it one in this test"
    assert violations(path.read_text(encoding="utf-8"), module) == []


@pytest.mark.parametrize(
    ("source", "module"),
    [
        ("from ..optimizer import SharpnessAware", "radius.learned"),
        ("from ..radius import Radius", "tensors.foreach"),
        ("import letsam.radius", "perturbations.sam"),
        ("from letsam import SAM", "radius.fixed"),
        ("def f():\n    from ..training import loop", "tasks.digits"),
        ("from .. import training", "reports.html"),
        ("from .. import integrations", "training.loop"),
        ("from .. import checks", "decision.deciding"),
        ("from ..validation import split", "tasks.digits"),
        ("from . import cli", "results"),
    ],
)
def test_the_rule_sees_violations(source: str, module: str) -> None:
    assert violations(source, ("letsam", *module.split(".")))


@pytest.mark.parametrize(
    ("source", "module"),
    [
        ("from .base import Radius\nfrom ..hypergradient import Secant\nfrom .. import checks", "radius.learned"),
        ("from ..results import Run", "reports.html"),
        ("from letsam import SAM\nimport torch", "training.loop"),
        ("from . import checks", "optimizer"),
    ],
)
def test_the_rule_allows_the_rest(source: str, module: str) -> None:
    assert violations(source, ("letsam", *module.split("."))) == []


def foreign(source: str) -> set[str]:
    """The packages that a module imports beside the standard library, torch and its own package."""
    found = set[str]()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level != 1:
            found.add((node.module or "").split(".")[0])
    return found - sys.stdlib_module_names - {"torch"}


def test_the_oracle_knows_no_letsam() -> None:
    """What the tests compare with has nothing of what they test, nor of any helper that has."""
    oracle = sorted((Path(__file__).parent / "oracle").glob("*.py"))
    assert {path.name for path in oracle} >= {"maths.py", "problems.py", "variants.py"}
    for path in oracle:
        assert foreign(path.read_text(encoding="utf-8")) == set(), path.name
    assert foreign("import math, torch.nn\nfrom . import maths\nfrom .problems import Batch") == set()
    for source in ("import letsam", "def f():\n    from letsam.radius import Radius", "from .. import learned_radius"):
        assert foreign(source)


HEAVY = (
    *("matplotlib", "sklearn", "rich", "typer", "lightning", "lightning_fabric", "jinja2", "pandas", "scipy"),
    *("transformers", "accelerate", "torchvision", "click", "datasets", "tokenizers", "sacrebleu"),
    *("hessian_eigenthings", "optuna", "PIL", "pyarrow", "babel"),
)


COMMANDS = ["letsam --help", "letsam trial --help", "letsam methods", "letsam tasks"]
STEPS = {
    "import letsam": "import letsam; assert 'letsam.sharpness' not in sys.modules",
    "import letsam.sharpness": "import letsam.sharpness",
    "import letsam.data": "import letsam.data, letsam.models",
    "list the tasks": "import letsam.tasks; letsam.tasks.available_tasks()",
} | {command: f"from letsam.cli import run; run({command.split()[1:]!r})" for command in COMMANDS}


@pytest.fixture(scope="module")
def loaded() -> dict[str, set[str]]:
    """Those of the packages above that each step loads first: one process takes all steps, in their order."""
    code = "import sys\nseen = set()\n"
    for step, action in STEPS.items():
        code += f"{action}\nnew = {{name for name in {HEAVY!r} if name in sys.modules}} - seen\nseen |= new\n"
        code += f"print('loaded', {step!r}, *new, sep=chr(9))\n"
    path = os.pathsep.join([str(PACKAGE.parent), os.environ.get("PYTHONPATH", "")])
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": path}
    )
    rows = [line.split("\t") for line in result.stdout.splitlines() if line.startswith("loaded\t")]
    return {step: set(names) for _, step, *names in rows}


@pytest.mark.parametrize("step", [step for step in STEPS if step not in COMMANDS])
def test_importing_letsam_is_light(step: str, loaded: dict[str, set[str]]) -> None:
    assert loaded[step] == set()


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_imports_what_it_needs_alone(command: str, loaded: dict[str, set[str]]) -> None:
    """Those that only tell something draw no figures, train nothing and read no data."""
    assert loaded[command] <= {"rich", "typer", "click"}


def test_the_public_names() -> None:
    for name in letsam.__all__:
        assert hasattr(letsam, name)
    assert {"SAM", "ASAM", "SharpnessAware", "LearnedRadius"} <= set(letsam.__all__)
    assert (PACKAGE / "py.typed").exists()
