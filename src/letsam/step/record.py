"""The step record: what a step has measured so far, and what it needs to restore the weights."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..radius import Wants
from ..tangent import Tangent
from ..tensors import copy_


@dataclass(frozen=True)
class GradientNorms:
    """The gradient norms of one pass at the weights.

    Attributes:
        moves: which weights are perturbed along their gradients.
        whole: norm of all gradients (0-dim).
        climbed: norm of the gradients that are climbed along (0-dim).
    """

    moves: list[bool]
    whole: Tensor
    climbed: Tensor


@dataclass
class StepRecord:
    """The data of one step, from its first pass to its end.

    Attributes:
        step: active steps before this one.
        lr: base learning rate of the first param group.
        peak_lr: largest base learning rate so far.
        wants: what the radius needs to be measured.
        climbs: whether this step perturbs the weights.
        tangent: builds Z in this step; None if no update will use it.
        params: all trainable weights.
        active: whether the radius takes part in the step; if not, it rests, and the base optimizer steps alone.
        turn: active steps with a radius above 0 before this one.
        weights: their unperturbed values.
        seen: losses and norms of the training passes (0-dim), all finite if and only if all passes so far were.
        first: how many of them are of the pass at the weights; they come first.
        perturbed: the losses at the perturbed weights.
        loss: first training loss; None if only gradients are known.
        outputs: what else the first training pass returned (a list, if micro-batches climb separately); None: nothing.
        norms: gradient norms of the first pass.
        rho: radius of the step (0-dim), or one value for each weight.
        gradient_norm: ||g_0|| (0-dim).
        finite: whether all training passes were finite (0-dim bool), known from the descent on.
        finite_at_weights: the same of the pass at the weights alone; None if the step builds no Z.
        held_out: whether the validation pass was finite (0-dim bool); None without one.
        reach: how far the perturbation reaches per unit of rho (0-dim); None if not measured.
        moved: whether the perturbation moved the weights (0-dim bool); None if not measured.
        norm_before: ||g_0|| over all weights (0-dim), if the growth of the norm is measured; else None.
        growth: ||g_rho|| - ||g_0|| (0-dim); None if not measured.
        ascent_gradients: g_0 by weight, for perturbations that descend with it.
        eps_hat: by weight, the sum of the ascents so far, for perturbations with several ascents.
        versions: torch's version counters of the perturbed weights, if the loop makes the second pass itself.
    """

    step: int
    lr: float | Tensor
    peak_lr: float | Tensor
    wants: Wants
    climbs: bool
    tangent: Tangent | None
    params: list[Tensor]
    active: bool = True
    turn: int = 0
    seen: list[Tensor] = field(default_factory=list[Tensor])
    first: int = 0
    perturbed: list[Tensor] = field(default_factory=list[Tensor])
    loss: Tensor | None = None
    outputs: Any = None
    norms: GradientNorms = field(init=False)
    weights: list[Tensor] = field(default_factory=list[Tensor])
    rho: Tensor = field(init=False)
    gradient_norm: Tensor = field(init=False)
    finite: Tensor = field(init=False)
    finite_at_weights: Tensor | None = None
    held_out: Tensor | None = None
    reach: Tensor | None = None
    moved: Tensor | None = None
    norm_before: Tensor | None = None
    growth: Tensor | None = None
    ascent_gradients: dict[Tensor, Tensor] = field(default_factory=dict[Tensor, Tensor])
    eps_hat: dict[Tensor, Tensor] = field(default_factory=dict[Tensor, Tensor])
    versions: list[int] = field(default_factory=list[int])

    @property
    def measures_reach(self) -> bool:
        """Whether the reach of the perturbation is measured."""
        return self.climbs and (self.wants.reach or self.norm_before is not None)

    @property
    def overwritten(self) -> bool:
        """Whether the perturbed weights have been changed from outside, for example by loading a checkpoint."""
        return bool(self.versions) and [param._version for param in self.params] != self.versions

    def restore(self) -> None:
        """Restore the unperturbed weights from their copy, bit for bit."""
        copy_(self.params, self.weights)

    def held_ascent_gradients(self) -> list[Tensor] | None:
        """g_0 of every weight that has a gradient now (0 if it had none at theta); None if g_0 is not kept."""
        if not self.ascent_gradients:
            return None
        present = [(p, p.grad) for p in self.params if p.grad is not None]
        return [self.ascent_gradients[p] if p in self.ascent_gradients else torch.zeros_like(g) for p, g in present]
