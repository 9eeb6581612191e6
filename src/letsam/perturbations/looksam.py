"""LookSAM: a SAM step every k steps; the steps in between reuse a component of the last perturbed gradient.

Liu, Mai, Chen, Hsieh, You, "Towards Efficient and Scalable Sharpness-Aware Minimization", CVPR 2022, arXiv:2203.02714.
"""

from __future__ import annotations

import torch

from .. import checks
from ..tensors import Tensors, add_scaled_, copy_, inner, norm
from .base import Facts
from .memory import PerturbationWithMemory
from .sam import SAMPerturbation, reciprocal


class LookSAMPerturbation(PerturbationWithMemory, SAMPerturbation):
    """Steps 0, k, 2k, ...: a SAM step. Other steps: theta <- base(theta, g + alpha (||g|| / ||g_v||) g_v).

    g_v = g_rho - g_0 (g_rho . g_0) / ||g_0||^2, from the last SAM step, is the component of g_rho orthogonal to g_0.
    According to the paper it points to flat regions and changes slowly. Norms and dot products are over all weights
    together.

    Args:
        k: >= 1, in steps; 5 in most of the paper.
        alpha: >= 0, weight of g_v.

    Raises:
        ValueError: an argument out of range.
        TypeError: an argument of the wrong type.

    Example:
        >>> [LookSAMPerturbation(k=3).ascends(step) for step in range(5)]
        [True, False, False, True, False]

    Reference:
        arXiv:2203.02714, algorithm 1.
    """

    facts = Facts(
        "LookSAM: climb in every k-th step",
        "arXiv:2203.02714",
        "1 + 1/k",
        4,
        "yes; updated only with steps that climb",
    )
    keeps_ascent_gradient = True

    def __init__(self, k: int = 5, alpha: float = 0.7) -> None:
        super().__init__()
        self.k = checks.whole("k", k, 1)
        self.alpha = checks.not_negative("alpha", alpha)

    def ascends(self, step: int) -> bool:
        """True at steps 0, k, 2k, ..."""
        return step % self.k == 0

    def descent(self, weights: Tensors, gradients: Tensors, ascent_gradients: Tensors | None) -> None:
        """In a step that climbs, store g_v; in the others, add alpha (||g|| / ||g_v||) g_v to the gradient."""
        if ascent_gradients is not None:
            square = norm(ascent_gradients).square()
            share = inner(gradients, ascent_gradients) / square.clamp(min=torch.finfo(square.dtype).tiny)
            flat = self.memory.begin(weights)
            copy_(flat, gradients)
            add_scaled_(flat, ascent_gradients, -share)
        else:
            flat = self.memory.values(weights)
            add_scaled_(gradients, flat, self.alpha * norm(gradients) * reciprocal(norm(flat)))

    def descent_derivative(self, changes: Tensors, gradients: Tensors, ascent_gradients: Tensors | None) -> None:
        """A step that climbs descends with g_rho itself; the effect of g_v on later steps is not differentiated."""
