"""A model of the digits, trained once."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from letsam.cli import run
from letsam.operation import WatchRecord
from watch_cases import train_digits


@pytest.fixture(scope="session")
def trained_digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of its results; nothing may be written there."""
    return train_digits(tmp_path_factory.mktemp("digits"))


@pytest.fixture
def digits(trained_digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of its results in the current folder, named "out"."""
    shutil.copytree(trained_digits, tmp_path / "out")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "out"


@pytest.fixture
def letsam_run(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs the command line here; gives status, stdout, stderr."""

    def call(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        return (run(arguments), *capsys.readouterr())

    return call


@pytest.fixture
def real_page() -> None:
    """Asked for by tests that look at the page of a watch: it is made, which takes its time."""


@pytest.fixture(autouse=True)
def _quick_page(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "real_page" not in request.fixturenames:

        def write_watch_page(records: Sequence[WatchRecord], model: object, out: Path) -> None:
            (out / "watch.html").write_text(f"<p>{len(records)} records</p>")

        monkeypatch.setattr("letsam.operation.watch_page.write_watch_page", write_watch_page)
