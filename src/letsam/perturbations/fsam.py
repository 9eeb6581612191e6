"""F-SAM, Friendly SAM: climb along what is particular to the batch.

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
    """eps_hat = d / ||d||, d = g - sigma m, with m an average of the gradients of earlier steps.

    The full gradient, of which m is an estimate, does not help generalisation in the perturbation; what remains is the
    noise of the batch. m <- decay m + (1 - decay) g after the step has used it, and begins with the first gradient:
    the authors' code. With sigma = 1 it makes no difference whether g enters m before or after.

    Args:
        sigma: >= 0, how much of the average is taken off; 0 is SAM.
        decay: of the average, from 0 to below 1; the paper's lambda. 0.9 in the authors' code, 0.6 in its example.

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
        """The gradients less sigma times the average before this step."""
        self.memory.average_(weights, gradients, 1 - self.decay)
        add_scaled_(gradients, self.memory.values(weights), torch.full_like(gradient_norm, -self.sigma))
        return reciprocal(norm(gradients))
