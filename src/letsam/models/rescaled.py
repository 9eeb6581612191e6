"""Outputs in the units of the numbers to predict."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from letsam.tasks.model_outputs import logits_of


class Rescaled(nn.Module):
    """A model whose outputs are multiplied by a scale and added to a mean, so that it need not learn them.

    Args:
        model: its outputs, of shape ``(batch, columns)``, are of size 1.
        mean: of each column in the training data.
        scale: the standard deviation of each column in the training data, > 0.

    Example:
        >>> Rescaled(nn.Identity(), [100.0], [10.0])(torch.tensor([[-1.0]]))
        tensor([[90.]])
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, model: nn.Module, mean: Sequence[float], scale: Sequence[float]) -> None:
        super().__init__()
        self.model = model
        # They are in the configuration of the model, so they need not be among its weights.
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32), persistent=False)
        self.register_buffer("scale", torch.tensor(scale, dtype=torch.float32), persistent=False)

    def forward(self, inputs: Any) -> Tensor:
        """The outputs in the units of the numbers to predict, shape ``(batch, columns)``."""
        outputs: Tensor = logits_of(self.model(inputs))
        precise = torch.promote_types(outputs.dtype, torch.float32)
        return outputs.to(precise) * self.scale + self.mean
