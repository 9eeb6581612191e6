"""WSAM: sharpness as a regulariser with a weight of its own.

Yue, Jiang, Ye, Gao, Liu, Zhang, "Sharpness-Aware Minimization Revisited: Weighted Sharpness as a Regularization Term",
KDD 2023, arXiv:2305.15817.
"""

from __future__ import annotations

from .. import checks
from ..tensors import Tensors, add_, copy_, scale_, subtract_
from .base import Facts
from .sam import SAMPerturbation


class WSAMPerturbation(SAMPerturbation):
    """theta <- base(theta, g_0) - lr * gamma / (1 - gamma) * (g_rho - g_0), climbing as SAM does.

    The loss is L + gamma / (1 - gamma) * (L_rho - L): the sharpness L_rho - L has a weight of its own, 1 in SAM. As the
    authors recommend and their code does, its gradient goes to the weights directly, past the moments of the base
    optimizer. With `decouple=False` the base optimizer descends with the weighted sum of both gradients, and
    gamma = 1/2 is SAM. `max_grad_norm` clips what the base optimizer descends with, which is g_0 where decoupled; the
    authors' `max_norm` clips g_0 and g_rho, each by itself, before their difference is taken.

    Args:
        gamma: from 0 (the base optimizer alone) to below 1; 0.9 in the authors' code, a weight of 9, and 0.88 in a
            version of it.
        decouple: whether the sharpness is kept out of the base optimizer.

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

    facts = Facts("WSAM: sharpness as a weighted regulariser", "arXiv:2305.15817", copies=3)
    keeps_ascent_gradient = True

    def __init__(self, gamma: float = 0.9, decouple: bool = True) -> None:
        self.gamma = checks.share("gamma", gamma)
        self.decouple = checks.flag("decouple", decouple)

    @property
    def weight(self) -> float:
        """That of the sharpness beside the loss."""
        return self.gamma / (1 - self.gamma)

    def descent(self, weights: Tensors, gradients: Tensors, ascent_gradients: Tensors | None) -> Tensors | None:
        """g_0, and beside it the weighted difference; or their sum."""
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
        """The weight times the change of g_rho, there where the sharpness goes."""
        scale_(changes, self.weight)
        if not self.decouple:
            return None
        beside = [z.clone() for z in changes]
        scale_(changes, 0.0)
        return beside
