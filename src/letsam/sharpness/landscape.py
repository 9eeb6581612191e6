"""Slices of the loss landscape along random directions with filter normalization.

Li, Xu, Taylor, Studer, Goldstein, "Visualizing the Loss Landscape of Neural Nets", NeurIPS 2018, arXiv:1712.09913.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .. import checks
from .losses import LossFunction, mean_loss, measured, shares, trainable


@dataclass(frozen=True)
class LandscapeSlice:
    """The loss around the weights, the result of `landscape_slice`.

    Attributes:
        offsets: distances along each direction, from -radius to radius, float64, shape `(points,)`.
        losses: mean losses, float64, shape `(points,)`, or `(points, points)` with the first direction along the rows.
    """

    offsets: Tensor
    losses: Tensor


def landscape_slice(
    model: nn.Module,
    loss_fn: LossFunction,
    batches: Iterable[Any],
    *,
    dimensions: int = 1,
    radius: float = 1.0,
    points: int = 21,
    seed: int = 0,
) -> LandscapeSlice:
    """L(theta + a d) for one random direction d, or L(theta + a d + b e) for two directions d and e.

    Each direction is drawn from a normal distribution and rescaled per filter, so that networks whose weights have
    different magnitudes can be compared:

        d_ij <- d_ij / ||d_ij|| * ||theta_ij||    (filter j of layer i)

    A filter is a slice along the first dimension of a tensor with at least two dimensions: the weights of one output
    channel or neuron. 1-dim tensors (biases, normalization layers) are not changed, as in the authors' code.

    Args:
        model: evaluated in evaluation mode and restored bit for bit.
        loss_fn: (outputs, targets) -> mean loss, a scalar.
        batches: (inputs, targets) pairs on the model's device; read once, kept in memory, weighted by `len(targets)`.
        dimensions: 1 or 2 directions.
        radius: > 0, the largest offset; an offset of 1 moves every filter by its own norm.
        points: number of offsets in each direction, >= 2; an odd number includes the offset 0, the current weights.
        seed: >= 0, of the directions. The first direction is the same for 1 and 2 dimensions.

    Returns:
        Offsets and losses, after `points ** dimensions` forward passes over the batches.

    Raises:
        ValueError: an argument out of range, no samples or no trainable parameter.
        TypeError: an argument of the wrong type.

    Example:
        >>> model = torch.nn.Linear(1, 1, bias=False)
        >>> _ = torch.nn.init.constant_(model.weight, 2.0)
        >>> data = [(torch.ones(4, 1), torch.zeros(4, 1))]
        >>> slice = landscape_slice(model, torch.nn.functional.mse_loss, data, points=3)
        >>> sorted(slice.losses.tolist())  # (2 +- 2)^2 and 2^2
        [0.0, 4.0, 16.0]

    Reference:
        arXiv:1712.09913, section 4 (filter normalization) and equation (1).
    """
    if checks.whole("dimensions", dimensions, 1) > 2:
        raise ValueError(f"`dimensions` must be 1 or 2, got {dimensions}")
    reach = checks.positive("radius", radius)
    checks.whole("points", points, 2)
    source = torch.Generator().manual_seed(checks.whole("seed", seed, 0))
    parts = shares(batches)
    offsets = (torch.arange(points, dtype=torch.float64) - (points - 1) / 2) * (2 * reach / (points - 1))
    with measured(model) as weights, torch.no_grad():
        directions = [[_filter_normalized(w, source) for w in weights] for _ in range(dimensions)]
        grid = torch.cartesian_prod(*[offsets] * dimensions).reshape(-1, dimensions)
        losses: list[float] = []
        for place in grid.tolist():
            for i, (param, weight) in enumerate(zip(trainable(model), weights, strict=True)):
                param.copy_(weight)
                for offset, direction in zip(place, directions, strict=True):
                    param.add_(direction[i], alpha=offset)
            losses.append(mean_loss(model, loss_fn, parts))
    shaped = torch.tensor(losses, dtype=torch.float64).reshape([points] * dimensions)
    return LandscapeSlice(offsets, shaped)


def _filter_normalized(weight: Tensor, source: torch.Generator) -> Tensor:
    """A random tensor whose filters have the norms of those of `weight`; 0 for 1-dim tensors."""
    drawn = torch.randn(weight.shape, generator=source, dtype=torch.float64)  # on the CPU: equal on all devices
    if weight.ndim < 2:
        return torch.zeros_like(weight)
    filters = drawn.flatten(1)
    lengths = weight.detach().to("cpu", torch.float64).flatten(1).norm(dim=1, keepdim=True)
    scaled = filters / filters.norm(dim=1, keepdim=True).clamp(min=torch.finfo(torch.float64).tiny) * lengths
    return scaled.reshape(weight.shape).to(weight)
