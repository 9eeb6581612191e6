"""Units of the radius: scale eps_hat by the size of the weights, for `letsam.relative` and `letsam.layerwise`."""

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
    """Scale eps_hat = factor * gradients to these units; the gradients change, in place, only for "layerwise".

    Args:
        units: "relative": multiply eps_hat by ||theta||; "layerwise": scale each tensor of eps_hat to the norm of its
            weight tensor; None: leave eps_hat as it is.
        weights: the weights that are perturbed.
        gradients: what `Perturbation.direction` has made of the gradients, one per weight.
        factor: the factor that it returned (0-dim).
        reach: returns the length of eps_hat, see `Perturbation.reach`.

    Returns:
        The new factor (0-dim), and a function that returns the length of the new eps_hat.

    Example:
        >>> weight, gradient = torch.tensor([3.0, 4.0]), torch.tensor([0.0, 2.0])
        >>> factor, _ = in_units("relative", [weight], [gradient], torch.tensor(0.5), lambda: torch.tensor(1.0))
        >>> factor * gradient  # ||weight|| = 5
        tensor([0., 5.])
    """
    if units is None:
        return factor, reach
    if units == "relative":
        size = norm(weights)
        return factor * size, lambda: reach() * size
    scale_(gradients, torch.stack(norms(weights)) * reciprocal(torch.stack(norms(gradients))))
    return factor.sign(), lambda: norm(gradients)
