"""Steps made of a row of `oracle.variants`: a variant by hand, its hypergradient, and its training closure."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from . import maths
from .problems import Batch, flat, loss_on
from .variants import ROWS, Row, Step


def momentum_of(model: nn.Module, base: torch.optim.Optimizer) -> Tensor:
    """The base optimizer's momentum as one vector, 0 where it has none yet."""
    parts = []
    for p in model.parameters():
        state = base.state.get(p, {})
        value = state.get("momentum_buffer", state.get("exp_avg"))
        parts.append(torch.zeros_like(p) if value is None else value)
    return flat(parts)


def second_moment_of(model: nn.Module, base: torch.optim.Optimizer) -> Tensor | None:
    """The base optimizer's average of squared gradients as one vector; None where it has none."""
    states = [base.state.get(p, {}) for p in model.parameters()]
    parts = [state.get("exp_avg_sq", state.get("square_avg")) for state in states]
    return None if any(part is None for part in parts) else flat(parts)


def pieces(data: Batch, parts: int) -> list[tuple[float, Batch]]:
    """Sub-batches of unequal sizes, and their shares."""
    if parts == 1:
        return [(1.0, data)]
    count = len(data[1])
    cuts = [count * i * (i + 1) // (parts * (parts + 1)) for i in range(parts + 1)]
    return [((b - a) / count, (data[0][a:b], data[1][a:b])) for a, b in itertools.pairwise(cuts)]


def perturbed_gradient(
    row: Row, model: nn.Module, theta: Tensor, rho: float, directions: list[Tensor], data: Batch
) -> Tensor:
    """The gradient where each sub-batch has climbed along its own direction."""
    pairs = zip(directions, pieces(data, len(directions)), strict=True)
    found = [w * row.gradient(model, theta, theta + rho * d, piece) for d, (w, piece) in pairs]
    return sum(found, torch.zeros_like(theta))


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

        return Step(self.t, theta, look(theta), look, rho, *self._moments(), sizes)

    def _moments(self) -> tuple[Tensor, Tensor | None]:
        model, base = self.state.model, self.state.base
        return momentum_of(model, base), second_moment_of(model, base)

    def directions(self, row: Row, s: Step, data: Batch, rho: float) -> list[Tensor] | None:
        """One for each sub-batch; None where the step does not climb."""
        steps = [s] if row.parts == 1 else [self.begin(piece, rho) for _, piece in pieces(data, row.parts)]
        found = [row.direction(step) for step in steps]
        return None if any(d is None for d in found) else found

    def step(self, data: Batch, rho: float) -> None:
        s = self.begin(data, rho)
        directions = self.directions(self.row, s, data, rho)
        g = s.g
        if directions is not None:
            g = perturbed_gradient(self.row, self.state.model, s.theta, rho, directions, data)
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
        g = perturbed_gradient(self.row, self.start.model, self.start.theta, rho, self.directions, self.batch)
        return copy.deepcopy(self.row).descent(self.t, g, self.g0)

    def objective_after(self, gradient: Tensor, beside: Tensor) -> float:
        after = move(self.start, gradient, beside)
        return maths.upper(self.objective, self.start.model, after, self.training, self.validation).item()

    def true_objective(self, rho: float, around: float | None = None) -> float:
        assert self.objective != "calibrated_loss"  # which needs `around`
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
