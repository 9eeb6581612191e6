"""What the tests of the command line share: a task file, commands, and what they compare."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import warm
from letsam.docs import pages
from letsam.results import Results
from letsam.training.loop import Training
from training_cases import without_seconds

TASK_FILE = """
import os, sys, time
import torch
from torch import nn
from torch.utils.data import TensorDataset
from letsam.tasks import Task

def data(count, seed):
    g = torch.Generator().manual_seed(seed)
    inputs = torch.randn(count, 4, generator=g)
    return TensorDataset(inputs, (inputs[:, 0] > 0).long())

def make(**changes):
    model = lambda: nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 2))
    fields = dict(name="mine", model=model, train=data(40, 0), test=data(30, 1), epochs=3, batch_size=8)
    return Task(**{**fields, **changes})

def loss(outputs, targets):
    time.sleep(float(os.environ.get("SLOW", 0)))
    return nn.functional.cross_entropy(outputs, targets)

def make_task(): return make(loss=loss)
def own_validation(): return make(validation=data(20, 2))
def wider(): return make(model=lambda: nn.Sequential(nn.Linear(4, 9), nn.Linear(9, 2)))
def wild(): return make(optimizer=lambda p: torch.optim.SGD(p, lr=1e30), model=lambda: nn.Sequential(
    nn.Linear(4, 9), nn.ReLU(), nn.Linear(9, 9), nn.ReLU(), nn.Linear(9, 2)))
def three(): return make(train=data(3, 0))
def raises(): raise RuntimeError("no data\\nhere")
def leaves(): sys.exit(3)
def number(): return 3
def vector_loss(): return make(loss=nn.CrossEntropyLoss(reduction="none"))
def float_loss(): return make(loss=lambda outputs, targets: 1.0)
def detached_loss(): return make(loss=lambda outputs, targets: outputs.detach().mean())
def two_lines(outputs, targets): raise RuntimeError("first\\nsecond")
def failing_loss(): return make(loss=two_lines)
def vector_metric(): return make(metric=lambda outputs, targets: outputs.argmax(1))
def no_optimizer(): return make(optimizer=lambda p: None)
def no_module(): return make(model=lambda: 3)
"""

MINE = "my_task.py:make_task"
RUN_FIELDS = [
    "method",
    "seed",
    "rho_initial",
    "rho_final",
    "test_accuracy",
    "test_loss",
    "train_loss",
    "validation_loss",
    "generalization_gap",
    "gradient_passes",
    "seconds",
    "history",
    "metric",
    "steps",
    "skipped_steps",
    "radius_warning",
    "metrics",
    "lower_is_better",
    "hyperparameters",
    "continued_at",
    "shifted",
]
TRIAL = ("trial", "my_task.py:make_task", "--methods", "sgd,sam:0.1,lets-sam", "--seeds", "2")
ROWS = [(row, seed) for seed in (0, 1) for row in ("sgd", "sam:0.1", "lets-sam", "lets-sam+refit")]
TRAIN = ("train", "my_task.py:make_task", "--method", "lets-sam", "--out", "one")


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def process(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The command in a new interpreter."""
    command = [sys.executable, "-m", "letsam", *arguments]
    return subprocess.run(command, env=warm.environment(), capture_output=True, text=True, timeout=120)


def records(path: Path) -> list[dict[str, Any]]:
    return [without_seconds(record) for record in Results.load(path).runs]


def rows(path: Path) -> list[tuple[str, int]]:
    return [(record.method, record.seed) for record in Results.load(path).runs]


MORE = re.compile(r" \(more: (?:letsam docs (?P<page>[\w/-]+)|letsam(?: \w+)? --help)\)$", re.M)
"""The end of an error that can be expected: where there is more about it."""


def check_error(result: tuple[int, str, str], message: str) -> None:
    """One line with this message and, at its end, the page that explains it."""
    status, out, err = result
    more = MORE.search(err)
    if more is not None:
        assert more["page"] is None or more["page"] in pages(), err
    else:
        assert "LETSAM_TRACEBACK" in err or "pip install" in err, err
    assert re.search(message, MORE.sub("", err)), err
    assert err.startswith("error: ")
    assert err.endswith("\n")
    assert err.count("\n") == 1
    assert "Traceback" not in err
    assert "\x1b" not in err
    assert out == ""
    assert status == 2


class Interrupted:
    """`Training.advance` that raises KeyboardInterrupt in place of its n-th call."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
        self.left, self.advance, self.patch = at, Training.advance, monkeypatch

    def __enter__(self) -> None:
        def advance(run: Training, steps: int | None = None) -> None:
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt
            self.advance(run, steps)

        self.patch.setattr(Training, "advance", advance)

    def __exit__(self, *_: object) -> None:
        self.patch.setattr(Training, "advance", self.advance)
