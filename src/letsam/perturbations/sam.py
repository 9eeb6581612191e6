"""SAM: climb along the gradient.

Foret, Kleiner, Mobahi, Neyshabur, "Sharpness-Aware Minimization for Efficiently Improving Generalization",
ICLR 2021, arXiv:2010.01412, equation (2) with p = 2.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..tensors import Tensors
from .base import Facts, Perturbation


class SAMPerturbation(Perturbation):
    """eps_hat = g / ||g||; theta <- base(theta, grad L(theta + rho eps_hat)).

    The perturbation eps = rho eps_hat has length rho. A zero gradient gives a zero perturbation.

    Example:
        >>> import torch
        >>> gradient = [torch.tensor([3.0, 4.0])]
        >>> SAMPerturbation().direction([torch.zeros(2)], gradient, torch.tensor(5.0)) * gradient[0]
        tensor([0.6000, 0.8000])

    Reference:
        arXiv:2010.01412, equation (2).
    """

    facts = Facts("SAM: climb along the gradient", "arXiv:2010.01412")

    def direction(self, weights: Tensors, gradients: Tensors, gradient_norm: Tensor) -> Tensor:
        """1 / ||g||; the gradients stay as they are."""
        return reciprocal(gradient_norm)

    def reach(self, directions: Tensors, factor: Tensor, gradient_norm: Tensor) -> Tensor:
        """1, the length of eps_hat."""
        return torch.ones_like(factor)


def reciprocal(length: Tensor) -> Tensor:
    """1 / length, clamped to a finite value where length is 0, so that its product with a zero gradient is 0.

    A gradient whose squares underflow has length 0 too, so the clamp is the square root of the smallest normal number.
    """
    return length.clamp(min=torch.finfo(length.dtype).tiny ** 0.5).reciprocal()
