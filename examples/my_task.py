"""A custom task: `letsam trial examples/my_task.py:make_task`, less than a minute on a CPU.

Copy this file, replace data, model and optimizer by your own, and run the same command on it.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from sklearn.datasets import load_wine
from sklearn.model_selection import train_test_split
from torch import nn
from torch.utils.data import TensorDataset

from letsam.tasks import Task


def make_task() -> Task:
    """Classify wines by grower, one of three, from 13 chemical measurements; 178 samples from scikit-learn."""
    inputs, targets = load_wine(return_X_y=True)
    parts = train_test_split(inputs, targets, test_size=0.5, random_state=0, stratify=targets)
    train_x, test_x = (torch.tensor(part, dtype=torch.float32) for part in parts[:2])
    train_y, test_y = (torch.tensor(part) for part in parts[2:])
    mean, std = train_x.mean(0), train_x.std(0)
    return Task(
        name="wine",
        model=lambda: nn.Sequential(nn.Linear(13, 64), nn.ReLU(), nn.Linear(64, 3)),
        train=TensorDataset((train_x - mean) / std, train_y),
        test=TensorDataset((test_x - mean) / std, test_y),
        optimizer=adamw,
        epochs=30,
        batch_size=16,
    )


def adamw(parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """The base optimizer of all methods."""
    return torch.optim.AdamW(parameters, lr=3e-3)
