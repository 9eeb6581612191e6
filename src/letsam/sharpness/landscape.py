"""Slices of the loss landscape along random directions, filter by filter as long as the weights.

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
    """The loss around the weights, as `landscape_slice` measured it.

    Attributes:
        offsets: distances along each direction, shape `(points,)`, from -radius to radius.
        losses: mean loss there, float64, shape `(points,)`, or `(points, points)` with the first direction as rows.
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
    """L(theta + a d) for one random direction d, or L(theta + a d + b e) for two.

    Each direction is drawn from a normal distribution and rescaled filter by filter, so that networks whose weights
    have different sizes can be compared:

        d_ij <- d_ij / ||d_ij|| * ||theta_ij||

    A filter is a slice along the first axis of a tensor of two and more dimensions: the weights of one output channel
    or neuron. Tensors of one dimension (biases, normalization layers) stay where they are, as in the authors' code.

    Args:
        model: measured in evaluation mode, then put back bit for bit.
        loss_fn: (outputs, targets) -> mean loss, a scalar.
        batches: (inputs, targets) pairs on the model's device; read once, kept in memory, weighted by `len(targets)`.
        dimensions: 1 or 2 directions.
        radius: > 0, the farthest offset; at 1 every filter has moved by its own length.
        points: >= 2 offsets in each direction; with an odd number the middle one is 0, the weights themselves.
        seed: >= 0, of the directions. The first direction is the same for 1 and 2 dimensions.

    Returns:
        Offsets and losses. `points ** dimensions` forward passes over the batches.

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
    """A random tensor whose filters are as long as those of `weight`; 0 for tensors of one dimension."""
    drawn = torch.randn(weight.shape, generator=source, dtype=torch.float64)  # on the CPU: the same on every device
    if weight.ndim < 2:
        return torch.zeros_like(weight)
    filters = drawn.flatten(1)
    lengths = weight.detach().to("cpu", torch.float64).flatten(1).norm(dim=1, keepdim=True)
    scaled = filters / filters.norm(dim=1, keepdim=True).clamp(min=torch.finfo(torch.float64).tiny) * lengths
    return scaled.reshape(weight.shape).to(weight)
