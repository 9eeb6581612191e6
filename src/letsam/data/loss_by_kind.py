"""The loss of each kind of target, with weights of samples and of classes."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from letsam.tasks.model_outputs import logits_of
from letsam.tasks.weighted import plain_targets


@dataclass(frozen=True)
class KindLoss:
    """The mean over the samples of weight x loss.

    The loss of a sample is the cross entropy for classes, the mean over labels of the binary cross entropy for
    multi-label targets, and the squared error divided by `scale` squared for numbers.

    Args:
        kind: "classification", "multilabel" or "regression".
        class_weights: one for each class; None: all 1. The weight of a sample is multiplied by that of its class.
        scale: of the numbers to predict, one for each column, > 0; their standard deviation in the training data, so
            that predicting the mean has a loss of about 1.

    Example:
        >>> KindLoss("regression", scale=(10.0,))(torch.tensor([[0.0], [0.0]]), torch.tensor([10.0, 20.0])).item()
        2.5
    """

    kind: str
    class_weights: tuple[float, ...] | None = None
    scale: tuple[float, ...] = (1.0,)

    def __call__(self, outputs: Any, targets: Any) -> Tensor:
        """The loss of a batch, a scalar.

        Args:
            outputs: logits, shape ``(batch, classes)`` or ``(batch, labels)``, or numbers, ``(batch, columns)``.
            targets: classes ``(batch,)``, labels of 0 and 1 ``(batch, labels)``, or numbers; or a `WeightedTarget`.
        """
        return self.each(outputs, targets).mean()

    def each(self, outputs: Any, targets: Any) -> Tensor:
        """The loss of each sample times its weight, shape ``(batch,)``; their mean is the loss of the batch."""
        outputs = logits_of(outputs)
        plain, weights = plain_targets(targets)
        losses = self._each(outputs, plain)
        if self.class_weights is not None:
            losses = losses * _on_device(self.class_weights, outputs.device, losses.dtype)[plain]
        return losses if weights is None else losses * weights

    def _each(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The loss of each sample, without weights."""
        if self.kind == "classification":
            return nn.functional.cross_entropy(outputs, targets, reduction="none")
        if self.kind == "multilabel":
            losses = nn.functional.binary_cross_entropy_with_logits(
                outputs, targets.to(outputs.dtype), reduction="none"
            )
            return losses.mean(dim=1)
        errors = outputs.reshape(targets.shape) - targets
        if targets.ndim == 1:
            return (errors / self.scale[0]).square()
        return (errors / _on_device(self.scale, errors.device, errors.dtype)).square().mean(dim=1)


@functools.lru_cache(maxsize=64)
def _on_device(values: tuple[float, ...], device: torch.device, dtype: torch.dtype) -> Tensor:
    """The numbers as a tensor, made once: a copy to the device in every step would make the host wait for it."""
    with torch.inference_mode(False):
        return torch.tensor(values, device=device, dtype=dtype)
