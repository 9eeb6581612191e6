"""The accurate estimator: H_rho eps_hat by a forward difference at the perturbed weights."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import checks
from ..tensors import Tensors, norm, scale_, subtract_
from .estimator import Hypergradient


class FiniteDifference(Hypergradient):
    """H_rho eps_hat ~ (grad L(theta + (rho + h) eps_hat) - g_rho) / h. One further training pass; error O(h).

    Args:
        step: h > 0, in units of rho. None: sqrt(machine epsilon) * ||theta|| / ||eps_hat||, which balances truncation
            and rounding: about 1e-7 relative error in float64, 1e-3 in float32.
        length_invariant: project the estimate on the complement of g_rho, see `Hypergradient`.

    Raises:
        ValueError: `step` is not > 0.
        TypeError: an argument of the wrong type.

    Example:
        >>> import torch
        >>> held, g_rho = [torch.tensor([2.5])], [torch.tensor([2.0])]
        >>> FiniteDifference().curvature(held, g_rho, torch.tensor(1.0), torch.tensor(0.25))
        >>> held
        [tensor([2.])]

    Reference:
        The curvature term of arXiv:2408.08222, section 3.
    """

    holds = "probe"

    def __init__(self, step: float | None = None, length_invariant: bool = True) -> None:
        super().__init__(length_invariant)
        self.step = None if step is None else checks.positive("step", step)

    def probe_step(self, weights: Tensors, direction: Tensors) -> Tensor:
        """h: as given, or in proportion to the norm of the weights."""
        size = norm(weights)
        if self.step is not None:
            return torch.full_like(size, self.step)
        coarsest = max(torch.finfo(w.dtype).eps for w in weights)
        length = norm(direction).clamp(min=torch.finfo(size.dtype).tiny)
        # along a direction of length 0, any step will do that the weights' dtypes can hold
        largest = min(torch.finfo(w.dtype).max for w in weights) / 2
        return (coarsest**0.5 * size / length).clamp(max=largest)

    def curvature(self, held: Tensors, gradients: Tensors, rho: Tensor, probe_step: Tensor | None) -> None:
        """held: g_(rho + h) -> (g_(rho + h) - g_rho) / h."""
        assert probe_step is not None
        subtract_(held, gradients)
        scale_(held, probe_step.reciprocal())
