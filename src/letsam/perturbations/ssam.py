"""SSAM, Sparse SAM: perturb a part of the weights only, chosen by a mask that is renewed now and then.

Mi, Shen, Ren, Zhou, Sun, Ji, Tao, "Make Sharpness-Aware Minimization Stronger: A Sparsified Perturbation Approach",
NeurIPS 2022, arXiv:2210.05177.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.optim import Optimizer

from .. import checks
from ..tensors import Tensors, copy_, multiply_
from ..tensors.shards import locals_of
from .memory import PerturbationWithMemory
from .sam import SAMPerturbation, reciprocal

FLOOR = 1e-7  # keeps what the mask has apart from what it has not where a score is 0
TRIES = 17  # steps: as many as a GradScaler may need to come down from its 2^16 to 1


class SSAMPerturbation(PerturbationWithMemory, SAMPerturbation):
    """eps_hat = m * g / ||g||, with a mask m of zeros and ones. What its subclasses choose is the mask.

    As in the authors' code the length is that of the whole gradient, so ||eps|| <= rho. The mask covers all weights
    together (of DTensors, the parts of each process by themselves). A new mask is used at once; in the authors' code
    from the step after on, so that their first step of SSAM-F, whose mask begins at 0, is not perturbed.

    A mask made in a step that is skipped is not kept; the mask of before then serves until the next one is due. Where
    there is none before, the next step makes it, within the first 17 steps of a run: these all choose one, as the host
    does not know which are skipped. Should all of them be, all weights are perturbed until a mask is due.

    Args:
        sparsity: the share of weights that is not perturbed, from 0 (SAM) to below 1.
        interval: >= 1, in steps: how often the mask is renewed, from the first step on.

    Raises:
        ValueError: an argument out of range.
        TypeError: `interval` is no whole number.
    """

    def __init__(self, sparsity: float, interval: int) -> None:
        super().__init__()
        self.sparsity = checks.share("sparsity", sparsity)
        self.interval = checks.whole("interval", interval, 1)
        self._step = 0

    def begin(self, step: int, base: Optimizer) -> None:
        """Learn the number of the step."""
        self._step = step

    def direction(self, weights: Tensors, gradients: Tensors, gradient_norm: Tensor) -> Tensor:
        """The gradients where the mask is 1, else 0."""
        due = self._step % self.interval == 0
        if due or self._step < TRIES:
            old = self.memory.values_or_ones(weights)
            masks = self.memory.begin(weights)
            chosen = self.choose(joined(gradients), joined(old))
            sizes = [t.numel() for t in locals_of(masks)]
            parts = [part.view_as(m) for part, m in zip(torch.split(chosen, sizes), locals_of(masks), strict=True)]
            if due:
                copy_(locals_of(masks), parts)
            else:
                self.memory.fill_(weights, parts)
        else:
            masks = self.memory.values_or_ones(weights)
        multiply_(gradients, masks)
        return reciprocal(gradient_norm)

    def choose(self, gradients: Tensor, mask: Tensor) -> Tensor:
        """The new mask, from g_0 and the mask until now, all of them flat."""
        raise NotImplementedError

    def kept(self, size: int) -> int:
        """How many of `size` weights are perturbed."""
        return size - math.ceil(size * self.sparsity)


def joined(tensors: Tensors) -> Tensor:
    """All entries in one vector."""
    return torch.cat([t.reshape(-1) for t in locals_of(tensors)])


def ones_at(like: Tensor, indices: Tensor) -> Tensor:
    """1 at the indices, 0 elsewhere."""
    return torch.zeros_like(like).index_fill_(0, indices, 1.0)
