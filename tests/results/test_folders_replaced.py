"""Folders that are replaced in one step: whoever looks sees the old one or the new one."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from letsam.results import files as files_module
from letsam.results import remove_leftovers, replacing_folder


def content(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def fail_after_writing(folder: Path, error: Exception) -> None:
    (folder / "a").write_text("new")
    raise error


def write(path: Path, text: str) -> None:
    with replacing_folder(path) as folder:
        (folder / "inner").mkdir()
        for name in ("a", "b", "inner/c"):
            (folder / name).write_text(text)


@pytest.fixture(params=["exchange", "two renames"])
def _way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "two renames":  # as on a file system that cannot exchange
        monkeypatch.setattr(files_module, "_exchange", lambda *_: False)


@pytest.mark.usefixtures("_way")
def test_a_folder_is_written_and_replaced(tmp_path: Path) -> None:
    path = tmp_path / "new" / "model"
    for text in ("old", "new"):
        write(path, text)
        assert content(path) == dict.fromkeys(("a", "b", "inner/c"), text)
        assert list(path.parent.iterdir()) == [path]


@pytest.mark.usefixtures("_way")
def test_a_failure_leaves_the_old_folder_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "model"
    write(path, "old")
    for error, message in (
        (RuntimeError("stop"), "stop"),
        (OSError("full"), r"written: full; the earlier .* is kept$"),
    ):
        with pytest.raises(type(error), match=message), replacing_folder(path) as folder:
            fail_after_writing(folder, error)
    assert content(path) == dict.fromkeys(("a", "b", "inner/c"), "old")
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_in_the_place_of_the_folder_is_kept(tmp_path: Path) -> None:
    (tmp_path / "model").write_text("mine")
    with pytest.raises(ValueError, match="must be a folder, got a file"):
        write(tmp_path / "model", "new")
    assert (tmp_path / "model").read_text() == "mine"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_killed_process_leaves_the_old_folder_or_the_new_one(tmp_path: Path) -> None:
    """Killed at 20 moments while it replaces the folder again and again; the folder is never missing or mixed."""
    path = tmp_path / "model"
    write(path, "0")
    for moment in range(20):
        child = os.fork()
        if child == 0:
            for number in range(10_000):
                write(path, str(number))
            os._exit(0)
        time.sleep(0.003 + 0.002 * moment)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        found = content(path)
        assert set(found) == {"a", "b", "inner/c"}
        assert len(set(found.values())) == 1
        remove_leftovers(tmp_path)
        assert list(tmp_path.iterdir()) == [path]


def test_a_kill_between_two_renames_is_mended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model"
    write(path, "old")
    monkeypatch.setattr(files_module, "_exchange", lambda *_: False)
    rename = os.rename

    def killed_after_the_first(*arguments: Path) -> None:
        rename(*arguments)
        os._exit(1)

    child = os.fork()
    if child == 0:
        os.rename = killed_after_the_first
        write(path, "new")
    os.waitpid(child, 0)
    assert not path.exists()
    remove_leftovers(tmp_path)
    assert content(path) == dict.fromkeys(("a", "b", "inner/c"), "old")
    assert list(tmp_path.iterdir()) == [path]
