"""The lock of a folder of results: one run at a time writes to it."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from letsam.results.files import checked_folder, remove_leftovers
from letsam.results.printable import printable

try:
    import fcntl
except ImportError:  # Windows: without a lock
    fcntl = None

__all__ = ["locked_folder"]

LOCK = ".letsam.lock"


@contextmanager
def locked_folder(folder: Path) -> Iterator[None]:
    """Keep other runs from writing to `folder`, and remove what a killed one has left there.

    The operating system releases the lock when the process ends, however it ends: the file of a killed process is taken
    over. On a file system without locks there is none.

    Args:
        folder: made if it is missing; folders that are still empty at the end are removed again.

    Raises:
        ValueError: another run writes to the folder; the message names its process. Or a file is in the place of the
            folder.
    """
    checked_folder(folder)
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / LOCK
    try:
        descriptor = _acquire(path, folder)
        try:
            remove_leftovers(folder)
            yield
        finally:
            path.unlink(missing_ok=True)  # while it is locked, so that no other run can hold this file
            os.close(descriptor)
    finally:
        with contextlib.suppress(OSError):  # not empty, which is what a run is for
            for place in missing:
                place.rmdir()


def _acquire(path: Path, folder: Path) -> int:
    """Lock the file and write into it who holds it; returns its descriptor."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            _lock(descriptor)
            # The run that held the file before may have removed it after it was opened here.
            if path.exists() and os.path.samestat(os.fstat(descriptor), path.stat()):
                break
        except BlockingIOError:
            holder = printable(os.read(descriptor, 500).decode("utf-8", "replace")) or "another process"
            os.close(descriptor)
            raise ValueError(
                f"{folder}: {holder} writes to this folder; wait until it has ended, or choose another --out"
            ) from None
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
    since = time.strftime("%Y-%m-%d %H:%M:%S")
    with contextlib.suppress(OSError):  # a full disk: the lock holds without a name in it
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}, since {since},".encode())
    return descriptor


def _lock(descriptor: int) -> None:
    if fcntl is None:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:  # a file system that has no locks
        return
