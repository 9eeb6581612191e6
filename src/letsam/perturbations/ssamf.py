"""SSAM-F: the mask keeps the weights with the largest Fisher information.

Mi, Shen, Ren, Zhou, Sun, Ji, Tao, "Make Sharpness-Aware Minimization Stronger: A Sparsified Perturbation Approach",
NeurIPS 2022, arXiv:2210.05177.
"""

from __future__ import annotations

from torch import Tensor

from .base import Facts
from .ssam import SSAMPerturbation, ones_at


class SSAMFPerturbation(SSAMPerturbation):
    """eps_hat = m * g / ||g||; the mask keeps the weights with the largest Fisher information.

    The empirical Fisher is the square of the gradient. The authors take it in passes of their own, one for each of 1024
    single samples unless told otherwise; here it is the square of the step's own g_0, which costs nothing and weighs
    the samples of one batch together.

    Args:
        sparsity: the share of weights that is not perturbed, from 0 (SAM) to below 1.
        interval: >= 1, in steps: how often the mask is renewed; 5 epochs by default in the authors' code.

    Raises:
        ValueError: an argument out of range.
        TypeError: `interval` is no whole number.

    Example:
        >>> import torch
        >>> weight, g = torch.zeros(4), torch.tensor([3.0, 0.0, -4.0, 0.0])
        >>> SSAMFPerturbation(sparsity=0.75).direction([weight], [g], g.norm()) * g
        tensor([ 0.0000,  0.0000, -0.8000,  0.0000])

    Reference:
        Mi et al., arXiv:2210.05177.
    """

    facts = Facts("SSAM-F: perturb the weights with most Fisher information", "arXiv:2210.05177", copies=3)

    def __init__(self, sparsity: float = 0.5, interval: int = 100) -> None:
        super().__init__(sparsity, interval)

    def choose(self, gradients: Tensor, mask: Tensor) -> Tensor:
        """The largest squares."""
        return ones_at(gradients, gradients.square().topk(self.kept(gradients.numel())).indices)
