"""Files that are replaced in one step, so that a reader sees the old content or the new one, never a part of it."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import shutil
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["checked_folder", "remove_leftovers", "replacing", "replacing_folder", "write_atomically"]

_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{32}\.tmp")
_EXCHANGED = re.compile(r"\.(?P<name>.+)\.[0-9a-f]{32}\.old")


def checked_folder(folder: Path) -> Path:
    """Return `folder`, or raise ValueError if a file is in its place or in that of a parent folder."""
    for place in (folder, *folder.parents):
        if place.exists() and not place.is_dir():
            raise ValueError(f"`out` must be a folder, got the file {place}")
    return folder


def remove_leftovers(folder: Path) -> None:
    """Remove what killed processes have left in `folder`, where nobody else must be writing.

    These are temporary files and folders. A folder that was moved aside and whose place is still empty is moved back.
    """
    for path in list(folder.iterdir()):
        moved = _EXCHANGED.fullmatch(path.name)
        if moved and not (folder / moved["name"]).exists():
            os.rename(path, folder / moved["name"])
        elif moved or _TEMPORARY.fullmatch(path.name):
            _remove(path)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary file in the folder of `path`; it replaces `path` in one step when the block ends.

    The folder is made if it is missing. If anything fails, `path` is left as it was and the temporary file is removed.

    Raises:
        OSError: the file cannot be written, such as on a full disk; one line that names `path`.
    """
    # Not tempfile: its files can be read by their owner alone (mode 600), and the replaced file would be so, too.
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        kept = "the earlier file is kept" if path.exists() else "nothing is written"
        raise OSError(f"{path} cannot be written: {error.strerror or error}; {kept}") from error
    finally:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            temporary.unlink()


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Give a temporary folder next to `path`; it replaces `path` in one step when the block ends.

    A process that is killed leaves the old folder or the new one. On Linux and macOS the two are exchanged in one step.
    Where the file system cannot do so, the old one is first moved aside, and `remove_leftovers` moves it back if the
    process is killed in between. If anything fails, `path` is left as it was and the temporary folder is removed.

    Raises:
        OSError: the folder cannot be written, such as on a full disk; one line that names `path`.
        ValueError: a file is in its place.
    """
    name = f".{path.name}.{uuid.uuid4().hex}"
    temporary, aside = path.with_name(f"{name}.tmp"), path.with_name(f"{name}.old")
    if path.exists() and not path.is_dir():
        raise ValueError(f"{path} must be a folder, got a file")
    try:
        temporary.mkdir(parents=True)
        yield temporary
        for file in temporary.rglob("*"):
            _synchronize(file)
        if not path.exists():
            os.rename(temporary, path)
        elif not _exchange(temporary, path):
            os.rename(path, aside)
            os.rename(temporary, path)
        _synchronize(path.parent)
    except OSError as error:
        kept = "the earlier folder is kept" if path.exists() else "nothing is written"
        raise OSError(f"{path} cannot be written: {error.strerror or error}; {kept}") from error
    finally:
        if aside.exists() and not path.exists():
            os.rename(aside, path)
        _remove(temporary)
        _remove(aside)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            path.unlink()


def _synchronize(path: Path) -> None:
    """Write a file or a folder to the disk, so that a rename does not get there first."""
    with contextlib.suppress(PermissionError):  # Windows does not open folders
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        except OSError:
            if not path.is_dir():  # some file systems have no fsync for folders
                raise
        finally:
            os.close(descriptor)


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two folders in one step; False where the system or the file system cannot."""
    names = {"linux": ("renameat2", 2), "darwin": ("renameatx_np", 2)}  # RENAME_EXCHANGE, RENAME_SWAP
    if sys.platform not in names:
        return False
    function, flag = names[sys.platform]
    here = -100 if sys.platform == "linux" else -2  # AT_FDCWD
    try:
        call = getattr(ctypes.CDLL(None, use_errno=True), function)
    except (OSError, AttributeError):  # an old C library
        return False
    return call(here, os.fsencode(one), here, os.fsencode(other), flag) == 0


def write_atomically(path: Path, text: str) -> None:
    """Write `text` as UTF-8 so that a reader sees either the old file or the new one."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")
