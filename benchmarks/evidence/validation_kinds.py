"""Validation data that are not like the training data: with fewer wrong labels, or with other shares of the classes."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch.utils.data import Subset

from letsam.tasks import Task, with_label_noise
from letsam.training.config import TrialConfig
from letsam.training.sampling import Splits, make_splits

KINDS = {  # the name after the `@` of a method, and the title of its column
    "clean": "no wrong labels",
    "cleaner": "half as many",
    "mix": "other class mix",
}
RELEASED = "released"  # the name after the `@` for validation data like the training data
SHIFT = "labels:3"  # of the class mix, see `letsam.validation.shifted`


def applies(kind: str, noise: float) -> bool:
    """Whether validation data of this kind differ from held-out training data with this share of wrong labels."""
    return kind == "mix" or noise > 0


def splits_of(task: Task, seed: int, config: TrialConfig, kind: str) -> Splits:
    """The splits of a trial, with validation data of this kind; what is trained on is the same."""
    options: dict[str, Any] = dict(config.split_options)
    if kind == RELEASED:
        return make_splits(task, seed, **options, hold_out=True)
    if kind == "mix":
        return make_splits(task, seed, **{**options, "validation_shift": SHIFT}, hold_out=True)
    splits = make_splits(task, seed, **options, hold_out=True)
    kept, total = splits.order if splits.released is None else (splits.released[1], splits.order[1])
    held_out = torch.ones(total, dtype=torch.bool)
    held_out[kept] = False
    generator = torch.Generator().manual_seed(seed)
    noise = config.label_noise / 2 if kind == "cleaner" else 0.0
    labelled = with_label_noise(task.train, noise, generator=generator) if noise else task.train
    return dataclasses.replace(splits, validation=Subset(labelled, held_out.nonzero().flatten().tolist()))
