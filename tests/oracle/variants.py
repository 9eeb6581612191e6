"""The variants by hand: one row each, over flat float64 vectors. No letsam here.

A row says what the papers' equations say: from the gradient g_0 at theta the direction eps_hat (None where the step
does not climb), and from the gradient g_rho at theta + rho eps_hat the gradient that the base optimizer descends with.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from . import maths
from .problems import Batch, network, normalised_network

Look = Callable[[Tensor], Tensor]


@dataclass
class Step:
    """What is known at the beginning of a step: its number, the weights, g_0, and the gradient anywhere else."""

    t: int
    theta: Tensor
    g: Tensor
    look: Look
    rho: float
    momentum: Tensor
    second_moment: Tensor | None
    sizes: list[int]


class Row:
    """SAM, arXiv:2010.01412, equation (2); the other rows change it."""

    options: ClassVar[dict[str, Any]] = {}
    make_model = staticmethod(network)
    needs_model = False
    needs_momentum = False
    two_calls = True  # whether a loop by hand can make its passes
    passes_tell = True  # whether a step that does not climb has fewer passes
    parts = 1  # sub-batches that climb along gradients of their own

    def passes(self, t: int) -> int:
        return 2

    def direction(self, s: Step) -> Tensor | None:
        return s.g / s.g.norm()

    def gradient(self, model: nn.Module, theta: Tensor, perturbed: Tensor, data: Batch) -> Tensor:
        """g_rho, from the weights and the perturbed weights."""
        return maths.gradient(model, perturbed, data)

    def descent(self, t: int, g: Tensor, g0: Tensor) -> tuple[Tensor, Tensor]:
        """The gradient for the base optimizer, and what descends beside it; g is g_0 on a step that does not climb."""
        return g, torch.zeros_like(g)


ROWS: dict[str, type[Row]] = {"SAM": Row}


def row(kind: type[Row]) -> type[Row]:
    ROWS[kind.__name__] = kind
    return kind


@row
class ASAM(Row):
    """arXiv:2102.11600, algorithm 1, T = diag(|theta|)."""

    def direction(self, s: Step) -> Tensor:
        return maths.asam_direction(s.theta, s.g)


@row
class GSAM(Row):
    """arXiv:2203.08065, algorithm 1."""

    def descent(self, t: int, g: Tensor, g0: Tensor) -> tuple[Tensor, Tensor]:
        orthogonal = g0 - g * (g0 @ g) / (g @ g)
        return g - 0.4 * orthogonal, torch.zeros_like(g)


@row
class WSAM(Row):
    """arXiv:2305.15817, gamma = 0.9."""

    def descent(self, t: int, g: Tensor, g0: Tensor) -> tuple[Tensor, Tensor]:
        return g0, 9 * (g - g0)


@row
class LookSAM(Row):
    """arXiv:2203.02714, algorithm 1, k = 3 and alpha = 0.7."""

    options: ClassVar[dict[str, Any]] = {"k": 3}

    def passes(self, t: int) -> int:
        return 1 if t % 3 else 2

    def direction(self, s: Step) -> Tensor | None:
        return None if s.t % 3 else s.g / s.g.norm()

    def descent(self, t: int, g: Tensor, g0: Tensor) -> tuple[Tensor, Tensor]:
        if t % 3:
            return g + 0.7 * g.norm() / self.g_v.norm() * self.g_v, torch.zeros_like(g)
        self.g_v = g - g.norm() * (g @ g0) / (g.norm() * g0.norm()) * g0 / g0.norm()
        return g, torch.zeros_like(g)


@row
class FSAM(Row):
    """arXiv:2403.12350 in the order of the authors' code: sigma = 1, lambda = 0.9."""

    m: Tensor | None = None

    def direction(self, s: Step) -> Tensor:
        d = s.g if self.m is None else s.g - self.m
        self.m = s.g if self.m is None else 0.9 * self.m + 0.1 * s.g
        return d / d.norm()


@row
class VaSSO(Row):
    """arXiv:2309.15639, theta = 0.4."""

    options: ClassVar[dict[str, Any]] = {"theta": 0.4}
    d: Tensor | None = None

    def direction(self, s: Step) -> Tensor:
        self.d = s.g if self.d is None else 0.6 * self.d + 0.4 * s.g
        return self.d / self.d.norm()


@row
class MSAM(Row):
    """arXiv:2401.12033, algorithm 1: w - rho v / ||v||."""

    needs_momentum = True

    def passes(self, t: int) -> int:
        return 1

    def direction(self, s: Step) -> Tensor:
        return -s.momentum / s.momentum.norm()


@row
class PreconditionedSAM(Row):
    """arXiv:2502.02407, section 4, with a damping relative to the gradients; SAM without a second moment."""

    def direction(self, s: Step) -> Tensor:
        if s.second_moment is None:
            return s.g / s.g.norm()
        root = s.second_moment.sqrt()
        d = s.g / (root + 0.1 * s.second_moment.mean().sqrt() + 1e-12)
        return d / d.norm()


@row
class FunctionalSAM(Row):
    """arXiv:2502.02407, section 3: the gradient of c . outputs, c = d loss / d outputs at theta."""

    two_calls = False

    def gradient(self, model: nn.Module, theta: Tensor, perturbed: Tensor, data: Batch) -> Tensor:
        return maths.functional_gradient(model, theta, perturbed, data)


class Masked(Row):
    """arXiv:2210.05177: eps = rho g / ||g|| * m, a new m every second step; sparsity 0.4."""

    options: ClassVar[dict[str, Any]] = {"sparsity": 0.4, "interval": 2}
    m: Tensor | None = None

    def direction(self, s: Step) -> Tensor:
        if s.t % 2 == 0:
            self.m = self.mask(s)
        return self.m * s.g / s.g.norm()

    def mask(self, s: Step) -> Tensor:
        raise NotImplementedError


def largest(scores: Tensor, count: int) -> Tensor:
    return (scores >= scores.sort(descending=True).values[count - 1]).to(scores) if count else torch.zeros_like(scores)


@row
class SSAMF(Masked):
    """The largest squares."""

    def mask(self, s: Step) -> Tensor:
        return largest(s.g**2, s.g.numel() - math.ceil(0.4 * s.g.numel()))


@row
class SSAMD(Masked):
    """The smaller half of the mask is dropped, as much grows at random elsewhere."""

    def mask(self, s: Step) -> Tensor:
        live = s.g.numel() - math.ceil(0.4 * s.g.numel())
        random = torch.rand(s.g.numel(), generator=torch.Generator().manual_seed(s.t)).double()
        if self.m is None:
            return largest(random, live)
        grown = min(live // 2, s.g.numel() - live)
        inside, outside = self.m == 1, self.m == 0
        kept = largest(torch.where(inside, s.g.abs(), -1.0), live - grown)
        return kept + largest(torch.where(outside, random, -1.0), grown)


@row
class MultiStepSAM(Row):
    """arXiv:2010.01412, appendix C.6, with parts of rho / k; k = 3."""

    options: ClassVar[dict[str, Any]] = {"k": 3}
    two_calls = False

    def passes(self, t: int) -> int:
        return 4

    def direction(self, s: Step) -> Tensor:
        at = s.theta
        for _ in range(3):
            g = s.look(at)
            at = at + s.rho / 3 * g / g.norm()
        return (at - s.theta) / s.rho


@row
class AESAM(Row):
    """arXiv:2304.14647: delta = 0.2, c from 1 to -0.5; mu, sigma begin at 0. Both passes always run."""

    options: ClassVar[dict[str, Any]] = {"steps": 8, "lowest": -0.5, "decay": 0.2}
    passes_tell = False
    mean = variance = 0.0

    def direction(self, s: Step) -> Tensor | None:
        square = s.g.square().sum().item()
        self.mean = 0.2 * self.mean + 0.8 * square
        self.variance = 0.2 * self.variance + 0.8 * (square - self.mean) ** 2
        c = s.t / 8 * -0.5 + (1 - s.t / 8) * 1
        return s.g / s.g.norm() if square >= self.mean + c * self.variance**0.5 else None


@row
class SAMON(Row):
    """arXiv:2306.04226: entries of normalisation layers alone."""

    make_model = staticmethod(normalised_network)
    needs_model = True

    def direction(self, s: Step) -> Tensor:
        mask = torch.zeros_like(s.g)
        mask[sum(s.sizes[:2]) : sum(s.sizes[:4])] = 1  # linear, LayerNorm, linear, each with a weight and a bias
        return mask * s.g / (mask * s.g).norm()


@row
class ESAM(Row):
    """arXiv:2110.03141: entries with probability beta = 0.6, made up for by 1 / beta."""

    def direction(self, s: Step) -> Tensor:
        random = torch.Generator().manual_seed(s.t)
        mask = torch.cat([torch.rand(size, generator=random) for size in s.sizes]) < 0.6
        return mask * s.g / s.g.norm() / 0.6


@row
class SubBatchSAM(Row):
    """arXiv:2010.01412, section 4.1: SAM's equation (2) in each of three sub-batches."""

    parts = 3

    def passes(self, t: int) -> int:
        return 6
