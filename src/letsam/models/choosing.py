"""The choice of a model for files of data."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import torch
from torch import nn

from letsam.models.model_options import ModelOptions


class Described(Protocol):
    """What a choice depends on; `letsam.data.LoadedData` has it."""

    @property
    def modality(self) -> str: ...  # noqa: D102
    @property
    def kind(self) -> str: ...  # noqa: D102
    @property
    def outputs(self) -> int: ...  # noqa: D102
    @property
    def input_shape(self) -> tuple[int, ...]: ...  # noqa: D102


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """A model for the data, and how its weights are trained.

    Args:
        name: of the model.
        make: makes a new model; the caller seeds torch.
        optimizer: makes the base optimizer of the parameters.
        epochs: passes over the training data.
        batch_size: samples a step.
        config: JSON values from which the same model can be made again.
    """

    name: str
    make: Callable[[], nn.Module]
    optimizer: Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]
    epochs: int
    batch_size: int
    config: dict[str, Any]


def choose(data: Described, options: ModelOptions) -> Chosen:
    """The model for the data.

    Args:
        data: the kind and the size of the data.
        options: what the user asks for.

    Returns:
        A perceptron with two hidden layers, trained by AdamW.

    Raises:
        ValueError: there is no such model.
    """
    if options.name not in ("auto", "mlp"):
        raise ValueError(f"`model` must be auto or mlp, got {options.name!r}")
    config = {"model": "mlp", "inputs": math.prod(data.input_shape), "width": 128, "outputs": data.outputs}
    return Chosen(
        name="mlp", make=partial(_perceptron, config), optimizer=_adamw, epochs=40, batch_size=64, config=config
    )


def _perceptron(config: dict[str, Any]) -> nn.Module:
    inputs, width, outputs = config["inputs"], config["width"], config["outputs"]
    hidden = [nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()]
    return nn.Sequential(nn.Flatten(), *hidden, nn.Linear(width, outputs))


def _adamw(parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.AdamW(parameters, lr=1e-3, weight_decay=1e-2)
