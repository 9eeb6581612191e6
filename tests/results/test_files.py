"""Files that are replaced in one step."""

import os
import re
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from letsam.results import replacing, write_atomically


@contextmanager
def full_disk(size: int) -> Iterator[None]:
    """No file of this process can become larger than this, in bytes: a write beyond it fails as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_failed_write_leaves_the_old_file_and_no_scratch(tmp_path, monkeypatch):
    path = tmp_path / "results.json"
    write_atomically(path, "old")

    def fail(*_args):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_write_never_touches_the_old_file_before_it_is_complete(tmp_path, monkeypatch):
    path = tmp_path / "results.json"
    write_atomically(path, "old")
    seen = []
    replace = os.replace

    def spy(source, target):
        seen.append((Path(target).read_text(), Path(source).read_text(), Path(source).parent))
        replace(source, target)

    monkeypatch.setattr(os, "replace", spy)
    write_atomically(path, "new")
    assert seen == [("old", "new", tmp_path)]
    assert path.read_text() == "new"


def test_a_written_file_has_ordinary_permissions(tmp_path):
    (tmp_path / "plain").write_text("")
    write_atomically(tmp_path / "deep" / "file", "text")
    assert (tmp_path / "deep" / "file").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize("earlier", [True, False])
def test_a_full_disk_is_one_line_and_keeps_the_old_file(tmp_path: Path, earlier: bool) -> None:
    path = tmp_path / "results.json"
    if earlier:
        write_atomically(path, "old")
    kept = "the earlier file is kept" if earlier else "nothing is written"
    with (
        full_disk(100),
        pytest.raises(OSError, match=f"^{re.escape(str(path))} cannot be written: .+; {kept}$") as raised,
    ):
        write_atomically(path, "x" * 200)
    assert "\n" not in str(raised.value)
    assert [file.read_text() for file in tmp_path.iterdir()] == (["old"] if earlier else [])


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OSError, match=r"file/results\.json cannot be written: "):
        write_atomically(tmp_path / "file" / "results.json", "new")


def test_another_error_within_the_block_stays_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(KeyError), replacing(tmp_path / "file"):
        raise KeyError
    assert list(tmp_path.iterdir()) == []
