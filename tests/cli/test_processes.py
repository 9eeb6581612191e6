"""The command in a process of its own: progress bars, SIGINT, a package that is not installed."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import warm
from cli_cases import (
    MINE,
    ROWS,
    TRIAL,
    check_error,
    files,
    process,
    rows,
)
from letsam.results import Results


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("trial", "my_task.py:detached_loss", "--methods", "sam"), "`loss` must depend on the model's outputs"),
        (("train", "my_task.py:make_task", "--method", "sgd", "--out", "old", "--resume"), "cannot be read as one"),
    ],
)
def test_bad_input_in_a_process_of_its_own(arguments: tuple[str, ...], message: str, here: Path) -> None:
    (here / "old").mkdir()
    (here / "old" / "checkpoint.pt").write_bytes(b"\x80\x05\x95 no checkpoint")
    before = files(here)
    done = process(*arguments) if arguments[0] == "trial" else warm.start("-m", "letsam", *arguments).wait()
    check_error((done.returncode, done.stdout, done.stderr), message)
    assert files(here) == before


def read_all(terminal: int) -> str:
    chunks = []
    while True:
        try:
            chunk = os.read(terminal, 65536)
        except OSError:  # Linux: the other side is closed
            break
        if not chunk:
            break
        chunks.append(chunk)
    return b"".join(chunks).decode()


@pytest.mark.slow
def test_progress_on_a_terminal(here: Path) -> None:
    ours, theirs = pty.openpty()
    arguments = ("trial", MINE, "--methods", "sgd,lets-sam", "--seeds", "1", "--out", "o")
    env = warm.environment(TERM="xterm-256color", COLUMNS="100", SLOW="0.01")
    child = warm.start("-m", "letsam", *arguments, env=env, err=Path(os.ttyname(theirs)))
    with ThreadPoolExecutor() as reader:
        read = reader.submit(read_all, ours)  # a terminal holds a few kilobytes only
        done = child.wait()
        os.close(theirs)
        shown = read.result()
    os.close(ours)

    assert done.returncode == 0
    assert "\x1b[" in shown
    for part in ("1/3 runs", "seed 0: epoch", "lets-sam+refit", "best so far sgd", "left"):
        assert part in shown
    assert "\x1b" not in done.stdout
    assert done.stdout.splitlines()[-1] == "report: o/report.html"


@pytest.mark.slow
def test_ctrl_c_keeps_what_is_finished(here: Path) -> None:
    """SIGINT to a real process between runs of a second or so; `--resume` completes the rest."""
    results = here / "o" / "results.json"
    child = warm.start("-m", "letsam", *TRIAL, "--out", "o", env=warm.environment(SLOW="0.03"))
    deadline = time.monotonic() + 60
    while not results.exists() and child.process.is_alive() and time.monotonic() < deadline:
        time.sleep(0.02)
    child.interrupt()
    cut = child.wait()

    kept = Results.load(results).runs
    assert cut.returncode == 130, cut.stderr
    assert cut.stdout == ""
    assert cut.stderr == (
        f"interrupted: {len(kept)} of 8 runs are finished; the same command with --resume completes the rest\n"
    )
    assert 0 < len(kept) < 8
    assert sorted(path.name for path in results.parent.iterdir()) == ["predictions", "results.json"]

    done = warm.start("-m", "letsam", *TRIAL, "--out", "o", "--resume").wait()
    assert (done.returncode, done.stderr) == (0, "")  # quiet where nobody watches
    assert "\x1b" not in done.stdout
    assert "\r" not in done.stdout
    assert done.stdout.splitlines()[-1] == "report: o/report.html"
    assert rows(results) == ROWS
    assert Results.load(results).runs[: len(kept)] == kept
    assert (here / "o" / "report.html").exists()


@pytest.mark.slow
def test_a_hint_where_the_extra_is_not_installed(here: Path) -> None:
    script = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "typer":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Blocked())
from letsam.__main__ import main
main()
"""
    command = [sys.executable, "-c", script, "tasks"]
    done = subprocess.run(command, env=warm.environment(), capture_output=True, text=True, timeout=60)
    assert done.returncode != 0
    assert done.stdout == ""
    assert done.stderr == (
        'error: the command letsam needs the package typer: install it with pip install "letsam[trial]"\n'
    )
