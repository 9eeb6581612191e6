"""What is done to a finished network: corrupted test images, weights of few bits, training on a second task."""

from __future__ import annotations

import copy
import dataclasses
import functools
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, TensorDataset

from benchmarks.harness.training import loaded
from letsam.tasks import Task
from letsam.training.drifted import input_form, with_drift
from letsam.training.evaluation import evaluate_on
from letsam.training.feed import Batches
from letsam.training.sampling import training_order
from letsam.training.shifted_tests import possible_shifts
from letsam.validation.drift.known_shifts import RESAMPLED

IMAGES = 2000  # test images that are used, at most
SEVERITIES = (2, 4)
BITS = (8, 4, 3)
EPOCHS = (1, 5)  # passes over the second task after which both tasks are tested
LR_FACTOR = 0.03  # learning rate of the fine-tuning, as a part of that of the training
CORRUPTION_SEED = 0  # all networks see the same images


def accuracy_on(model: nn.Module, task: Task, dataset: Dataset[Any]) -> float:
    """The accuracy in evaluation mode, 0 to 1."""
    return evaluate_on(task, model, Batches(dataset, torch.device("cpu"))).metric


def task_of(name: str, train_size: int | None = None, model: str | None = None) -> Task:
    """A task with the first of its test images, which are in random order."""
    task = loaded(name, train_size, model)
    test: Any = task.test
    return dataclasses.replace(task, test=TensorDataset(*(tensor[:IMAGES] for tensor in test.tensors)))


@functools.lru_cache(maxsize=1)
def corruptions(name: str, train_size: int | None = None) -> dict[str, Dataset[Any]]:
    """The test images of a task under every shift of images that they can have, by names such as "noise:2"."""
    task = task_of(name, train_size)
    kinds = [kind for kind in possible_shifts(task, input_form(task)) if kind not in RESAMPLED]
    shifts = [f"{kind}:{severity}" for kind in kinds for severity in SEVERITIES]
    return {shift: with_drift(task, task.test, shift, CORRUPTION_SEED) for shift in shifts}


def rounded(weights: Tensor, bits: int) -> Tensor:
    """The weights on the levels of a signed integer, symmetric around 0, with a scale for each output channel.

    The largest weight of a channel, by its size, is the highest level, ``2 ** (bits - 1) - 1``; each weight goes to the
    nearest level. The first dimension is that of the channels.

    Example:
        >>> rounded(torch.tensor([[3.0, -1.1, 0.4], [0.0, 0.0, 0.0]]), bits=3)
        tensor([[ 3., -1.,  0.],
                [ 0.,  0.,  0.]])
    """
    highest = 2 ** (bits - 1) - 1
    scale = weights.flatten(1).abs().amax(dim=1).reshape(-1, *[1] * (weights.ndim - 1)) / highest
    return torch.where(scale > 0, (weights / scale).round() * scale, weights)


@torch.no_grad()
def with_rounded_weights(model: nn.Module, bits: int) -> nn.Module:
    """A copy in which every parameter with two or more dimensions is rounded; biases and normalization stay."""
    found = copy.deepcopy(model)
    for parameter in found.parameters():
        if parameter.ndim >= 2:
            parameter.copy_(rounded(parameter, bits))
    return found


def turned(dataset: Any) -> TensorDataset:
    """The second task: the images turned by 90 degrees, with the same labels."""
    images, targets = dataset.tensors
    return TensorDataset(images.rot90(1, (2, 3)).contiguous(), targets)


def fine_tuned(model: nn.Module, task: Task, seed: int) -> Iterator[tuple[int, nn.Module]]:
    """A copy that goes on with the second task, by the base optimizer alone, after each number of epochs.

    All labels of the second task are right.
    """
    found = copy.deepcopy(model)
    images, targets = turned(task.train).tensors
    optimizer = task.optimizer(found.parameters())
    for group in optimizer.param_groups:
        group["lr"] *= LR_FACTOR
    everything = torch.arange(len(targets)), len(targets)
    for epoch in range(max(EPOCHS)):
        found.train()
        for batch in training_order(everything, task.batch_size, seed, epoch):
            optimizer.zero_grad()
            task.loss(found(images[batch]), targets[batch]).backward()
            optimizer.step()
        if epoch + 1 in EPOCHS:
            yield epoch + 1, found
