"""The default estimator: H_rho eps_hat from the two gradients that SAM computes anyway."""

from __future__ import annotations

from torch import Tensor

from ..tensors import Tensors, scale_, subtract_
from .estimator import Hypergradient


class Secant(Hypergradient):
    """H_rho eps_hat ~ (g_rho - g_0) / rho. No further pass; error O(rho), exact for a quadratic loss.

    Args:
        length_invariant: project the estimate on the complement of g_rho, see `Hypergradient`.

    Raises:
        TypeError: `length_invariant` is neither True nor False.

    Example:
        >>> import torch
        >>> held, g_rho = [torch.tensor([1.0])], [torch.tensor([1.5])]
        >>> Secant().curvature(held, g_rho, torch.tensor(0.25), None)
        >>> held
        [tensor([2.])]

    Reference:
        The curvature term of arXiv:2408.08222, section 3, by a difference along the ascent step.
    """

    holds = "gradient"

    def curvature(self, held: Tensors, gradients: Tensors, rho: Tensor, probe_step: Tensor | None) -> None:
        """held: g_0 -> (g_rho - g_0) / rho."""
        subtract_(held, gradients)
        scale_(held, -1.0 / rho)
