"""A radius from a loss budget: the ascent increases the loss by a given amount, to first order."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from .. import checks
from .base import Ascent, Radius, Wants


class LossBudgetRadius(Radius):
    """rho_t = min(sigma_t / ||g_t||, maximum): SAM's ascent then increases the linearized loss by sigma_t.

    sigma_t is `budget`. With `steps`, it is annealed to 0 by half a cosine over the last fraction `annealed` of the run
    (the paper also anneals at the end; the default fraction is ours). With `relative`, it is relative to the loss of
    the batch. The norm is that of the plain gradient, also with ASAM.

    Args:
        budget: sigma, > 0, in units of the loss; with `relative`, relative to the loss.
        maximum: largest radius, > 0, which is used as the gradient vanishes.
        relative: sigma_t = budget * loss; needs `step(closure)`, since `ascent_step()` does not know the loss. A
            constant added to the loss then changes the radius, which is 0 for a negative loss.
        steps: length of the run in optimizer steps, >= 1; None: no annealing.
        annealed: fraction of the run in which sigma decreases to 0, above 0 to 1; used only with `steps`.

    Raises:
        ValueError: an argument out of range, or `relative` without a loss.
        TypeError: an argument of the wrong type.

    Example:
        >>> budget = LossBudgetRadius(0.1, steps=100)
        >>> [budget.budget_at(step) for step in (0, 75, 100)]
        [0.1, 0.1, 0.0]

    Reference:
        LE-SAM: Wang, Liu, Xie, Gao, "Fix the Loss, Not the Radius: Rethinking the Adversarial Perturbation of
        Sharpness-Aware Minimization", ICML 2026, arXiv:2605.10183.
    """

    def __init__(
        self,
        budget: float,
        *,
        maximum: float = 1.0,
        relative: bool = False,
        steps: int | None = None,
        annealed: float = 0.25,
    ) -> None:
        self.budget = checks.positive("budget", budget)
        self.maximum = checks.positive("maximum", maximum)
        self.relative = checks.flag("relative", relative)
        self.steps = None if steps is None else checks.whole("steps", steps, 1)
        self.annealed = checks.positive("annealed", annealed)
        if self.annealed > 1:
            raise ValueError(f"`annealed` must be above 0 and at most 1, got {self.annealed}")
        super().__init__(self.maximum)
        self._before: Tensor = self.rho

    def to(self, device: torch.device, dtype: torch.dtype) -> None:
        """Move the radius to the device and dtype of the weights."""
        super().to(device, dtype)
        self._before = self.rho

    def budget_at(self, step: int) -> float:
        """Sigma at step `step` (from 0), before `relative` is applied."""
        if self.steps is None:
            return self.budget
        left = 1.0 - min(step / self.steps, 1.0)
        share = min(left / self.annealed, 1.0)
        return self.budget * 0.5 * (1.0 - math.cos(math.pi * share))

    def wants(self, step: int) -> Wants:
        """The gradient norm, and the loss if the budget is relative to it; nothing once the budget is 0."""
        return Wants(climbs=self.budget_at(step) > 0)

    def at(self, ascent: Ascent) -> Tensor:
        """The radius of this step; the previous one if the gradient norm or the loss is not finite."""
        budget: float | Tensor = self.budget_at(ascent.step)
        if self.relative:
            if ascent.loss is None:
                raise ValueError("`relative` must be False for ascent_step(), which sees no loss; got True")
            budget = budget * ascent.loss.detach().to(self.rho).clamp(min=0.0)
        length = ascent.gradient_norm.detach().to(self.rho)
        rho = (budget / length.clamp(min=torch.finfo(length.dtype).tiny)).clamp(max=self.maximum)
        self._before = self.rho
        self.rho: Tensor = torch.where(rho.isfinite() & length.isfinite(), rho, self.rho)
        return self.rho

    def commit(self, finite: Tensor) -> None:
        """Keep the radius if the step was finite, else restore the previous one."""
        self.rho = self._before = torch.where(finite, self.rho, self._before)

    def discard(self) -> None:
        """Restore the radius from before the step."""
        self.rho = self._before

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state that `state_dict` returned."""
        checks.saved("rho", state["rho"])
        super().load_state_dict(state)
        self._before = self.rho
