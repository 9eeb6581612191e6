"""ESAM: perturb a random subset of the weights, and descend on the samples whose loss the perturbation raises most.

Du, Yan, Feng, Zhou, Zhen, Goh, Tan, "Efficient Sharpness-aware Minimization for Improved Training of Neural Networks",
ICLR 2022, arXiv:2110.03141.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.optim import Optimizer

from .. import checks
from ..tensors import Tensors, multiply_
from ..tensors.shards import local, part_of
from .base import Facts
from .sam import SAMPerturbation, reciprocal


class ESAMPerturbation(SAMPerturbation):
    """eps_hat = (m / beta) * g / ||g||, with a random mask m whose entries are 1 with probability beta, else 0.

    The expectation of eps_hat is SAM's. As in the paper, the mask is drawn entry by entry and ||g|| is the norm of the
    whole gradient. The authors' code selects whole tensors, which saves part of the first backward pass, and takes the
    norm over these. Here the mask depends only on `seed` and the step number, so it is the same in every process.
    For DTensors every process draws the mask of one whole weight at a time and keeps its part.

    This is ESAM's stochastic weight perturbation. Its second part, sharpness-sensitive data selection, is a closure:
    `letsam.selected`.

    Args:
        beta: probability that a weight is perturbed, above 0 to 1; 1 is SAM; 0.5 or 0.6 in the authors' runs.
        seed: >= 0.

    Raises:
        ValueError: an argument out of range.
        TypeError: an argument of the wrong type.

    Example:
        >>> import torch
        >>> g = torch.tensor([3.0, 4.0])
        >>> ESAMPerturbation(beta=1.0).direction([torch.zeros(2)], [g], g.norm()) * g
        tensor([0.6000, 0.8000])

    Reference:
        Du et al., arXiv:2110.03141, algorithm 1, where beta and 1 - beta are swapped by mistake (confirmed by the
        authors in issue 3 of their repository).
    """

    facts = Facts(
        "ESAM: perturb a random subset of the weights",
        "arXiv:2110.03141",
        learned="yes; with `letsam.selected`, use `FiniteDifference()` and `Prior(rise=None)`",
    )

    def __init__(self, beta: float = 0.6, seed: int = 0) -> None:
        self.beta = checks.positive_share("beta", beta)
        self.seed = checks.whole("seed", seed, 0)
        self._step = 0

    def begin(self, step: int, base: Optimizer) -> None:
        """Store the step number, which seeds the mask."""
        self._step = step

    def direction(self, weights: Tensors, gradients: Tensors, gradient_norm: Tensor) -> Tensor:
        """Set the gradients to 0 where the mask is 0; returns 1 / (beta ||g||)."""
        random = torch.Generator(gradients[0].device).manual_seed(self.seed + self._step)
        for gradient in gradients:
            chosen = torch.rand(gradient.shape, generator=random, device=gradient.device) < self.beta
            multiply_([local(gradient)], [part_of(chosen.to(gradient.dtype), gradient)])
        return reciprocal(gradient_norm) / self.beta
