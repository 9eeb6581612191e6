"""Shifts of any data: other shares of classes or of subpopulations."""

from __future__ import annotations

import torch
from torch import Tensor

from letsam.validation.drift.draws import Draws, sample_numbers

SPREAD = (0.3, 0.6, 1.0, 1.5, 2.2)  # standard deviation of the logarithms of the factors
RESAMPLING = 2  # stream of random numbers


def resampled(units: Tensor, severity: int, seed: int) -> Tensor:
    """As many samples as there are, with other shares of classes or groups.

    The share of unit u is multiplied by ``exp(s z_u)`` with a standard normal z_u, and all are divided by their sum.
    Within a unit, samples are drawn without replacement until all are used, then again.

    Args:
        units: the class or group of each sample, whole numbers, shape ``(n,)``.
        severity: 1 to 5, for s = 0.3, 0.6, 1, 1.5, 2.2.
        seed: the only source of randomness.

    Returns:
        Indices, shape ``(n,)``, ascending; some occur several times.

    Example:
        >>> indices = resampled(torch.arange(1000) % 2, 5, seed=0)
        >>> len(indices), (indices % 2).float().mean().item() != 0.5
        (1000, True)
    """
    _, numbers = torch.unique(units, return_inverse=True)
    sizes = torch.bincount(numbers)
    factors = (
        SPREAD[severity - 1] * Draws(sample_numbers(seed, torch.zeros(1), RESAMPLING)).normal(len(sizes))[0]
    ).exp()
    shares = sizes * factors.double()
    shares = shares / shares.sum() * len(units)
    counts = shares.floor().long()
    rest = (shares - counts).argsort(descending=True, stable=True)[: len(units) - int(counts.sum())]
    counts[rest] += 1
    lost = counts == 0  # every unit keeps a sample
    counts[lost] = 1
    counts[counts.argmax()] -= int(lost.sum())
    found: list[Tensor] = []
    order = Draws(sample_numbers(seed, torch.arange(len(units)), RESAMPLING)).uniform(1)[:, 0]
    for unit, count in enumerate(counts.tolist()):
        members = torch.nonzero(numbers == unit).flatten()
        members = members[order[members].argsort()]
        found.append(members.repeat(-(-count // len(members)))[:count])
    return torch.cat(found).sort().values
