"""Interrupts while the command `letsam` imports its packages: it ends with status 130, without a traceback.

The package imports this module first, before torch, which takes a second or more.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import PurePath
from types import FrameType

INTERRUPTED = 130
COMMANDS = ("letsam", "letsam.exe", "letsam-script.py")


def is_command() -> bool:
    """Whether this process runs the command, as `letsam` or as `python -m letsam`."""
    name = sys.argv[0] if sys.argv else ""
    if name != "-m":  # which it is while Python looks for the module
        return PurePath(name).name in COMMANDS
    given = sys.orig_argv
    return "-m" in given[:-1] and given[given.index("-m") + 1].partition(".")[0] == "letsam"


def end_quietly() -> None:
    """From now on, an interrupt ends the process at once, unless the program has a handler of its own."""
    main_thread = threading.current_thread() is threading.main_thread()
    if main_thread and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end)


def raise_again() -> None:
    """From now on, an interrupt raises `KeyboardInterrupt` again, so that the command can say what is finished."""
    if signal.getsignal(signal.SIGINT) is _end and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _end(number: int, frame: FrameType | None) -> None:
    os._exit(INTERRUPTED)


if is_command():
    end_quietly()
