"""The sdist and the wheel: what is in them, and that the README's loop runs with torch alone installed."""

from __future__ import annotations

import email
import importlib.metadata
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from email.message import Message
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from page_code import ROOT, blocks_of

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def metadata(wheel: Path) -> Message:
    """What the wheel says about itself."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith("/METADATA")]
        return email.message_from_string(archive.read(name).decode())


def test_the_wheel_holds_the_package_and_its_pages(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    sources = (path for path in (ROOT / "src" / "letsam").rglob("*") if path.is_file() and path.suffix != ".pyc")
    package = {str(path.relative_to(ROOT / "src")) for path in sources}
    docs = [path.relative_to(ROOT / "docs") for path in (ROOT / "docs").rglob("*.md")]
    pages = {f"letsam/docs/{path}" for path in docs if path.parts[0] != "reference"}  # which the site makes
    assert {"letsam/docs/how-to/doctor.md", "letsam/py.typed", "letsam/reports/script/page.js"} <= package | pages
    assert {name for name in names if ".dist-info/" not in name} == package | pages


def test_the_sdist_holds_what_its_tests_read(sdist: Path) -> None:
    for name in ("tests", "benchmarks", "examples", "docs/images", "docs/evidence"):
        assert any((sdist / name).iterdir()), name
    for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "Makefile", "constraints.txt"):
        assert (sdist / name).read_bytes() == (ROOT / name).read_bytes()
    assert not (sdist / ".ci").exists()


def test_a_plain_installation_needs_torch_and_nothing_else(metadata: Message) -> None:
    needed = [Requirement(text) for text in metadata.get_all("Requires-Dist", [])]
    assert [need.name for need in needed if need.marker is None] == ["torch"]


def test_what_developers_need_is_no_extra(metadata: Message) -> None:
    groups = PROJECT["dependency-groups"]
    assert {"dev", "evidence"} <= groups.keys()
    assert groups.keys().isdisjoint(metadata.get_all("Provides-Extra", []))
    of_tests = {"pytest", "pytest-xdist", "ruff", "playwright", "pyright", "mlxtend"}
    assert of_tests.isdisjoint(Requirement(text).name for text in metadata.get_all("Requires-Dist", []))


def test_the_description_has_no_link_into_the_repository(metadata: Message) -> None:
    """On a package index, such links and pictures lead nowhere."""
    text = metadata.get_payload()
    assert isinstance(text, str)
    assert text.splitlines()[0] == (ROOT / "README.md").read_text(encoding="utf-8").splitlines()[0]
    targets = re.findall(r"\]\(([^)]*)\)", text)
    assert targets  # the paper's
    assert [target for target in targets if not re.match(r"https?://", target)] == []
    pages = re.findall(r"`letsam docs ([^`]+)`", text)
    assert len(pages) > 5
    assert [page for page in pages if not (ROOT / "docs" / f"{page}.md").exists()] == []


def torch_alone(folder: Path) -> Path:
    """A folder with links to torch and what it requires, and to nothing else that is installed."""
    folder.mkdir()
    left, seen = ["torch"], set[str]()
    while left:
        name = left.pop()
        if name in seen:
            continue
        seen.add(name)
        try:
            found = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:  # for another platform
            continue
        for need in map(Requirement, found.requires or ()):
            if need.marker is None or need.marker.evaluate({"extra": ""}):
                left.append(need.name)
        for top in {Path(file).parts[0] for file in found.files or () if ".." not in Path(file).parts}:
            if not (folder / top).exists():
                (folder / top).symlink_to(Path(str(found.locate_file(top))))
    return folder


LOOP = """
import sys
import torch
torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2))
loss_function = torch.nn.CrossEntropyLoss()
def loader(count):
    inputs = torch.randn(count, 4)
    return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(inputs, (inputs[:, 0] > 0).long()), batch_size=8)
train_loader, validation_loader = loader(64), loader(16)
first = loss_function(model(train_loader.dataset.tensors[0]), train_loader.dataset.tensors[1]).item()
{block}
assert not any(name in sys.modules for name in ("numpy", "typer", "rich")), "the folder has more than torch"
last = loss_function(model(train_loader.dataset.tensors[0]), train_loader.dataset.tensors[1]).item()
found = letsam.check(opt, closure_on(*batch), closure_on(*held_out))
print(letsam.__file__, first > last, opt.rho.item() != 0.05, len(found))
"""


def test_the_readmes_loop_runs_from_the_wheel_with_torch_alone(wheel: Path, tmp_path: Path) -> None:
    installed = tmp_path / "installed"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-compile"]
    subprocess.run([*command, "--target", str(installed), str(wheel)], check=True)
    path = os.pathsep.join([str(installed), str(torch_alone(tmp_path / "alone"))])

    def python(*arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PYTHONPATH": path, "PYTHONSAFEPATH": "1"}
        return subprocess.run(
            [sys.executable, "-S", *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True
        )

    done = python("-W", "ignore", "-c", LOOP.replace("{block}", blocks_of("README.md")[0]))
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(installed / "letsam" / "__init__.py"), "True", "True", "0"]

    command_line = python("-W", "ignore", "-m", "letsam", "methods")
    assert command_line.returncode != 0
    assert command_line.stderr == (
        'error: the command letsam needs the package typer: install it with pip install "letsam[trial]"\n'
    )
