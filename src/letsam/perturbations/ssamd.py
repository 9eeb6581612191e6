"""SSAM-D: dynamic sparse SAM; the mask drops weights with small gradients and adds random ones.

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
    """eps_hat = m * g / ||g||; the mask m drops its weights with the smallest gradients and adds random ones.

    The first mask is random. Each later mask drops the fraction d of its weights with the smallest |g_0| and adds the
    same number of other weights at random. d is `drop`, or decays from `drop` to 0 by half a cosine if `steps` is
    given. The random numbers depend only on `seed` and the step number, so they are the same in every process.

    Args:
        sparsity: fraction of the weights that are not perturbed, from 0 (SAM) to below 1.
        interval: >= 1, in steps, from one mask to the next; 5 epochs by default in the authors' code.
        drop: fraction of the mask that is replaced, from 0 to below 1; 0.5 in the authors' code.
        steps: >= 1, length of the run; None: `drop` is constant.
        seed: >= 0.

    Raises:
        ValueError: an argument out of range.
        TypeError: an argument of the wrong type.

    Example:
        >>> import torch
        >>> weight, g = torch.zeros(4), torch.ones(4)
        >>> (SSAMDPerturbation(sparsity=0.5).direction([weight], [g], g.norm()) * g).sum()
        tensor(1.)

    Reference:
        Mi et al., arXiv:2210.05177.
    """

    facts = Facts("SSAM-D: perturb a subset of the weights, partly renewed at random", "arXiv:2210.05177", copies=3)

    def __init__(
        self, sparsity: float = 0.5, interval: int = 100, drop: float = 0.5, steps: int | None = None, seed: int = 0
    ) -> None:
        super().__init__(sparsity, interval)
        self.drop = checks.share("drop", drop)
        self.steps = steps if steps is None else checks.whole("steps", steps, 1)
        self.seed = checks.whole("seed", seed, 0)

    def choose(self, gradients: Tensor, mask: Tensor) -> Tensor:
        """Keep the weights of the old mask with the largest gradients, and add random ones from outside it."""
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
        # Without a previous mask, `mask` is all ones: all weights except the held ones then score 0.
        others = ((scores + FLOOR) * (1 - mask)).index_fill_(0, held, -1.0)
        fresh = others.topk(grown).indices
        return ones_at(gradients, torch.cat([held, fresh]))
