"""`tools/install.py`, which `make` calls: what it says, what it installs, and what it says where pip fails."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from page_code import ROOT

PROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]

[project]
name = "letsam"
version = "7.0"

[project.optional-dependencies]
trial = {needs}
"""
# Builds what it is told to without any package, as there is no index here.
BACKEND = """
import zipfile
def wheel(folder, name, lines=""):
    with zipfile.ZipFile(f"{folder}/{name}-7.0-py3-none-any.whl", "w") as archive:
        about = f"{name}-7.0.dist-info"
        archive.writestr(f"{name}.py", "found = True")
        archive.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\\nName: {name}\\nVersion: 7.0\\n{lines}")
        archive.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        archive.writestr(f"{about}/RECORD", "")
    return f"{name}-7.0-py3-none-any.whl"
def build_editable(folder, config_settings=None, metadata_directory=None):
    needs = open("needs.txt").read()
    return wheel(folder, "letsam", f"Provides-Extra: trial\\nRequires-Dist: {needs}; extra == 'trial'\\n")
build_wheel = build_editable
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with an extra that needs a package, and no index to ask."""
    folder = tmp_path / "project"
    (folder / "tools").mkdir(parents=True)
    shutil.copy(ROOT / "tools" / "install.py", folder / "tools")
    (folder / "constraints.txt").write_text("needed==7.0\n")
    (folder / "pyproject.toml").write_text(PROJECT.replace("{needs}", '["needed"]'))
    (folder / "backend.py").write_text(BACKEND)
    (folder / "needs.txt").write_text("needed")
    return folder


def install(project: Path, wheels: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels), "PIP_CONFIG_FILE": os.devnull}
    command = [sys.executable, "project/tools/install.py", "venv", "--extras", "trial"]
    return subprocess.run(command, cwd=project.parent, env=environment, capture_output=True, text=True)


def test_it_says_what_it_does_and_how_long_that_takes(project: Path, tmp_path: Path) -> None:
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    make = "import sys; sys.path.insert(0, 'project'); import backend; backend.wheel('wheels', 'needed')"
    subprocess.run([sys.executable, "-c", make], cwd=tmp_path, check=True)
    done = install(project, wheels)
    assert done.returncode == 0, done.stderr
    said = done.stderr.splitlines()
    version = sys.version.split()[0]
    assert said[0] == f"1/3 a virtual environment in {tmp_path / 'venv'}, with Python {version} (a few seconds)"
    assert [line[:3] for line in said if line[1:2] == "/"] == ["1/3", "2/3", "3/3"]
    assert re.search(r"^3/3 letsam\[trial\], .*\(a minute or two, once; ", done.stderr, re.M)
    assert re.search(r"^ +\d+ s  \S", done.stderr, re.M)
    assert re.fullmatch(r"installed in \d+ s", said[-1])
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([python, "-I", "-c", "import letsam, needed"], check=True)

    again = install(project, wheels)
    assert again.returncode == 0
    assert "1/3" not in again.stderr


def test_where_pip_fails_all_that_it_said_is_shown(project: Path, tmp_path: Path) -> None:
    done = install(project, tmp_path)
    assert done.returncode == 1
    assert re.search(r"^ERROR: .*^    .*depends on needed", done.stderr, re.M | re.S)
    assert re.search(r"^error: pip has failed, see above: \S+python -m pip install ", done.stderr, re.M)
    assert "installed in" not in done.stderr
    assert "Traceback" not in done.stderr
