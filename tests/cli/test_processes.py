"""The command in a process of its own: progress bars, SIGINT, a package that is not installed."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cli_cases import (
    MINE,
    ROWS,
    TRIAL,
    check_error,
    environment,
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
    done = process(*arguments)
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
    with subprocess.Popen(
        [sys.executable, "-m", "letsam", *arguments],
        stdout=subprocess.PIPE,
        stderr=theirs,
        text=True,
        env=environment(TERM="xterm-256color", COLUMNS="100", SLOW="0.01"),
    ) as child:
        os.close(theirs)
        shown = read_all(ours)
        out = child.stdout.read() if child.stdout else ""
    os.close(ours)

    assert child.returncode == 0
    assert "\x1b[" in shown
    for part in ("runs", "sgd, seed 0", "lets-sam, seed 0", "lets-sam+refit, seed 0", "3/3"):
        assert part in shown
    assert "\x1b" not in out
    assert out.splitlines()[-1] == "report: o/report.html"


@pytest.mark.slow
def test_ctrl_c_keeps_what_is_finished(here: Path) -> None:
    """SIGINT to a real process between runs of a second or so; `--resume` completes the rest."""
    arguments = ["letsam", *TRIAL, "--out", "o"]
    # a test runner in the background hands on that SIGINT is ignored; a shell's command line does not
    script = (
        f"import runpy, signal, sys; sys.argv = {arguments!r}; "
        "signal.signal(signal.SIGINT, signal.default_int_handler); runpy.run_module('letsam', run_name='__main__')"
    )
    results = here / "o" / "results.json"
    with subprocess.Popen(
        [sys.executable, "-c", script],
        env=environment(SLOW="0.03"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as child:
        deadline = time.monotonic() + 60
        while not results.exists() and child.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=60)

    kept = Results.load(results).runs
    assert child.returncode == 130, err
    assert out == ""
    assert err == (
        f"interrupted: {len(kept)} of 8 runs are finished; the same command with --resume completes the rest\n"
    )
    assert 0 < len(kept) < 8
    assert [path.name for path in results.parent.iterdir()] == ["results.json"]

    done = process(*TRIAL, "--out", "o", "--resume")
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
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=60)
    assert done.returncode != 0
    assert done.stdout == ""
    assert done.stderr == (
        'error: the command letsam needs the package typer: install it with pip install "letsam[trial]"\n'
    )
