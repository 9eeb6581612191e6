"""GSAM: minimize the perturbed loss and the surrogate gap between it and the loss.

Zhuang, Gong, Yuan, Cui, Adam, Dvornek, Tatikonda, Duncan, Liu, "Surrogate Gap Minimization Improves Sharpness-Aware
Training", ICLR 2022, arXiv:2203.08065.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .. import checks
from ..tensors import Tensors, add_scaled_, inner, norm
from .base import Facts
from .sam import SAMPerturbation


class GSAMPerturbation(SAMPerturbation):
    """theta <- base(theta, g_rho - alpha g_perp) with g_perp = g_0 - g_rho (g_0 . g_rho) / ||g_rho||^2.

    The ascent is SAM's: eps_hat = g_0 / ||g_0||. g_perp is the component of g_0 orthogonal to g_rho. Subtracting it
    from the gradient leaves the perturbed loss unchanged to first order and increases L(theta), which reduces the
    surrogate gap L(theta + rho eps_hat) - L(theta). alpha = 0 is SAM. The paper's radius, proportional to the learning
    rate, is `letsam.ProportionalRadius`.

    Args:
        alpha: >= 0, weight of g_perp; 0.4 in the authors' example.

    Raises:
        ValueError: `alpha` is negative.

    Example:
        >>> import torch
        >>> g_rho, g_0 = [torch.tensor([2.0, 0.0])], [torch.tensor([1.0, 1.0])]
        >>> GSAMPerturbation(alpha=0.5).descent([torch.zeros(2)], g_rho, g_0)
        >>> g_rho
        [tensor([ 2.0000, -0.5000])]

    Reference:
        arXiv:2203.08065, algorithm 1.
    """

    facts = Facts("GSAM: also minimize the surrogate gap", "arXiv:2203.08065", copies=2)
    keeps_ascent_gradient = True

    def __init__(self, alpha: float = 0.4) -> None:
        self.alpha = checks.not_negative("alpha", alpha)

    def descent(self, weights: Tensors, gradients: Tensors, ascent_gradients: Tensors | None) -> None:
        """Compute g_rho (1 + alpha c) - alpha g_0 in place, with c = (g_0 . g_rho) / ||g_rho||^2."""
        if ascent_gradients is None:
            return
        share = inner(ascent_gradients, gradients) / _square(gradients)
        add_scaled_(gradients, gradients, self.alpha * share)
        add_scaled_(gradients, ascent_gradients, torch.full_like(share, -self.alpha))

    def descent_derivative(self, changes: Tensors, gradients: Tensors, ascent_gradients: Tensors | None) -> None:
        """z (1 + alpha c) + alpha g_rho dc in place of z, with dc = (g_0 . z - 2 c g_rho . z) / ||g_rho||^2."""
        assert ascent_gradients is not None
        square = _square(gradients)
        share = inner(ascent_gradients, gradients) / square
        slope = (inner(ascent_gradients, changes) - 2 * share * inner(gradients, changes)) / square
        add_scaled_(changes, changes, self.alpha * share)
        add_scaled_(changes, gradients, self.alpha * slope)


def _square(gradients: Tensors) -> Tensor:
    length = norm(gradients)
    return length.square().clamp(min=torch.finfo(length.dtype).tiny)
