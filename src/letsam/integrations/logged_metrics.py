"""The metrics of a step that the adapters log, under the names that `letsam trial --log` uses as well."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..optimizer import SharpnessAware
from ..radius.doubts import warn_once as warn_once

LOGGED = ("training_loss", "validation_loss", "generalization_gap", "rho", "hypergradient", "learning_rate")


def logged_metrics(optimizer: SharpnessAware) -> dict[str, Tensor]:
    """Losses, radius, learning rate and, if the radius is learned, generalization gap and hypergradient.

    Args:
        optimizer: a letsam optimizer that has taken at least one step.

    Returns:
        0-dim tensors by name, as far as the optimizer has them; with many radii, means over them. The learning rate is
        that of the first param group.
    """
    rate: Any = optimizer.param_groups[0].get("lr")
    values = dict(optimizer.metrics)
    if rate is not None:  # some base optimizers have none
        values["learning_rate"] = torch.as_tensor(rate)
    return {name: values[name].mean() for name in LOGGED if name in values}
