"""ESAM: perturb a random part of the weights, and descend on the samples that it hurts most.

Du, Yan, Feng, Zhou, Zhen, Goh, Tan, "Efficient Sharpness-aware Minimization for Improved Training of Neural Networks",
ICLR 2022, arXiv:2110.03141.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.optim import Optimizer

from .. import checks
from ..tensors import Tensors, multiply_
from ..tensors.shards import locals_of
from .base import Facts
from .sam import SAMPerturbation, reciprocal


class ESAMPerturbation(SAMPerturbation):
    """eps_hat = m / beta * g / ||g||, each entry of m being 1 with probability beta, else 0: SAM's in expectation.

    The mask is that of the paper, entry by entry, with the length of the whole gradient; the authors' code draws whole
    tensors, which saves a part of the first backward pass, and takes the length over those it has drawn. Here the mask
    is a function of `seed` and the step alone, the same in every process.

    This is ESAM's stochastic weight perturbation. Its other half, the sharpness-sensitive selection of data, is a
    matter of the closure: `letsam.selected`.

    Args:
        beta: above 0 to 1; 1 is SAM; 0.5 or 0.6 in the authors' runs.
        seed: >= 0.

    Raises:
        ValueError: an argument out of range.
        TypeError: `seed` is no whole number.

    Example:
        >>> import torch
        >>> g = torch.tensor([3.0, 4.0])
        >>> ESAMPerturbation(beta=1.0).direction([torch.zeros(2)], [g], g.norm()) * g
        tensor([0.6000, 0.8000])

    Reference:
        Du et al., arXiv:2110.03141, algorithm 1, which had 1 - beta for beta by mistake: the authors in issue 3 of
        their repository.
    """

    facts = Facts(
        "ESAM: perturb a random part of the weights",
        "arXiv:2110.03141",
        learned='yes; beside `letsam.selected` only with hypergradient="finite_difference" and prior_rise=None',
    )

    def __init__(self, beta: float = 0.6, seed: int = 0) -> None:
        self.beta = checks.positive_share("beta", beta)
        self.seed = checks.whole("seed", seed, 0)
        self._step = 0

    def begin(self, step: int, base: Optimizer) -> None:
        """Learn the number of the step."""
        self._step = step

    def direction(self, weights: Tensors, gradients: Tensors, gradient_norm: Tensor) -> Tensor:
        """The gradients where the mask is 1, else 0, and 1 / (beta ||g||)."""
        parts = locals_of(gradients)
        random = torch.Generator(parts[0].device).manual_seed(self.seed + self._step)
        for part in parts:
            chosen = torch.rand(part.shape, generator=random, device=part.device) < self.beta
            multiply_([part], [chosen.to(part.dtype)])
        return reciprocal(gradient_norm) / self.beta
