"""SSAM-F: sparse SAM on the weights with the largest Fisher information.

Mi, Shen, Ren, Zhou, Sun, Ji, Tao, "Make Sharpness-Aware Minimization Stronger: A Sparsified Perturbation Approach",
NeurIPS 2022, arXiv:2210.05177.
"""

from __future__ import annotations

from torch import Tensor

from .base import Facts
from .ssam import SSAMPerturbation, ones_at


class SSAMFPerturbation(SSAMPerturbation):
    """eps_hat = m * g / ||g||; the mask m selects the weights with the largest empirical Fisher information.

    The authors estimate the Fisher information as the mean squared gradient of single samples, 1024 by default, in
    separate passes. Here it is the square of the step's g_0, a batch gradient, which needs no further pass.

    Args:
        sparsity: fraction of the weights that are not perturbed, from 0 (SAM) to below 1.
        interval: >= 1, in steps, from one mask to the next; 5 epochs by default in the authors' code.

    Raises:
        ValueError: an argument out of range.
        TypeError: an argument of the wrong type.

    Example:
        >>> import torch
        >>> weight, g = torch.zeros(4), torch.tensor([3.0, 0.0, -4.0, 0.0])
        >>> SSAMFPerturbation(sparsity=0.75).direction([weight], [g], g.norm()) * g
        tensor([ 0.0000,  0.0000, -0.8000,  0.0000])

    Reference:
        Mi et al., arXiv:2210.05177.
    """

    facts = Facts("SSAM-F: perturb the weights with the largest Fisher information", "arXiv:2210.05177", copies=3)

    def __init__(self, sparsity: float = 0.5, interval: int = 100) -> None:
        super().__init__(sparsity, interval)

    def choose(self, gradients: Tensor, mask: Tensor) -> Tensor:
        """Select the weights with the largest squared gradients."""
        return ones_at(gradients, gradients.square().topk(self.kept(gradients.numel())).indices)
