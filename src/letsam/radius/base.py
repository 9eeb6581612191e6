"""What a radius is: how far to climb at this step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor

from ..tangent import Hypergradient, Slope
from ..tangent.blocks import Blocks


@dataclass(frozen=True)
class Wants:
    """What a radius needs to be measured in a step.

    Attributes:
        first_pass: whether `Radius.at` or `Radius.update` needs the loss or the gradient at the weights. Some
            perturbations leave that pass out otherwise.
        tangent: whether the step builds Z = d theta' / d rho.
        validation: "before" for a validation pass at the beginning of the step, "after" for a training and a validation
            pass at the weights that the step has made, None for neither.
        training_slope: whether, with the validation pass, the training loss's slope along Z is measured as well.
        reach: whether to measure how far the perturbation reaches.
        growth: the same, and by how much the gradient norm grows along the ascent.
    """

    first_pass: bool = True
    tangent: bool = False
    validation: Literal["before", "after"] | None = None
    training_slope: bool = False
    reach: bool = False
    growth: bool = False


@dataclass(frozen=True)
class Ascent:
    """What is known when a step asks for its radius.

    Attributes:
        step: steps taken before this one.
        lr: base learning rate of the first param group, now.
        peak_lr: largest base learning rate so far (or the scheduler's initial one).
        loss: training loss at the weights (0-dim); None in `ascent_step()`, which sees only gradients.
        gradient_norm: ||g_0|| over all weights that are perturbed (0-dim).
        weights: number of trainable weight tensors, for radii that differ between them.
    """

    step: int
    lr: float | Tensor
    peak_lr: float | Tensor
    loss: Tensor | None
    gradient_norm: Tensor
    weights: int


@dataclass(frozen=True)
class Evidence:
    """What a step has measured for the radius: numbers (0-dim tensors), or one for each radius.

    Attributes:
        step: steps taken before this one.
        lr: base learning rate of the first param group, now.
        peak_lr: largest base learning rate so far.
        training_loss: on the training batch.
        validation_loss: on the validation batch; None where there was no validation pass.
        validation_slope: of the validation loss along Z; None where there is no Z that fits.
        training_slope: of the training loss along Z, where it was asked for.
        usable: whether the step that Z belongs to was finite and perturbed the weights (0-dim bool).
        reach: how far the perturbation reached for each unit of rho, see `Perturbation.reach`; None if not measured.
        climbs: whether the step perturbed the weights (0-dim bool); given with `reach`.
        growth: ||g_rho|| - ||g_0||; None if not measured.
    """

    step: int
    lr: float | Tensor
    peak_lr: float | Tensor
    training_loss: Tensor | None = None
    validation_loss: Tensor | None = None
    validation_slope: Slope | None = None
    training_slope: Slope | None = None
    usable: Tensor | None = None
    reach: Tensor | None = None
    climbs: Tensor | None = None
    growth: Tensor | None = None

    def losses(self) -> dict[str, Tensor]:
        """Both losses, by name."""
        assert self.validation_loss is not None
        assert self.training_loss is not None
        return {"validation_loss": self.validation_loss, "training_loss": self.training_loss}

    @cached_property
    def gap(self) -> Tensor:
        """The generalization gap, validation loss minus training loss."""
        validation_loss, training_loss = self.losses().values()
        return validation_loss - training_loss


class Radius:
    """How far to climb: rho, a 0-dim tensor on the device of the weights, or one value for each group or layer.

    A radius of your own overrides `at`. It returns a 0-dim tensor, or one value per weight tensor (shape
    `(ascent.weights,)`) for radii that differ between groups or layers. It must not read a tensor's value on the host.

    A step calls `wants` before its first pass, `update` with what it has measured, and `at`; it ends with `commit`, or
    with `discard` if a closure raises. A radius that wants nothing is not asked to `update`.

    The optimizer works on its own copy, so one object can be given to many optimizers.
    """

    learns: bool = False
    """Whether a validation closure is needed."""

    hypergradient: Hypergradient | None = None
    """How the curvature term of Z is estimated; None for radii that want no tangent."""

    units: str | None = None
    """None: units of the weights; "relative", "layerwise": a share of them (`letsam.relative`, `letsam.layerwise`)."""

    per: str = "all"
    """What has a radius of its own: all weights together, each "group" or each "layer"."""

    def __init__(self, rho: float) -> None:
        self.rho = torch.tensor(float(rho), dtype=torch.float64)
        self.blocks = Blocks(self.per)

    @property
    def kind(self) -> str:
        """What a state must be of to be loaded."""
        per = "" if self.per == "all" else f"per {self.per}"
        return " ".join(part for part in (self.units, type(self).__name__, per) if part)

    def to(self, device: torch.device, dtype: torch.dtype) -> None:
        """Move the radius to where the weights are."""
        self.rho = self.rho.to(device=device, dtype=dtype)

    def attach(self, param_groups: list[dict[str, Any]], ascends: Callable[[int], bool]) -> None:
        """Called when the optimizer is made, at the start of a step and when a param group is added.

        Args:
            param_groups: of the optimizer.
            ascends: of the perturbation: which steps climb.
        """

    def wants(self, step: int) -> Wants:
        """What step `step` (from 0) must measure; asked once, before its first pass. Changes nothing."""
        return Wants()

    def at(self, ascent: Ascent) -> Tensor:
        """The radius of this step."""
        return self.rho

    def update(self, evidence: Evidence) -> None:
        """Take in what the step has measured; `commit` decides whether it counts."""

    def metrics(self) -> dict[str, Tensor]:
        """What the radius adds to the optimizer's metrics."""
        return {}

    def commit(self, finite: Tensor) -> None:
        """End of a step: keep what the step did to the radius where `finite` (0-dim bool), undo it elsewhere."""

    def discard(self) -> None:
        """A closure raised: undo what the step has begun to do to the radius."""

    def state_dict(self) -> dict[str, Any]:
        """What must survive a save and load."""
        return {"rho": self.rho.clone()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self.rho = torch.as_tensor(state["rho"]).to(self.rho, copy=True)
