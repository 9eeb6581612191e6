"""A step under way: what must be known to come back from the perturbed weights."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(frozen=True)
class Slopes:
    """The gradients of one pass at the weights.

    Attributes:
        moves: which weights are perturbed along them.
        whole: the norm of all of them (0-dim).
        climbed: of those that are climbed along.
    """

    moves: list[bool]
    whole: Tensor
    climbed: Tensor


@dataclass
class Flight:
    """What a step has seen between its first pass and its end.

    Attributes:
        params: all trainable weights.
        weights: their unperturbed values.
        seen: losses and norms (0-dim), all finite if and only if all passes so far were.
        loss: the first training loss; None where only gradients are known.
        rho: the radius of the step.
        gradient_norm: ||g_0|| (0-dim).
        finite: whether all passes were finite (0-dim bool), known from the descent on.
        climbed: whether the weights are perturbed at all.
        slopes: of the first pass.
        ascent_gradients: g_0 by weight, for perturbations that descend with it.
        eps_hat: by weight, the sum of the ascents so far, for perturbations that have several.
        versions: of the weights, as torch counts their changes, where the loop has the second pass in its hands.
    """

    params: list[Tensor]
    weights: list[Tensor]
    seen: list[Tensor]
    loss: Tensor | None
    rho: Tensor
    gradient_norm: Tensor
    climbed: bool
    slopes: Slopes
    finite: Tensor = field(init=False)
    ascent_gradients: dict[Tensor, Tensor] = field(default_factory=dict[Tensor, Tensor])
    eps_hat: dict[Tensor, Tensor] = field(default_factory=dict[Tensor, Tensor])
    versions: list[int] = field(default_factory=list[int])

    @property
    def overwritten(self) -> bool:
        """Whether somebody has given the perturbed weights other values: a checkpoint was loaded."""
        return bool(self.versions) and [param._version for param in self.params] != self.versions

    def held_ascent_gradients(self) -> list[Tensor] | None:
        """g_0 of every weight that has a gradient now, 0 where it had none then."""
        if not self.ascent_gradients:
            return None
        present = [(p, p.grad) for p in self.params if p.grad is not None]
        return [self.ascent_gradients.get(p, torch.zeros_like(g)) for p, g in present]
