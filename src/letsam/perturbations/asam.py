"""ASAM: a perturbation that is relative to the magnitude of each weight.

Kwon, Kim, Park, Choi, "ASAM: Adaptive Sharpness-Aware Minimization for Scale-Invariant Learning of Deep Neural
Networks", ICML 2021, arXiv:2102.11600, algorithm 1.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from .. import checks
from ..tensors import Tensors, multiply_, norm
from .base import Facts, Perturbation
from .sam import reciprocal

SCALINGS = ("all", "weights", "matrices")


class ASAMPerturbation(Perturbation):
    """eps_hat = T^2 g / ||T g||, with T = diag(|theta| + eta) on scaled tensors and T = 1 on the others.

    Two conventions are in use, and the best rho differs between them by a factor of up to 4:

    - `scale="all"`: every parameter, T = diag(|theta|) as in the paper and in widely copied PyTorch implementations.
    - `scale="weights"`: only tensors whose name contains "weight", those of normalization layers included, and no
      biases; with `eta=0.01` this is the authors' code. It needs parameter names: build the base optimizer from
      `model.named_parameters()`.

    `scale="matrices"` scales only tensors with at least two dimensions: no biases and no normalization layers.

    Args:
        scale: which tensors are scaled: "all", "weights" or "matrices".
        eta: >= 0, added to |theta|, in units of the weights.

    Raises:
        ValueError: `scale` or `eta` out of range; `scale="weights"` without parameter names.

    Example:
        >>> import torch
        >>> gradient = [torch.tensor([3.0, 4.0])]
        >>> factor = ASAMPerturbation().direction([torch.tensor([1.0, 0.0])], gradient, torch.tensor(5.0))
        >>> factor * gradient[0]
        tensor([1., 0.])

    Reference:
        arXiv:2102.11600, algorithm 1 and section 4.
    """

    facts = Facts("ASAM: perturb relative to the magnitude of each weight", "arXiv:2102.11600", rho=0.5)

    def __init__(self, scale: str = "all", eta: float = 0.0) -> None:
        self.scale = checks.choice("scale", scale, SCALINGS)
        self.eta = checks.not_negative("eta", eta, "|theta| alone")
        self._named_weights: list[Tensor] = []

    def attach(self, param_groups: list[dict[str, Any]]) -> None:
        """Find the tensors that `scale="weights"` selects by name."""
        if self.scale != "weights":
            return
        self._named_weights = []
        for group in param_groups:
            if "param_names" not in group:
                raise ValueError(
                    '`scale="weights"` needs parameter names: build the base optimizer from '
                    "model.named_parameters(), got parameters without names"
                )
            names_and_params = zip(group["param_names"], group["params"], strict=True)
            self._named_weights += [p for name, p in names_and_params if "weight" in name]

    def direction(self, weights: Tensors, gradients: Tensors, gradient_norm: Tensor) -> Tensor:
        """Turn g into T^2 g in place and return 1 / ||T g||; makes no copy of the weights."""
        scaled = [i for i, weight in enumerate(weights) if self._scales(weight)]
        if not scaled:
            return reciprocal(gradient_norm)
        factors = [weights[i] for i in scaled]  # the sign of theta cancels in T^2 and in the norm
        if self.eta:
            factors = [factor.abs().add_(self.eta) for factor in factors]
        chosen = [gradients[i] for i in scaled]
        multiply_(chosen, factors)
        length = norm(gradients)
        multiply_(chosen, factors)
        return reciprocal(length)

    def reach(self, directions: Tensors, factor: Tensor, gradient_norm: Tensor) -> Tensor:
        """eps_hat . g_0 / ||g_0|| = ||T g|| / ||g||: the SAM radius with the same first-order increase of the loss."""
        return reciprocal(gradient_norm) / factor

    def _scales(self, weight: Tensor) -> bool:
        if self.scale == "all":
            return True
        if self.scale == "matrices":
            return weight.ndim >= 2
        return any(weight is named for named in self._named_weights)
