"""A folder with a task file, the command line, and a finished trial."""

from __future__ import annotations

import io
import math
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest
import torch

from cli_cases import (
    ROWS,
    TASK_FILE,
    TRIAL,
    check_error,
    files,
)
from letsam.cli import run
from letsam.results import Results


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a task file, as a user has it."""
    (tmp_path / "my_task.py").write_text(TASK_FILE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setattr(sys, "path", [*sys.path])
    return tmp_path


@pytest.fixture
def real_report() -> None:
    """Asked for by tests that look at the page: the report is made, which takes its time."""


@pytest.fixture(autouse=True)
def _quick_report(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "real_report" not in request.fixturenames:

        def write_report(results: Results, path: Path, language: str = "en") -> None:
            path.write_text(f"<p>{len(results.runs)} runs</p>")

        monkeypatch.setattr("letsam.reports.html.write_report", write_report)


@pytest.fixture
def letsam_run(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs the command line here; gives status, stdout, stderr."""

    def call(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        status = run(arguments)
        return (status, *capsys.readouterr())

    return call


@pytest.fixture
def bad(here: Path, letsam_run: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Runs the command line with something wrong in it; the folder must be as it was."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.delenv("LETSAM_TRACEBACK", raising=False)
    (here / "broken.py").write_text("def make_task(:\n")
    (here / "failing.py").write_text("x = 1 / 0\n")

    def call(*arguments: str, message: str) -> None:
        before = files(here)
        check_error(letsam_run(*arguments), message)
        assert files(here) == before
        assert not (here / "runs").exists()

    return call


@pytest.fixture(scope="session")
def finished_trial(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a user after a trial with a real report; what it printed was checked."""
    folder = tmp_path_factory.mktemp("trial")
    (folder / "my_task.py").write_text(TASK_FILE)
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.chdir(folder)
        patch.setattr(sys, "dont_write_bytecode", True)
        patch.setattr(sys, "path", [*sys.path])
        patch.setattr("letsam.cli.live.FIRST", math.inf)  # else a slow machine writes how far it is
        assert run(TRIAL) == 0
    assert err.getvalue() == ""
    assert "\x1b" not in out.getvalue()
    assert out.getvalue().splitlines()[-1] == f"report: {Path('runs/my_task.py-make_task/report.html')}"
    for row in dict.fromkeys(row for row, _ in ROWS):
        assert re.search(rf"^ *{re.escape(row)} +\d", out.getvalue(), re.MULTILINE), out.getvalue()
    return folder


@pytest.fixture
def trial(here: Path, finished_trial: Path) -> Path:
    """The results of a finished trial in the current folder."""
    shutil.copytree(finished_trial, here, dirs_exist_ok=True)
    return here / "runs" / "my_task.py-make_task"
