"""VaSSO: climb along a moving average of the gradients.

Li, Giannakis, "Enhancing Sharpness-Aware Optimization Through Variance Suppression", NeurIPS 2023, arXiv:2309.15639.
"""

from __future__ import annotations

from torch import Tensor

from .. import checks
from ..tensors import Tensors, copy_, norm
from .base import Facts
from .memory import PerturbationWithMemory
from .sam import reciprocal


class VaSSOPerturbation(PerturbationWithMemory):
    """eps_hat = d / ||d|| with the moving average d <- (1 - theta) d + theta g, updated before its use.

    The average reduces the variance of the direction. As in the authors' code, d starts with the first gradient.

    Args:
        theta: weight of the newest gradient, above 0 to 1 (the paper's symbol, not the weights); 0.9 in the authors'
            code. 1 is SAM.

    Raises:
        ValueError: `theta` is out of range.

    Example:
        >>> import torch
        >>> weight, perturbation = torch.zeros(2), VaSSOPerturbation(theta=0.5)
        >>> for g in (torch.tensor([3.0, 0.0]), torch.tensor([3.0, 8.0])):
        ...     factor = perturbation.direction([weight], [g], g.norm())
        ...     perturbation.commit(torch.tensor(True))
        >>> factor * g
        tensor([0.6000, 0.8000])

    Reference:
        Li and Giannakis, arXiv:2309.15639.
    """

    facts = Facts("VaSSO: climb along a moving average of the gradients", "arXiv:2309.15639", copies=3)

    def __init__(self, theta: float = 0.9) -> None:
        super().__init__()
        self.theta = checks.positive_share("theta", theta)

    def direction(self, weights: Tensors, gradients: Tensors, gradient_norm: Tensor) -> Tensor:
        """Replace g by the updated average d in place; returns 1 / ||d||."""
        copy_(gradients, self.memory.average_(weights, gradients, self.theta))
        return reciprocal(norm(gradients))
