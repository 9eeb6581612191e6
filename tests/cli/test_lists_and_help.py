"""`letsam tasks`, `letsam methods` and the help."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest

import letsam
from cli_cases import (
    files,
)
from letsam.cli import run


def test_tasks_and_methods(here: Path, letsam_run: Any) -> None:
    status, out, err = letsam_run("tasks")
    assert (status, err) == (0, "")
    assert re.search(r"^digits +\S.*\nfashion-mnist +\S.*\n", out)
    assert "path/to/file.py:function or package.module:function" in out

    status, out, err = letsam_run("methods")
    assert (status, err) == (0, "")
    names = [line.split()[0] for line in out.splitlines()]
    assert names[:5] == ["sgd", "sam", "asam", "lets-sam", "lets-asam"]
    assert "sam:0.1" in out
    for name, variant in letsam.variants.VARIANTS.items():
        assert {name, f"lets-{name}"} <= set(names)
        facts = variant.facts
        row = rf"^{name} +{facts.paper} +{re.escape(facts.passes)} +{facts.copies} +{re.escape(facts.learned)}$"
        assert re.search(row, out, re.MULTILINE)
    assert files(here).keys() == {"my_task.py"}


def test_the_version(letsam_run: Any) -> None:
    assert letsam_run("--version") == (0, f"letsam {letsam.__version__}\n", "")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("letsam tr", {"trial", "train"}),
        ("letsam trial dig", {"digits"}),
        ("letsam trial my_", {"my_task.py"}),
        ("letsam trial digits --methods sgd,lets-as", {"sgd,lets-asam"}),
        ("letsam train digits --method gsam-", {"gsam-schedule"}),
        ("letsam trial digits --max-gr", {"--max-grad-norm"}),
        ("letsam decide runs --baseline lets-as", {"lets-asam"}),
        ("letsam docs how-to/doct", {"how-to/doctor"}),
    ],
)
def test_the_shell_completes(
    line: str,
    expected: set[str],
    here: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What `letsam --install-completion` makes the shell ask for, here bash."""
    monkeypatch.setenv("_LETSAM_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", str(len(line.split()) - 1))
    with pytest.raises(SystemExit):
        run([])
    assert set(capsys.readouterr().out.split()) == expected


@pytest.mark.parametrize("arguments", [("--help",), ("trial", "--help")])
def test_help_is_no_error(arguments: tuple[str, ...], letsam_run: Any) -> None:
    status, out, err = letsam_run(*arguments)
    assert (status, err) == (0, "")
    assert "Usage: letsam" in out
    options = ("methods", "seeds", "rho", "epochs", "label-noise", "out", "resume", "device", "validation-share")
    if "trial" in arguments:
        assert all(f"--{name}" in out for name in (*options, "no-refit", "train-size"))


def test_a_missing_package_that_a_command_needs_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "lightning_fabric", None)
    for name in [name for name in sys.modules if name.startswith("letsam.training.")]:
        monkeypatch.delitem(sys.modules, name)
    assert run(["trial", "digits"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: the command letsam needs the package lightning_fabric: install it")
    assert error.count("\n") == 1
