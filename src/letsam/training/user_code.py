"""Calls of the functions of a task, whose exceptions say which of them it was."""

from __future__ import annotations

import sysconfig
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from letsam.tasks import TaskError

_ELSEWHERE = tuple(
    str(folder)
    for folder in (
        Path(__file__).parents[1],
        Path(torch.__file__).parent,
        sysconfig.get_paths()["stdlib"],
        sysconfig.get_paths()["purelib"],
    )
)


def called(name: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function of a task.

    Args:
        name: of the field of `Task`, such as "loss".
        function: the user's function.
        arguments: passed on.

    Returns:
        What it returns.

    Raises:
        TaskError: it raises an exception; one line with the name, the exception, and the line in the user's file.

    Example:
        >>> called("loss", lambda: {}["targets"])
        Traceback (most recent call last):
        letsam.tasks.errors.TaskError: `loss` raised KeyError: 'targets' (<doctest ...[0]>, line 1)
    """
    try:
        return function(*arguments)
    except TaskError:
        raise
    except Exception as error:
        text = " ".join(str(error).split())
        kind = type(error).__name__
        frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith(_ELSEWHERE)]
        where = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
        raise TaskError(f"`{name}` raised {kind}{': ' if text else ''}{text}{where}") from error
