"""The variants by hand: one row each, over flat float64 vectors. No letsam here.

A row says what the papers' equations say: from the gradient g_0 at theta the direction eps_hat (None where the step
does not climb), and from the gradient g_rho at theta + rho eps_hat the gradient that the base optimizer descends with.
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from . import maths
from .problems import Batch, flat, loss_on, network, normalised_network

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


# --- steps made of a row ------------------------------------------------------------------------------------------


def momentum_of(model: nn.Module, base: torch.optim.Optimizer) -> Tensor:
    """The base optimizer's momentum as one vector, 0 where it has none yet."""
    parts = []
    for p in model.parameters():
        state = base.state.get(p, {})
        value = state.get("momentum_buffer", state.get("exp_avg"))
        parts.append(torch.zeros_like(p) if value is None else value)
    return flat(parts)


def pieces(data: Batch, parts: int) -> list[tuple[float, Batch]]:
    """Sub-batches of unequal sizes, and their shares."""
    if parts == 1:
        return [(1.0, data)]
    count = len(data[1])
    cuts = [count * i * (i + 1) // (parts * (parts + 1)) for i in range(parts + 1)]
    return [((b - a) / count, (data[0][a:b], data[1][a:b])) for a, b in itertools.pairwise(cuts)]


def perturbed_gradient(model: nn.Module, theta: Tensor, rho: float, directions: list[Tensor], data: Batch) -> Tensor:
    """The gradient where each sub-batch has climbed along its own direction."""
    shares = pieces(data, len(directions))
    return sum(
        (w * maths.gradient(model, theta + rho * d, piece) for d, (w, piece) in zip(directions, shares, strict=True)),
        torch.zeros_like(theta),
    )


class ByHand:
    """A variant on a model and a base optimizer of its own, one batch after the other."""

    def __init__(self, name: str, state: maths.State) -> None:
        self.row, self.state, self.t = ROWS[name](), state, 0

    def begin(self, data: Batch, rho: float) -> Step:
        model = self.state.model
        sizes = [p.numel() for p in model.parameters()]
        theta = self.state.theta

        def look(at: Tensor) -> Tensor:
            return maths.gradient(model, at, data)

        return Step(self.t, theta, look(theta), look, rho, momentum_of(model, self.state.base), sizes)

    def directions(self, row: Row, s: Step, data: Batch, rho: float) -> list[Tensor] | None:
        """One for each sub-batch; None where the step does not climb."""
        steps = [s] if row.parts == 1 else [self.begin(piece, rho) for _, piece in pieces(data, row.parts)]
        found = [row.direction(step) for step in steps]
        return None if any(d is None for d in found) else found

    def step(self, data: Batch, rho: float) -> None:
        s = self.begin(data, rho)
        directions = self.directions(self.row, s, data, rho)
        g = s.g if directions is None else perturbed_gradient(self.state.model, s.theta, rho, directions, data)
        gradient, beside = self.row.descent(self.t, g, s.g)
        write(self.state, move(self.state, gradient, beside), gradient)
        self.t += 1

    def one_step(self, data: Batch, rho: float, validation: Batch) -> VariantStep | None:
        """The next step as a function of rho, eps_hat held fixed; None where it does not climb."""
        s = self.begin(data, rho)
        directions = self.directions(copy.deepcopy(self.row), s, data, rho)
        if directions is None:
            return None
        return VariantStep(
            self.state.copy(),
            directions[0],
            data,
            "validation_loss",
            data,
            validation,
            _with_memory(self.row, s),
            self.t,
            s.g,
            directions,
        )


def _with_memory(row: Row, s: Step) -> Row:
    twin = copy.deepcopy(row)
    twin.direction(s)
    return twin


def move(state: maths.State, gradient: Tensor, beside: Tensor) -> Tensor:
    """theta' = base(theta, gradient) - lr beside."""
    return maths.base_step(state, gradient) - state.base.param_groups[0]["lr"] * beside


def write(state: maths.State, after: Tensor, gradient: Tensor) -> None:
    """Step the base optimizer in earnest, and put the weights where they belong."""
    position = 0
    for p in state.model.parameters():
        p.grad = gradient[position : position + p.numel()].view_as(p).clone()
        position += p.numel()
    state.base.step()
    nn.utils.vector_to_parameters(after, state.model.parameters())


@dataclass
class VariantStep(maths.OneStep):
    """`OneStep` with a row's own descent."""

    row: Row
    t: int
    g0: Tensor
    directions: list[Tensor]

    def descended(self, rho: float) -> tuple[Tensor, Tensor]:
        """What is descended with, as a function of rho."""
        g = perturbed_gradient(self.start.model, self.start.theta, rho, self.directions, self.batch)
        return copy.deepcopy(self.row).descent(self.t, g, self.g0)

    def objective_after(self, gradient: Tensor, beside: Tensor) -> float:
        after = move(self.start, gradient, beside)
        return maths.upper(self.objective, self.start.model, after, self.training, self.validation).item()

    def true_objective(self, rho: float) -> float:
        return self.objective_after(*self.descended(rho))

    def projected(self, rho: float, h: float = 4e-4) -> float:
        """dU / ds of a step with u + s du, u = gradient + beside, du = du/drho less its part along u."""

        def change(h: float) -> Tensor:
            plus, minus = self.descended(rho + h), self.descended(rho - h)
            return torch.stack([(a - b) / (2 * h) for a, b in zip(plus, minus, strict=True)])

        d1, d2, d4 = change(h), change(2 * h), change(4 * h)
        a, b = (4 * d1 - d2) / 3, (4 * d2 - d4) / 3
        du = (16 * a - b) / 15
        gradient, beside = self.descended(rho)
        u = gradient + beside
        share = (u @ du.sum(0)) / (u @ u)
        slopes = []
        for k in (1, 2, 4):
            values = [
                self.objective_after(
                    gradient + sign * k * h * (du[0] - share * gradient),
                    beside + sign * k * h * (du[1] - share * beside),
                )
                for sign in (1, -1)
            ]
            slopes.append((values[0] - values[1]) / (2 * k * h))
        a, b = (4 * slopes[0] - slopes[1]) / 3, (4 * slopes[1] - slopes[2]) / 3
        return (16 * a - b) / 15


class InParts:
    """A training closure, in parts where there are several; `log` has an entry for each pass, `after` ends it."""

    def __init__(
        self,
        model: nn.Module,
        data: Batch,
        parts: int,
        log: list[str] | None = None,
        after: Callable[[], None] = lambda: None,
    ) -> None:
        self.model, self.log, self.after = model, log if log is not None else [], after
        self.pieces = pieces(data, parts)
        if parts > 1:
            self.parts = [lambda piece=piece: self.run([piece]) for piece in self.pieces]

    def __call__(self) -> Tensor:
        return self.run(self.pieces)

    def run(self, chosen: list[tuple[float, Batch]]) -> Tensor:
        self.model.zero_grad()
        losses = []
        for share, piece in chosen:
            self.log.append("training")
            losses.append(share * loss_on(self.model, piece))
            losses[-1].backward()
            self.after()
        return torch.stack(losses).sum().detach()
