"""SSAM, Sparse SAM: perturb a subset of the weights, given by a mask that is renewed at intervals.

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
from ..tensors.shards import from_all_parts, locals_of, part_of
from .memory import PerturbationWithMemory
from .sam import SAMPerturbation, reciprocal

FLOOR = 1e-7  # added to scores, so that a weight inside the mask with score 0 ranks above one outside
TRIES = 17  # steps that a GradScaler may skip while it halves its initial scale of 2^16 down to 1


class SSAMPerturbation(PerturbationWithMemory, SAMPerturbation):
    """eps_hat = m * g / ||g|| with a mask m of zeros and ones; subclasses choose the mask.

    As in the authors' code, ||g|| is the norm of the whole gradient, so ||eps|| <= rho. The mask is chosen over all
    weights together. With DTensors, every process gathers all gradients and masks for that, in steps that make a mask:
    two copies of the whole model. A new mask is used in the step that makes it. The authors' code uses it from the next
    step on, and its SSAM-F mask starts at 0, so that its first step is not perturbed.

    A mask made in a skipped step is dropped, and the previous mask is used until the next one is due. If there is no
    previous mask, the next step makes one. The host does not know which steps are skipped, so each of the first 17
    steps computes a mask. If all 17 are skipped, all weights are perturbed until a mask is due.

    Args:
        sparsity: fraction of the weights that are not perturbed, from 0 (SAM) to below 1.
        interval: >= 1, in steps, from one mask to the next; the first step makes the first mask.

    Raises:
        ValueError: an argument out of range.
        TypeError: an argument of the wrong type.
    """

    def __init__(self, sparsity: float, interval: int) -> None:
        super().__init__()
        self.sparsity = checks.share("sparsity", sparsity)
        self.interval = checks.whole("interval", interval, 1)
        self._step = 0

    def begin(self, step: int, base: Optimizer) -> None:
        """Store the step number, which decides if a mask is due."""
        self._step = step

    def direction(self, weights: Tensors, gradients: Tensors, gradient_norm: Tensor) -> Tensor:
        """Set the gradients to 0 where the mask is 0; returns 1 / ||g||."""
        due = self._step % self.interval == 0
        if due or self._step < TRIES:
            old = self.memory.values_or_ones(weights)
            masks = self.memory.begin(weights)
            chosen = self.choose(joined(gradients), joined(old))
            pieces = torch.split(chosen, [mask.numel() for mask in masks])
            parts = [part_of(piece.view(mask.shape), mask) for piece, mask in zip(pieces, masks, strict=True)]
            if due:
                copy_(locals_of(masks), parts)
            else:
                self.memory.fill_(weights, parts)
        else:
            masks = self.memory.values_or_ones(weights)
        multiply_(gradients, masks)
        return reciprocal(gradient_norm)

    def choose(self, gradients: Tensor, mask: Tensor) -> Tensor:
        """Choose a new mask.

        Args:
            gradients: g_0 of all weights, flattened and concatenated, shape `(n,)`.
            mask: the previous mask, shape `(n,)`.

        Returns:
            Zeros and ones, shape `(n,)`.
        """
        raise NotImplementedError

    def kept(self, size: int) -> int:
        """Number of weights, out of `size`, that are perturbed."""
        return size - math.ceil(size * self.sparsity)


def joined(tensors: Tensors) -> Tensor:
    """All entries in one vector, those of DTensors in other processes included."""
    return torch.cat([from_all_parts(t).reshape(-1) for t in tensors])


def ones_at(like: Tensor, indices: Tensor) -> Tensor:
    """A tensor shaped like `like` with 1 at the indices and 0 elsewhere."""
    return torch.zeros_like(like).index_fill_(0, indices, 1.0)
