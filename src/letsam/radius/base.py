"""The interface of a radius: how far a step climbs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor

from .. import checks
from ..tangent import Hypergradient, Slope
from ..tangent.blocks import Blocks


@dataclass(frozen=True)
class Wants:
    """What a step must measure for its radius.

    Attributes:
        first_pass: whether `Radius.at` or `Radius.update` needs the loss or the gradient at the weights. If not, some
            perturbations skip that pass.
        tangent: whether the step builds Z = d theta' / d rho.
        validation: "before" for a validation pass at the beginning of the step; "after" for a training and a validation
            pass at the new weights; None for neither.
        calibrates: whether the gradient of the validation pass is without its confidence (`step/calibration.py`).
        label_noise: share of the labels that are wrong in training and right in validation (0-dim): the gradient of the
            validation pass becomes that of labels which are wrong as often. None: it does not.
        training_slope: whether the slope of the training loss along Z is measured with that of the validation loss.
        reach: whether to measure how far the perturbation reaches.
        growth: whether to measure the reach, and how much the gradient norm grows along the ascent.
        climbs: False if the radius of this step is 0: it is the base optimizer's own then, in one pass.
    """

    first_pass: bool = True
    tangent: bool = False
    validation: Literal["before", "after"] | None = None
    calibrates: bool = False
    label_noise: Tensor | None = None
    training_slope: bool = False
    reach: bool = False
    growth: bool = False
    climbs: bool = True


@dataclass(frozen=True)
class Ascent:
    """What is known when a step asks for its radius.

    Attributes:
        step: number of steps before this one.
        lr: current base learning rate of the first param group.
        peak_lr: largest base learning rate so far; a scheduler's `initial_lr` counts.
        loss: training loss at the weights (0-dim); None in `ascent_step()`, which has only gradients.
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
    """What a step has measured for its radius. All tensors are 0-dim; slopes may have one value per radius.

    Attributes:
        step: number of steps before this one.
        lr: current base learning rate of the first param group.
        peak_lr: largest base learning rate so far.
        training_loss: on the training batch.
        validation_loss: on the validation batch; None without a validation pass.
        validation_slope: of the validation loss along Z; None if there is no Z for these weights.
        training_slope: of the training loss along Z; None if not requested.
        usable: whether the step that Z belongs to was finite and perturbed the weights, and the validation pass was
            finite (0-dim bool).
        gain: how much the validation loss would gain with labels drawn at random, 0 if it is no cross-entropy; None if
            the outputs were not found whose gradient `Wants` changes.
        label_noise: as in `Wants`, for `matched_gap`.
        reach: how far the perturbation reached per unit of rho, see `Perturbation.reach`; None if not measured.
        climbs: whether the step perturbed the weights (0-dim bool); given together with `reach`.
        growth: ||g_rho|| - ||g_0||; None if not measured.
        overflow: whether this step was finite at the weights, but not at the perturbed weights (0-dim, 1.0 or 0.0);
            given at its end if it has built Z.
    """

    step: int
    lr: float | Tensor
    peak_lr: float | Tensor
    training_loss: Tensor | None = None
    validation_loss: Tensor | None = None
    validation_slope: Slope | None = None
    training_slope: Slope | None = None
    usable: Tensor | None = None
    gain: Tensor | None = None
    label_noise: Tensor | None = None
    reach: Tensor | None = None
    climbs: Tensor | None = None
    growth: Tensor | None = None
    overflow: Tensor | None = None

    def losses(self) -> dict[str, Tensor]:
        """Validation and training loss, by name."""
        assert self.validation_loss is not None
        assert self.training_loss is not None
        return {"validation_loss": self.validation_loss, "training_loss": self.training_loss}

    @cached_property
    def gap(self) -> Tensor:
        """The generalization gap: validation loss minus training loss (0-dim)."""
        validation_loss, training_loss = self.losses().values()
        return validation_loss - training_loss

    @cached_property
    def matched_gap(self) -> Tensor:
        """The gap of validation labels that are wrong as often as those of training (0-dim)."""
        return self.gap if self.gain is None or self.label_noise is None else self.gap + self.label_noise * self.gain


class Radius:
    """How far a step climbs: rho, a 0-dim tensor on the device of the weights, or one value per group or layer.

    A radius of your own overrides `at`, which returns a 0-dim tensor, or one value per weight tensor (shape
    `(ascent.weights,)`) if radii differ between groups or layers. No method may read a tensor's value on the host.

    A step calls `wants` before its first pass, `update` with what it has measured, and `at` for its radius. It ends
    with `commit`, or with `discard` if a closure raises. `update` is not called if nothing is wanted.

    The optimizer works on its own copy, so one object can be given to several optimizers.

    Args:
        rho: radius at the start, in units of the weights.

    Example:
        >>> import torch, letsam
        >>> class Decaying(Radius):
        ...     def at(self, ascent):
        ...         self.rho = torch.full_like(self.rho, 0.1 / (1 + ascent.step))
        ...         return self.rho
        >>> weight = torch.nn.Parameter(torch.tensor([3.0, 4.0]))
        >>> opt = letsam.SAM(torch.optim.SGD([weight], lr=0.1), rho=Decaying(0.1))
        >>> for _ in range(2):
        ...     weight.grad = torch.tensor([0.0, 2.0])
        ...     opt.ascent_step()
        ...     weight.grad = torch.tensor([0.0, 2.0])
        ...     opt.descent_step()
        >>> opt.rho
        tensor(0.0500)
    """

    learns: bool = False
    """Whether `step` needs a validation closure."""

    hypergradient: Hypergradient | None = None
    """Estimates the curvature term of Z; None for radii that need no tangent."""

    units: str | None = None
    """None: units of the weights. "relative", "layerwise": relative to their norm, see the functions of that name."""

    takes_group_rho: bool = False
    """Whether a `rho` in a param group is used by this radius, which reads it in `attach`; if not, it is refused."""

    per: str = "all"
    """Which weights share a radius: "all", those of a "group", or those of a "layer" (a weight tensor)."""

    def __init__(self, rho: float) -> None:
        self.rho = torch.tensor(float(rho), dtype=torch.float64)
        self.reach = torch.ones_like(self.rho)  # of the last perturbation, for each unit of rho; see `Evidence.reach`
        self.blocks = Blocks(self.per)

    @property
    def kind(self) -> str:
        """Identifies the radius in a saved state; a state of another kind is refused."""
        per = "" if self.per == "all" else f"per {self.per}"
        return " ".join(part for part in (self.units, type(self).__name__, per) if part)

    def to(self, device: torch.device, dtype: torch.dtype) -> None:
        """Move the radius to the device and dtype of the weights."""
        self.rho = self.rho.to(device=device, dtype=dtype)
        self.reach = self.reach.to(device=device, dtype=dtype)

    def attach(self, param_groups: list[dict[str, Any]], ascends: Callable[[int], bool]) -> None:
        """Called when the optimizer is made, at the start of each step, and when a param group is added.

        Args:
            param_groups: of the optimizer, without `rho` if that is an option of the base optimizer (Adadelta).
            ascends: `Perturbation.ascends`, which says whether a step climbs.
        """

    def wants(self, step: int) -> Wants:
        """What step `step` (from 0) must measure; called once, before its first pass. Changes nothing."""
        return Wants()

    def at(self, ascent: Ascent) -> Tensor:
        """The radius of this step."""
        return self.rho

    def update(self, evidence: Evidence) -> None:
        """Use what the step has measured; `commit` decides whether the result is kept."""

    def metrics(self) -> dict[str, Tensor]:
        """Metrics of the radius, which are added to those of the optimizer."""
        return {}

    def commit(self, finite: Tensor) -> None:
        """End of a step: keep the changes of this step if `finite` (0-dim bool), else undo them."""

    def discard(self) -> None:
        """A closure raised: undo the changes of this step."""

    def state_dict(self) -> dict[str, Any]:
        """The state to be saved; tensors are copies."""
        return {"rho": self.rho.clone()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state that `state_dict` returned."""
        self.rho = checks.saved("rho", state["rho"], None, lowest=0.0).to(self.rho, copy=True)
