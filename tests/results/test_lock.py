"""The lock of a folder: one run at a time, and none that outlives its process."""

from __future__ import annotations

import os
import re
import signal
import socket
from pathlib import Path

import pytest

from letsam.results import locked_folder
from letsam.results.lock import LOCK


def held_by_another_process(folder: Path) -> int:
    """Fork a process that holds the lock until it is killed; its id."""
    ready, tell = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            with locked_folder(folder):
                os.write(tell, b".")
                signal.pause()
        finally:
            os._exit(1)
    os.close(tell)
    assert os.read(ready, 1) == b"."
    os.close(ready)
    return child


def test_the_second_is_refused_and_told_of_the_first(tmp_path: Path) -> None:
    child = held_by_another_process(tmp_path)
    try:
        message = (
            rf"^{re.escape(str(tmp_path))}: process {child} on {re.escape(socket.gethostname())}, "
            r"since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d, writes to this folder; wait .*, or choose another --out$"
        )
        with pytest.raises(ValueError, match=message), locked_folder(tmp_path):
            pytest.fail("two runs in one folder")
        assert [path.name for path in tmp_path.iterdir()] == [LOCK]
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_the_lock_of_a_killed_process_is_taken_over(tmp_path: Path) -> None:
    child = held_by_another_process(tmp_path)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    with locked_folder(tmp_path):
        assert f"process {os.getpid()} on " in (tmp_path / LOCK).read_text()
    assert list(tmp_path.iterdir()) == []


def test_the_same_process_has_one_lock_as_well(tmp_path: Path) -> None:
    with (
        locked_folder(tmp_path),
        pytest.raises(ValueError, match=f"process {os.getpid()} on "),
        locked_folder(tmp_path),
    ):
        pytest.fail("two runs in one folder")
    with locked_folder(tmp_path):
        pass


def test_folders_that_stay_empty_are_removed(tmp_path: Path) -> None:
    with pytest.raises(KeyError), locked_folder(tmp_path / "a" / "b"):
        raise KeyError
    assert list(tmp_path.iterdir()) == []
    with locked_folder(tmp_path / "a" / "b"):
        (tmp_path / "a" / "file").touch()
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["file"]


def test_what_a_killed_run_has_left_is_removed(tmp_path: Path) -> None:
    left = [f".{name}.{'0a' * 16}.tmp" for name in ("checkpoint.pt", "results.json", "report.html")]
    kept = ["results.json", ".hidden.tmp", "notes.tmp", f"{'0a' * 16}.tmp"]
    for name in left + kept:
        (tmp_path / name).touch()
    with locked_folder(tmp_path):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(kept)
