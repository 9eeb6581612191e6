"""The record of a step: what it has measured between its first pass and its end, and what it needs to come back."""

from __future__ import annotations

from dataclasses import dataclass, field

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
    """One step, from its first pass to its end.

    Attributes:
        step: steps taken before this one.
        lr: base learning rate of the first param group.
        peak_lr: largest base learning rate so far.
        wants: what the radius needs to be measured.
        climbs: whether the weights are perturbed at all.
        tangent: builds Z in this step; None where nobody will use it.
        params: all trainable weights.
        weights: their unperturbed values.
        seen: losses and norms (0-dim), all finite if and only if all passes so far were.
        loss: first training loss; None where only gradients are known.
        norms: gradient norms of the first pass.
        rho: radius of the step, or one for each weight.
        gradient_norm: ||g_0|| (0-dim).
        finite: whether all passes were finite (0-dim bool), known from the descent on.
        reach: how far the perturbation reaches for each unit of rho (0-dim), where the radius wants to know.
        moved: whether the perturbation moved the weights (0-dim bool), where the radius or the tangent wants to know.
        norm_before: ||g_0|| over all weights (0-dim), where the growth of the norm along the ascent is measured.
        growth: ||g_rho|| - ||g_0|| (0-dim), where it is measured.
        ascent_gradients: g_0 by weight, for perturbations that descend with it.
        eps_hat: by weight, the sum of the ascents so far, for perturbations that have several.
        versions: of the weights, as torch counts their changes, where the loop makes the second pass itself.
    """

    step: int
    lr: float | Tensor
    peak_lr: float | Tensor
    wants: Wants
    climbs: bool
    tangent: Tangent | None
    params: list[Tensor]
    seen: list[Tensor] = field(default_factory=list[Tensor])
    loss: Tensor | None = None
    norms: GradientNorms = field(init=False)
    weights: list[Tensor] = field(default_factory=list[Tensor])
    rho: Tensor = field(init=False)
    gradient_norm: Tensor = field(init=False)
    finite: Tensor = field(init=False)
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
        """Whether somebody has given the perturbed weights other values: a checkpoint was loaded."""
        return bool(self.versions) and [param._version for param in self.params] != self.versions

    def restore(self) -> None:
        """Put the unperturbed weights back, bit for bit: by the copy, not by the gradients."""
        copy_(self.params, self.weights)

    def held_ascent_gradients(self) -> list[Tensor] | None:
        """g_0 of every weight that has a gradient now, 0 where it had none then; None if it is not kept."""
        if not self.ascent_gradients:
            return None
        present = [(p, p.grad) for p in self.params if p.grad is not None]
        return [self.ascent_gradients[p] if p in self.ascent_gradients else torch.zeros_like(g) for p, g in present]
