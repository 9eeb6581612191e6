"""A task whose training kills its worker process once, and the same task without that."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from torch import Tensor, nn

import training_cases
from letsam.tasks import Task

MARKER = "LETSAM_TEST_KILLED"  # names the file that says that it has happened
CALL = 25  # of the loss in one process: in the middle of its first run

calls = 0


def loss(outputs: Tensor, targets: Tensor) -> Tensor:
    global calls
    calls += 1
    marker = Path(os.environ[MARKER])
    if calls == CALL and not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return nn.functional.cross_entropy(outputs, targets)


def kills() -> Task:
    return training_cases.task(loss=loss, epochs=2, dropout=0.2)


def plain() -> Task:
    return training_cases.task(epochs=2, dropout=0.2)
