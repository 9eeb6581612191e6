"""What the tests of the documentation site share."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[1]


def built(out: Path, root: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Build the site of a repository, in a process of its own as `make docs` does."""
    command = [sys.executable, str(root / "tools" / "build_site.py"), "--out", str(out)]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=300)


def tool(name: str, folder: str = "tools") -> ModuleType:
    """A script of `tools` or `docs` as a module; they are no packages."""
    spec = importlib.util.spec_from_file_location(name, ROOT / folder / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its data classes look themselves up there
    spec.loader.exec_module(module)
    return module


def pages_of(site: Path) -> list[str]:
    """The addresses of all pages, relative to that of the site."""
    return sorted(str(path.parent.relative_to(site)).strip(".") for path in site.rglob("index.html"))
