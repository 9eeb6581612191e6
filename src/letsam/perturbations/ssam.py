"""SSAM, Sparse SAM: perturb a part of the weights only, chosen by a mask that is renewed now and then.

Mi, Shen, Ren, Zhou, Sun, Ji, Tao, "Make Sharpness-Aware Minimization Stronger: A Sparsified Perturbation Approach",
NeurIPS 2022, arXiv:2210.05177.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.optim import Optimizer

from .. import _checks
from .._shards import locals_of
from .._tensors import Tensors, copy_, multiply_
from .base import Facts
from .memory import Remembering
from .sam import SteepestAscent, reciprocal

FLOOR = 1e-7  # keeps what the mask has apart from what it has not where a score is 0
TRIES = 17  # steps: as many as a GradScaler may need to come down from its 2^16 to 1


class SparseAscent(Remembering, SteepestAscent):
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
        self.sparsity = _checks.share("sparsity", sparsity)
        self.interval = _checks.whole("interval", interval, 1)
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


class FisherAscent(SparseAscent):
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
        >>> FisherAscent(sparsity=0.75).direction([weight], [g], g.norm()) * g
        tensor([ 0.0000,  0.0000, -0.8000,  0.0000])

    Reference:
        Mi et al., arXiv:2210.05177.
    """

    facts = Facts("SSAM-F: perturb the weights with most Fisher information", "arXiv:2210.05177", copies=3)

    def __init__(self, sparsity: float = 0.5, interval: int = 100) -> None:
        super().__init__(sparsity, interval)

    def choose(self, gradients: Tensor, mask: Tensor) -> Tensor:
        """The largest squares."""
        return _ones_at(gradients, gradients.square().topk(self.kept(gradients.numel())).indices)


class DynamicAscent(SparseAscent):
    """eps_hat = m * g / ||g||; the mask drops where the gradient is smallest and grows again at random.

    The first mask is random. Each later one drops, of the mask before, a share d with the smallest |g_0|, and takes as
    many others at random. d falls from `drop` to 0 by half a cosine where `steps` is given. The random
    numbers are a function of `seed` and the step alone, the same in every process.

    Args:
        sparsity: the share of weights that is not perturbed, from 0 (SAM) to below 1.
        interval: >= 1, in steps: how often the mask is renewed; 5 epochs by default in the authors' code.
        drop: from 0 to below 1: the share of the mask that is renewed; 0.5 in the authors' code.
        steps: >= 1, length of the run; None: `drop` stays as it is.
        seed: >= 0.

    Raises:
        ValueError: an argument out of range.
        TypeError: a whole number is none.

    Example:
        >>> import torch
        >>> weight, g = torch.zeros(4), torch.ones(4)
        >>> (DynamicAscent(sparsity=0.5).direction([weight], [g], g.norm()) * g).sum()
        tensor(1.)

    Reference:
        Mi et al., arXiv:2210.05177.
    """

    facts = Facts("SSAM-D: perturb weights that change, at random and by the gradient", "arXiv:2210.05177", copies=3)

    def __init__(
        self, sparsity: float = 0.5, interval: int = 100, drop: float = 0.5, steps: int | None = None, seed: int = 0
    ) -> None:
        super().__init__(sparsity, interval)
        self.drop = _checks.share("drop", drop)
        self.steps = steps if steps is None else _checks.whole("steps", steps, 1)
        self.seed = _checks.whole("seed", seed, 0)

    def choose(self, gradients: Tensor, mask: Tensor) -> Tensor:
        """Keep the largest of the old mask, and fill up at random from outside."""
        size = gradients.numel()
        live = self.kept(size)
        random = torch.Generator(gradients.device).manual_seed(self.seed + self._step)
        scores = torch.rand(size, generator=random, device=gradients.device)
        if self._step < self.interval:
            return _ones_at(gradients, scores.topk(live).indices)
        share = self.drop
        if self.steps is not None:
            share *= 0.5 * (1 + math.cos(math.pi * min(self._step / self.steps, 1.0)))
        grown = min(int(live * share), size - live)
        held = ((gradients.abs() + FLOOR) * mask).topk(live - grown).indices
        others = ((scores + FLOOR) * (1 - mask)).index_fill_(0, held, -1.0)  # of no mask yet, held is a part alone
        fresh = others.topk(grown).indices
        return _ones_at(gradients, torch.cat([held, fresh]))


def joined(tensors: Tensors) -> Tensor:
    """All entries in one vector."""
    return torch.cat([t.reshape(-1) for t in locals_of(tensors)])


def _ones_at(like: Tensor, indices: Tensor) -> Tensor:
    return torch.zeros_like(like).index_fill_(0, indices, 1.0)
