"""F-SAM, Friendly SAM: climb along the part of the gradient that is specific to the batch.

Li, Zhou, He, Cheng, Huang, "Friendly Sharpness-Aware Minimization", CVPR 2024, arXiv:2403.12350.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .. import checks
from ..tensors import Tensors, add_scaled_, norm
from .base import Facts
from .memory import PerturbationWithMemory
from .sam import reciprocal


class FSAMPerturbation(PerturbationWithMemory):
    """eps_hat = d / ||d|| with d = g - sigma m, where m is a moving average of the gradients of earlier steps.

    m estimates the full gradient, which according to the paper does not help generalization as a perturbation; d is
    the noise of the batch. After the step has used it, m <- decay m + (1 - decay) g. As in the authors' code, m starts
    with the first gradient. With sigma = 1, updating m before its use would give the same direction.

    Args:
        sigma: >= 0, multiple of the average that is subtracted; 0 is SAM.
        decay: of the moving average, from 0 to below 1; the paper's lambda. 0.9 in the authors' code, 0.6 in its
            example.

    Raises:
        ValueError: an argument out of range.

    Example:
        >>> import torch
        >>> weight, perturbation = torch.zeros(2), FSAMPerturbation()
        >>> for g in (torch.tensor([1.0, 0.0]), torch.tensor([1.0, 2.0])):
        ...     factor = perturbation.direction([weight], [g], g.norm())
        ...     perturbation.commit(torch.tensor(True))
        >>> factor * g
        tensor([0., 1.])

    Reference:
        Li et al., arXiv:2403.12350.
    """

    facts = Facts("F-SAM: climb along the noise of the batch", "arXiv:2403.12350", copies=3)

    def __init__(self, sigma: float = 1.0, decay: float = 0.9) -> None:
        super().__init__()
        self.sigma = checks.not_negative("sigma", sigma)
        self.decay = checks.share("decay", decay)

    def direction(self, weights: Tensors, gradients: Tensors, gradient_norm: Tensor) -> Tensor:
        """Turn g into d = g - sigma m in place, with m from before this step; returns 1 / ||d||."""
        self.memory.average_(weights, gradients, 1 - self.decay)
        add_scaled_(gradients, self.memory.values(weights), torch.full_like(gradient_norm, -self.sigma))
        return reciprocal(norm(gradients))
