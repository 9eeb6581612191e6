"""WSAM: sharpness as a regularization term with its own weight.

Yue, Jiang, Ye, Gao, Liu, Zhang, "Sharpness-Aware Minimization Revisited: Weighted Sharpness as a Regularization Term",
KDD 2023, arXiv:2305.15817.
"""

from __future__ import annotations

from typing import Any

from .. import checks
from ..tensors import Tensors, add_, copy_, scale_, subtract_
from .base import Facts
from .sam import SAMPerturbation


class WSAMPerturbation(SAMPerturbation):
    """theta <- base(theta, g_0) - lr w (g_rho - g_0) with w = gamma / (1 - gamma) and SAM's ascent.

    The loss is L + w (L_rho - L): the sharpness L_rho - L has weight w, which is 1 in SAM. Its gradient is a decoupled
    term, as the authors recommend and as in their code: it bypasses the moments of the base optimizer. With
    `decouple=False`, theta <- base(theta, g_0 + w (g_rho - g_0)); then gamma = 1/2 is SAM.

    `max_grad_norm` clips the gradient that the base optimizer descends with, which is g_0 when decoupled. The authors'
    `max_norm` clips g_0 and g_rho separately, before the difference is taken.

    Args:
        gamma: from 0 (the base optimizer alone) to below 1; 0.9 in the authors' code, that is w = 9, and 0.88 in one
            version of it.
        decouple: whether the sharpness gradient bypasses the base optimizer.

    Raises:
        ValueError: `gamma` is out of range.
        TypeError: an argument of the wrong type.

    Example:
        >>> import torch
        >>> g_rho, g_0 = [torch.tensor([2.0, 0.0])], [torch.tensor([1.0, 1.0])]
        >>> WSAMPerturbation(gamma=0.75).descent([torch.zeros(2)], g_rho, g_0), g_rho
        ([tensor([ 3., -3.])], [tensor([1., 1.])])

    Reference:
        Yue et al., arXiv:2305.15817.
    """

    facts = Facts("WSAM: sharpness as a weighted regularization term", "arXiv:2305.15817", copies=3)
    keeps_ascent_gradient = True

    def __init__(self, gamma: float = 0.9, decouple: bool = True) -> None:
        self.gamma = checks.share("gamma", gamma)
        self.decouple = checks.flag("decouple", decouple)

    def attach(self, param_groups: list[dict[str, Any]]) -> None:
        """Raise for param groups without a learning rate, with which the decoupled term is applied."""
        if self.decouple and any(group.get("lr") is None for group in param_groups):
            raise ValueError(
                "`base_optimizer` must have a learning rate for WSAM, got a param group with lr=None (decouple=False "
                "needs none)"
            )

    @property
    def weight(self) -> float:
        """w = gamma / (1 - gamma), the weight of the sharpness relative to the loss."""
        return self.gamma / (1 - self.gamma)

    def descent(self, weights: Tensors, gradients: Tensors, ascent_gradients: Tensors | None) -> Tensors | None:
        """Replace g_rho by g_0 and return w (g_rho - g_0) if decoupled; otherwise replace g_rho by their sum."""
        assert ascent_gradients is not None  # every step climbs
        sharpness = [g.clone() for g in gradients]
        subtract_(sharpness, ascent_gradients)
        scale_(sharpness, self.weight)
        copy_(gradients, ascent_gradients)
        if self.decouple:
            return sharpness
        add_(gradients, sharpness)
        return None

    def descent_derivative(
        self, changes: Tensors, gradients: Tensors, ascent_gradients: Tensors | None
    ) -> Tensors | None:
        """w times the change of g_rho: returned if decoupled, otherwise in place."""
        scale_(changes, self.weight)
        if not self.decouple:
            return None
        decoupled = [z.clone() for z in changes]
        scale_(changes, 0.0)
        return decoupled
