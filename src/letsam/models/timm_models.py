"""Models of the package `timm`, which is not installed with letsam: it needs torchvision."""

from __future__ import annotations

import importlib
from typing import Any

from torch import nn

from letsam.models.described import DataDescription
from letsam.tasks import TaskError

PREFIX = "timm:"


def timm_arguments(name: str, data: DataDescription, *, pretrained: bool) -> dict[str, Any]:
    """The arguments of `timm_model` for given data.

    Args:
        name: with or without "timm:".
        data: images.
        pretrained: whether the weights of the name are loaded.

    Raises:
        TaskError: the data are not images.
    """
    if data.form != "images":
        raise TaskError(f"`model` timm:NAME needs images, got a {data.modality} task")
    name = name.removeprefix(PREFIX)
    return {"name": name, "pretrained": pretrained, "channels": data.channels, "classes": data.outputs}


def timm_model(*, name: str, pretrained: bool, channels: int, classes: int) -> nn.Module:
    """A model of timm with a head for these classes.

    Args:
        name: as `timm.create_model` takes it.
        pretrained: whether the weights of the name are loaded.
        channels: of the images.
        classes: number of logits.

    Raises:
        TaskError: timm is missing, or it has no such model.
    """
    timm = import_timm()
    try:
        return timm.create_model(name, pretrained=pretrained, in_chans=channels, num_classes=classes)
    except Exception as error:
        text = " ".join(str(error).split())
        raise TaskError(f"`model` timm:{name} cannot be made: {type(error).__name__}: {text}") from error


def import_timm() -> Any:
    """Import the package `timm`.

    Raises:
        TaskError: it is not installed.
    """
    try:
        return importlib.import_module("timm")
    except ImportError as error:
        raise TaskError("`model` timm:NAME needs the package timm; install it with `pip install timm`") from error
