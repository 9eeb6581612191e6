"""The paper's estimator: the diagonal of the empirical Fisher matrix in place of the Hessian."""

from __future__ import annotations

from torch import Tensor

from ..tensors import Tensors, multiply_
from .estimator import Hypergradient


class Diagonal(Hypergradient):
    """H_rho eps_hat ~ g_rho^2 * eps_hat, entry by entry. No further pass; the size and often the sign are wrong.

    Args:
        length_invariant: project the estimate on the complement of g_rho, see `Hypergradient`.

    Raises:
        TypeError: `length_invariant` is neither True nor False.

    Example:
        >>> import torch
        >>> held, g_rho = [torch.tensor([0.5])], [torch.tensor([2.0])]
        >>> Diagonal().curvature(held, g_rho, torch.tensor(1.0), None)
        >>> held
        [tensor([2.])]

    Reference:
        arXiv:2408.08222, section 3.
    """

    holds = "direction"

    def curvature(self, held: Tensors, gradients: Tensors, rho: Tensor, probe_step: Tensor | None) -> None:
        """held: eps_hat -> g_rho^2 * eps_hat."""
        multiply_(held, gradients)
        multiply_(held, gradients)
