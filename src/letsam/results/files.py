"""Files that are replaced in one step, so that a reader sees the old content or the new one, never a part of it."""

from __future__ import annotations

import contextlib
import os
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["checked_folder", "remove_leftovers", "replacing", "write_atomically"]

_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{32}\.tmp")


def checked_folder(folder: Path) -> Path:
    """Return `folder`, or raise ValueError if a file is in its place or in that of a parent folder."""
    for place in (folder, *folder.parents):
        if place.exists() and not place.is_dir():
            raise ValueError(f"`out` must be a folder, got the file {place}")
    return folder


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files that killed processes have left in `folder`, where nobody else must be writing."""
    for path in folder.iterdir():
        if _TEMPORARY.fullmatch(path.name):
            path.unlink(missing_ok=True)


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


def write_atomically(path: Path, text: str) -> None:
    """Write `text` as UTF-8 so that a reader sees either the old file or the new one."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")
