"""SSAM-D: the mask changes, dropping weights with small gradients and growing at random.

Mi, Shen, Ren, Zhou, Sun, Ji, Tao, "Make Sharpness-Aware Minimization Stronger: A Sparsified Perturbation Approach",
NeurIPS 2022, arXiv:2210.05177.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .. import checks
from .base import Facts
from .ssam import FLOOR, SSAMPerturbation, ones_at


class SSAMDPerturbation(SSAMPerturbation):
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
        >>> (SSAMDPerturbation(sparsity=0.5).direction([weight], [g], g.norm()) * g).sum()
        tensor(1.)

    Reference:
        Mi et al., arXiv:2210.05177.
    """

    facts = Facts("SSAM-D: perturb weights that change, at random and by the gradient", "arXiv:2210.05177", copies=3)

    def __init__(
        self, sparsity: float = 0.5, interval: int = 100, drop: float = 0.5, steps: int | None = None, seed: int = 0
    ) -> None:
        super().__init__(sparsity, interval)
        self.drop = checks.share("drop", drop)
        self.steps = steps if steps is None else checks.whole("steps", steps, 1)
        self.seed = checks.whole("seed", seed, 0)

    def choose(self, gradients: Tensor, mask: Tensor) -> Tensor:
        """Keep the largest of the old mask, and fill up at random from outside."""
        size = gradients.numel()
        live = self.kept(size)
        random = torch.Generator(gradients.device).manual_seed(self.seed + self._step)
        scores = torch.rand(size, generator=random, device=gradients.device)
        if self._step < self.interval:
            return ones_at(gradients, scores.topk(live).indices)
        share = self.drop
        if self.steps is not None:
            share *= 0.5 * (1 + math.cos(math.pi * min(self._step / self.steps, 1.0)))
        grown = min(int(live * share), size - live)
        held = ((gradients.abs() + FLOOR) * mask).topk(live - grown).indices
        others = ((scores + FLOOR) * (1 - mask)).index_fill_(0, held, -1.0)  # of no mask yet, held is a part alone
        fresh = others.topk(grown).indices
        return ones_at(gradients, torch.cat([held, fresh]))
