"""In which units a radius counts: what eps_hat is multiplied by, 1 unless the radius is a share of the weights."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..tensors import Tensors, norm, norms, scale_
from .sam import reciprocal

Reach = Callable[[], Tensor]


def in_units(
    units: str | None, weights: Tensors, gradients: Tensors, factor: Tensor, reach: Reach
) -> tuple[Tensor, Reach]:
    """Turn eps_hat = factor * gradients into that of a radius in these units, in place as far as it differs by tensor.

    Args:
        units: "relative": eps_hat times ||theta||; "layerwise": each tensor's eps_hat made as long as the tensor; None.
        weights: the weights that are perturbed.
        gradients: a multiple of eps_hat, one per weight.
        factor: that multiple's reciprocal (0-dim).
        reach: measures how far eps_hat goes, see `Perturbation.reach`.

    Returns:
        The new factor (0-dim), and what measures the new eps_hat: by its length where it differs by tensor.
    """
    if units is None:
        return factor, reach
    if units == "relative":
        size = norm(weights)
        return factor * size, lambda: reach() * size
    scale_(gradients, torch.stack(norms(weights)) * reciprocal(torch.stack(norms(gradients))))
    return factor.sign(), lambda: norm(gradients)
