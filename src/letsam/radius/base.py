"""What a radius is: how far to climb at this step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from ..perturbations.units import Reach, in_units
from ..tensors import Average, Buffers, Tensors

Evaluate = Callable[[], Tensor]
Derivative = Callable[[Tensors], "Tensors | None"]


@dataclass(frozen=True)
class Ascent:
    """What is known when a step asks for its radius.

    Attributes:
        step: steps taken before this one.
        lr: the base learning rate of the first param group, now.
        peak_lr: the largest base learning rate so far (or the scheduler's initial one).
        loss: the training loss at the weights (0-dim); None in `ascent_step()`, which sees only gradients.
        gradient_norm: ||g_0|| over all weights that are perturbed (0-dim).
        params: all trainable weights, unperturbed; `param.grad` is g_0 or None. Not to be changed.
        average: for m-sharpness, replaces tensors in place by their means over the processes, each of which has its own
            g_0; None where all have the same.
        scratch: memory in the shapes of the weights that nobody needs at this moment.
        parts: how many directions this step climbs in, one after the other: micro-batches that climb apart.
        whole_norm: ||g_0|| over all weights (0-dim), where it is known.
    """

    step: int
    lr: float | Tensor
    peak_lr: float | Tensor
    loss: Tensor | None
    gradient_norm: Tensor
    params: Tensors
    average: Average | None = None
    scratch: Buffers | None = None
    parts: int = 1
    whole_norm: Tensor | None = None


class Radius:
    """How far to climb: rho, a 0-dim tensor on the device of the weights, or one value for each group or layer.

    A radius of one's own overrides `at`; it returns a 0-dim tensor, or one value per weight (shape `(len(params),)`)
    for radii that differ between groups or layers. Nothing may read a tensor's value on the host.

    The optimizer works on its own copy, so one object can be given to many optimizers.
    """

    learns: bool = False
    """Whether a validation closure is needed."""

    units: str | None = None
    """None: units of the weights; "relative", "layerwise": a share of them (`letsam.relative`, `letsam.layerwise`)."""

    per: str = "all"
    """What has a radius of its own: all weights together, each "group" or each "layer"."""

    def __init__(self, rho: float) -> None:
        self.rho = torch.tensor(float(rho), dtype=torch.float64)

    @property
    def kind(self) -> str:
        """What a state must be of to be loaded."""
        per = "" if self.per == "all" else f"per {self.per}"
        return " ".join(part for part in (self.units, type(self).__name__, per) if part)

    def to(self, device: torch.device, dtype: torch.dtype) -> None:
        """Move the radius to where the weights are."""
        self.rho = self.rho.to(device=device, dtype=dtype)

    def attach(self, param_groups: list[dict[str, Any]], ascends: Callable[[int], bool]) -> None:
        """Called when the optimizer is made, at the start of a step and when a group has joined.

        Args:
            param_groups: of the optimizer.
            ascends: of the perturbation: which steps climb.
        """

    def reads_ascent(self, step: int) -> bool:
        """Whether `at` needs the loss or the gradients at the weights, which some perturbations do without."""
        return True

    def at(self, ascent: Ascent) -> Tensor:
        """The radius of this step."""
        return self.rho

    def scale(self, weights: Tensors, gradients: Tensors, factor: Tensor, reach: Reach) -> tuple[Tensor, Reach]:
        """Put eps_hat into the units of the radius: the gradients in place, and what is returned.

        Args:
            weights: the weights that are perturbed, as they are without it.
            gradients: eps_hat / factor, one per weight.
            factor: from `Perturbation.direction` (0-dim).
            reach: measures how far eps_hat goes, see `Perturbation.reach`.

        Returns:
            The factor and the measure of the new eps_hat.
        """
        return in_units(self.units, weights, gradients, factor, reach)

    # What follows is for radii that learn: what a step sees, in the order in which it sees it. `params` are all
    # trainable weights; gradients are read from `param.grad` and may be missing.

    def validates_before(self, step: int) -> bool:
        """Whether step `step` (from 0) begins with a validation pass, at the weights that the step before has made."""
        return False

    def see_validation(self, loss: Tensor, params: Tensors, scratch: Buffers | None) -> list[Tensor]:
        """A validation pass has run; returns 0-dim tensors that are finite if and only if all of it is.

        Args:
            loss: of the pass (0-dim).
            params: with the gradients of the pass.
            scratch: memory in the shapes of the weights that nobody needs at this moment, where there is some.
        """
        raise NotImplementedError

    def see_direction(self, params: Tensors, factor: Tensor, reach: Reach) -> None:
        """The gradients have become eps_hat / factor, 0 for weights that are not perturbed; `reach` measures it.

        Called for each of the `parts` of the step, and `probe` after it.
        """

    def probe(self, params: Tensors, weights: Tensors, rho: Tensor, evaluate: Evaluate) -> None:
        """Further training passes may run; `params` are perturbed by rho and must be so again at the end.

        Args:
            params: perturbed weights.
            weights: their unperturbed values.
            rho: the radius of the step, as `at` has returned it.
            evaluate: runs the training closure.
        """

    def reads_growth(self, step: int) -> bool:
        """Whether `see_growth` wants the length of g_rho."""
        return False

    def see_growth(self, gradient_norm: Tensor) -> None:
        """||g_rho|| over all weights (0-dim)."""

    def see_perturbed_gradient(self, params: Tensors, rho: Tensor, derivative: Derivative) -> None:
        """The gradients are g_rho.

        Args:
            params: unperturbed again.
            rho: the radius of the step.
            derivative: the perturbation's `descent_derivative` at g_rho, for one tensor per gradient.
        """

    def see_descent_gradient(self, params: Tensors, beside: Tensors | None, weights: Buffers) -> None:
        """The gradients are those that the base optimizer descends with.

        Args:
            params: unperturbed.
            beside: what `descent` has returned.
            weights: hold what `params` do, and must do so again in the end.
        """

    def see_clipping(self, params: Tensors, factor: Tensor, slope: Tensor, weights: Buffers) -> None:
        """The gradients g are about to be clipped to factor * g (0-dim), with d factor = slope * (g . dg)."""

    def see_base_step(self, base: Optimizer, params: Tensors, weights: Tensors, fresh: set[Tensor]) -> None:
        """The base optimizer has stepped from `weights`, making the state of the weights in `fresh`."""

    def validates_after(self, step: int) -> bool:
        """Whether step `step` ends with a training and a validation pass at the weights it has made."""
        return False

    def see_training(self, loss: Tensor, params: Tensors) -> list[Tensor]:
        """The training pass of `validates_after` has run; returns the same as `see_validation`."""
        raise NotImplementedError

    def metrics(self) -> dict[str, Tensor]:
        """What the radius adds to the optimizer's metrics."""
        return {}

    def commit(self, finite: Tensor) -> None:
        """End of a step: keep what the step did to the radius where `finite` (0-dim bool), undo it elsewhere."""

    def discard(self) -> None:
        """A closure raised: forget what the step had begun to do to the radius."""

    def state_dict(self) -> dict[str, Any]:
        """What must survive a save and load."""
        return {"rho": self.rho.clone()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self.rho = torch.as_tensor(state["rho"]).to(self.rho, copy=True)
