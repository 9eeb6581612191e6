"""Ctrl-C while the command imports its packages ends it with status 130 and without a traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import letsam

HOOK = """
import os, signal, sys

class Interrupts:
    def find_spec(self, name, path=None, target=None):
        if name == os.environ["INTERRUPT_AT"]:
            os.kill(os.getpid(), signal.SIGINT)
            for _ in range(1000):  # the handler runs between two instructions
                pass

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in a process that a shell has put into the background
    signal.signal(signal.SIGINT, signal.default_int_handler)
sys.meta_path.insert(0, Interrupts())
"""
COMMANDS = {"module": ["-m", "letsam", "tasks"], "script": ["letsam", "tasks"], "other": ["other.py"]}


def interrupted(folder: Path, command: str, package: str) -> tuple[int, str]:
    """Exit status and stderr of a process that gets SIGINT when it begins to import a package."""
    (folder / "sitecustomize.py").write_text(HOOK)
    (folder / "letsam").write_text("from letsam.__main__ import main\nmain()\n")
    (folder / "other.py").write_text("import letsam\n")
    source = Path(letsam.__file__).parents[1]
    paths = os.pathsep.join([str(folder), str(source)])
    first, *rest = COMMANDS[command]
    arguments = [sys.executable, first if first == "-m" else str(folder / first), *rest]
    environment = os.environ | {"PYTHONPATH": paths, "INTERRUPT_AT": package}
    done = subprocess.run(arguments, capture_output=True, text=True, env=environment, cwd=source, check=False)
    return done.returncode, done.stderr


@pytest.mark.parametrize("package", ["torch", "letsam.optimizer", "letsam.cli", "typer"])
@pytest.mark.parametrize("command", ["module", "script"])
def test_the_command_ends_quietly(command: str, package: str, tmp_path: Path) -> None:
    assert interrupted(tmp_path, command, package) == (130, "")


def test_another_program_gets_its_exception(tmp_path: Path) -> None:
    status, err = interrupted(tmp_path, "other", "torch")
    assert status != 0
    assert "KeyboardInterrupt" in err


def test_interrupts_raise_again_after_the_import(tmp_path: Path) -> None:
    """Within a command, they are handled by it."""
    status, err = interrupted(tmp_path, "script", "letsam.tasks")
    assert status == 130
    assert "Traceback" not in err
