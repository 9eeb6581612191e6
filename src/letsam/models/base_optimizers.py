"""Base optimizers by name, as functions of the parameters that can be pickled and written as JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import nn

from letsam.models.model_options import ModelOptions

Factory = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]


@dataclass(frozen=True)
class BaseOptimizer:
    """A base optimizer of `torch.optim`: called with parameters, it makes one for those that are trained.

    Args:
        name: "sgd" (momentum 0.9), "adamw" or "adam".
        lr: initial learning rate, > 0.
        weight_decay: >= 0.

    Example:
        >>> BaseOptimizer("adamw", 0.001, 0.01)(nn.Linear(2, 1).parameters()).defaults["lr"]
        0.001
    """

    name: str
    lr: float
    weight_decay: float

    def __call__(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """The optimizer of these parameters, without those that are frozen."""
        trained = [parameter for parameter in parameters if parameter.requires_grad]
        if self.name == "sgd":
            return torch.optim.SGD(trained, lr=self.lr, momentum=0.9, weight_decay=self.weight_decay)
        made_of = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[self.name]
        return made_of(trained, lr=self.lr, weight_decay=self.weight_decay)


@dataclass(frozen=True)
class Adjusted:
    """The base optimizer of a task with another learning rate or weight decay.

    Args:
        factory: the task's function.
        lr: for the first parameter group; the others are scaled by the same factor. None: unchanged.
        weight_decay: for all groups that have one above 0, or for all if none has; None: unchanged.
    """

    factory: Factory
    lr: float | None = None
    weight_decay: float | None = None

    def __call__(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """The optimizer of these parameters."""
        optimizer = self.factory(parameters)
        groups = optimizer.param_groups
        if self.lr is not None:
            factor = self.lr / float(groups[0]["lr"])
            for group in groups[1:]:
                group["lr"] = float(group["lr"]) * factor
            groups[0]["lr"] = self.lr
        if self.weight_decay is not None:
            if any("weight_decay" not in group for group in groups):
                raise ValueError(f"`weight_decay` is not an option of {type(optimizer).__name__}")
            some = any(group["weight_decay"] for group in groups)
            for group in groups:
                if group["weight_decay"] or not some:
                    group["weight_decay"] = self.weight_decay
        return optimizer


DEFAULTS = {"sgd": BaseOptimizer("sgd", 0.05, 5e-4), "adam": BaseOptimizer("adam", 1e-3, 0.0)}
DEFAULTS["adamw"] = BaseOptimizer("adamw", 1e-3, 0.01)
"""What `--optimizer NAME` means where the default of the model or the task is another optimizer."""


def with_options(factory: Factory, options: ModelOptions, lr: float | None = None) -> Factory:
    """The base optimizer of a model or a task, changed by the options.

    Args:
        factory: the default.
        options: `optimizer`, `lr` and `weight_decay` replace what the default has; "auto" is no number and changes
            nothing.
        lr: a learning rate that was found; it replaces that of the options.

    Returns:
        The factory, itself where nothing changes.
    """
    rate = lr if lr is not None else options.lr if isinstance(options.lr, float | int) else None
    if options.optimizer is not None and not (isinstance(factory, BaseOptimizer) and factory.name == options.optimizer):
        factory = DEFAULTS[options.optimizer]
    if rate is None and options.weight_decay is None:
        return factory
    if isinstance(factory, BaseOptimizer):
        changes = {"lr": rate, "weight_decay": options.weight_decay}
        return dataclasses.replace(factory, **{name: value for name, value in changes.items() if value is not None})
    return Adjusted(factory, rate, options.weight_decay)
