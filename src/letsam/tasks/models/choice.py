"""Shared by the vision tasks: choosing a model by name, and the memory format."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import torch
from torch import nn

from letsam.results.nearest import did_you_mean
from letsam.tasks.errors import TaskError

T = TypeVar("T")


def chosen_model(name: str, models: Mapping[str, T]) -> T:
    """The entry of a model's name.

    Args:
        name: Name given by the user.
        models: Entries by name.

    Returns:
        ``models[name]``.

    Raises:
        TaskError: If there is no such name; the message suggests a similar one.

    Example:
        >>> chosen_model("cn", {"cnn": 1, "vit": 2})
        Traceback (most recent call last):
        letsam.tasks.errors.TaskError: `model` must be one of cnn, vit, got 'cn', did you mean 'cnn'?
    """
    if name not in models:
        hint = did_you_mean(name, models)
        raise TaskError(f"`model` must be one of {', '.join(models)}, got {name!r}{hint}")
    return models[name]


def channels_last(network: nn.Module) -> nn.Module:
    """The network with convolution weights in channels-last format, which halves the time of a pass on a CPU.

    The activations get the format of the weights, whatever the format of the images.

    Args:
        network: Changed in place.

    Returns:
        The network.
    """
    return network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
