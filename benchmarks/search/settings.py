"""On what the ideas are tried."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import avg_pool2d
from torch.utils.data import TensorDataset

from benchmarks.search.batched import Samples
from letsam.tasks import Task, load_task
from letsam.training.data import make_splits

STARTS = (0.01, 1.0)
TESTED = 4000  # test images, at most


@dataclass(frozen=True)
class Setting:
    """A task with label noise, a network and a length."""

    task: str  # "digits" or "fashion-mnist"
    train_size: int | None  # training samples; None for all
    pooled: int  # side of the squares of pixels that are averaged into one
    noise: float  # share of wrong training labels
    hidden: tuple[int, ...]  # widths of the hidden layers
    epochs: int  # of every training
    seeds: int  # 0 to `seeds` - 1
    all_ideas: bool = False  # whether those ideas are tried here that are not for everywhere

    @property
    def sizes(self) -> tuple[int, ...]:
        """Inputs, hidden layers, classes."""
        side = {"digits": 8, "fashion-mnist": 28}[self.task] // self.pooled
        return (side * side, *self.hidden, 10)


SETTINGS = {
    "digits-0.0": Setting("digits", None, 1, 0.0, (128, 128), 60, 3, True),
    "digits-0.2": Setting("digits", None, 1, 0.2, (128, 128), 60, 3),
    "digits-0.4": Setting("digits", None, 1, 0.4, (128, 128), 60, 3, True),
    "fashion-0.0": Setting("fashion-mnist", 2000, 2, 0.0, (128, 128), 30, 2),
    "fashion-0.4": Setting("fashion-mnist", 2000, 2, 0.4, (128, 128), 30, 2),
    "deep-0.4": Setting("fashion-mnist", 2000, 2, 0.4, (64,) * 5, 30, 2),
}


@functools.cache
def load(setting: Setting) -> Task:
    """The task, with inputs as the networks here take them."""
    task = load_task(setting.task, train_size=setting.train_size)

    def flat(data: Any, count: int | None = None) -> TensorDataset:
        images, targets = (tensor[:count] for tensor in data.tensors)
        return TensorDataset(torch.flatten(avg_pool2d(images, setting.pooled), 1), targets)

    return Task(name=task.name, model=task.model, train=flat(task.train), test=flat(task.test, TESTED))


def samples(task: Task, setting: Setting, share: float | None) -> Samples:
    """The splits of all seeds; without a share everything is trained on."""
    options = {"label_noise": setting.noise, "validation_share": share or 0.0, "hold_out": share is not None}
    return Samples({seed: make_splits(task, seed, **options) for seed in range(setting.seeds)})
