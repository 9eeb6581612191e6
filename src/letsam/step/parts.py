"""What a sharpness-aware optimizer keeps from step to step: its parts and its counters."""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from .. import checks
from ..groups import check_param_groups, perturbed_parameters, unperturbed
from ..joint import drop_last_group, owners_of_groups
from ..perturbations import Perturbation
from ..radius import Radius, Wants
from ..radius.fixed import FixedRadius, as_radius, numbers_of
from ..tangent import Slope, Tangent
from ..tensors import Average, Buffers, GradientSum, gradients_of, norm, scalar_dtype
from .activity import Active, is_active
from .record import StepRecord
from .undo import StepGuard
from .wrapper import check_own_state


class Parts:
    """Perturbation, radius, tangent and base optimizer, and the counters of the steps.

    Args:
        base: any `torch.optim.Optimizer` whose step needs no closure.
        perturbation: direction and descent rule.
        rho: a number, a schedule or a `LearnedRadius`; copied.

    Attributes:
        tangent: Z of the last step; None unless the radius learns.
        metrics: of the last step.
        steps: taken so far.
        active: which of them may perturb the weights (see `SharpnessAware`); None: all.
        rested: how many of them were not active.
        without_radius: how many of the active ones had a radius of 0 by schedule.
        skipped: how many of them were not finite (0-dim).
        peak_lr: largest base learning rate so far.
        spared: weights that the perturbation does not perturb because of their module (SAM-ON).

    Raises:
        TypeError: an argument of the wrong type.
        ValueError: an argument out of range.
    """

    def __init__(self, base: Optimizer, perturbation: Perturbation, rho: float | Radius) -> None:
        if not isinstance(perturbation, Perturbation):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"`perturbation` must be a Perturbation, got {checks.shown(perturbation)}")
        self.base = base
        self.radius = as_radius(rho)
        check_param_groups(base.param_groups)
        self.check_groups(base.param_groups)
        perturbation.attach(base.param_groups)
        self.perturbation = perturbation
        if self.radius.learns and _descends_otherwise(perturbation):
            raise ValueError(
                "`perturbation` must define `descent_derivative` for a learned radius, got a "
                f"{type(perturbation).__name__} that changes the gradient in `descent` alone"
            )
        kind = self.radius.hypergradient
        self.tangent = None if kind is None else Tangent(kind, self.radius.blocks)
        self.metrics: dict[str, Tensor] = {}
        self.steps: int = 0
        self.active: Active | None = None
        self.rested: int = 0
        self.without_radius: int = 0
        self.peak_lr: float | Tensor = 0.0
        self.skipped = torch.zeros((), dtype=torch.int64)
        self.spared: set[Tensor] = set()
        self.reset_scratch()
        self.place()

    def reset_scratch(self) -> None:
        """Make new buffers for what is needed only within a step."""
        self.weights, self.ascent_gradients = Buffers(), Buffers()
        self.sum = GradientSum()
        self.guard = StepGuard()

    def params(self) -> list[Tensor]:
        """All weights of the base optimizer."""
        return [p for group in self.base.param_groups for p in group["params"]]

    def trainable(self) -> list[Tensor]:
        """The weights that require gradients; at least one."""
        params = [p for p in self.params() if p.requires_grad]
        if not params:
            raise ValueError("`base_optimizer` must hold at least one parameter with requires_grad=True, got none")
        return params

    def spare(self, model: nn.Module | None) -> None:
        """Find the weights that the perturbation does not perturb; this takes the model, for its module types."""
        if model is not None and self.perturbation.perturbs != "all":
            self.spared = set(self.params()) - perturbed_parameters(model, self.perturbation.perturbs)

    def moves(self, params: list[Tensor]) -> list[bool]:
        """For each weight, whether it is perturbed: it has a gradient and is not excluded."""
        excluded = unperturbed(self.base.param_groups) | self.spared
        return [p.grad is not None and not (excluded and p in excluded) for p in params]

    def check_groups(self, groups: list[dict[str, Any]]) -> None:
        """Raise `ValueError` or `TypeError` for a `rho` in these param groups that the radius cannot use.

        Args:
            groups: of the base optimizer, or from a saved state.
        """
        given = [group["rho"] for group in self._own_groups(groups) if "rho" in group]
        if given and not self.radius.takes_group_rho:
            raise ValueError(
                "`rho` of a param group needs a fixed radius, a number as the optimizer's `rho`, got "
                f"{checks.shown(given[0])} in a group and a {self.radius.kind}: for radii that change, remove it and "
                'use LearnedRadius(..., per="group") or ReplayedRadius(..., per="group")'
            )
        if isinstance(self.radius, FixedRadius):
            numbers_of(self._own_groups(groups))

    def _own_groups(self, groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The groups, without `rho` if that is an option of the base optimizer, as of Adadelta."""
        theirs = ["rho" in owner.defaults for owner in owners_of_groups(self.base)]
        if not any(theirs):
            return groups
        pairs = zip(groups, theirs, strict=False)  # a saved state of another length will be refused
        return [{name: value for name, value in group.items() if not (own and name == "rho")} for group, own in pairs]

    def _attach(self) -> None:
        """Pass the param groups to the radius; they may have changed since the last step."""
        groups = self.base.param_groups
        if any("rho" in group for group in groups):
            self.check_groups(groups)
            groups = self._own_groups(groups)
        self.radius.attach(groups, self.perturbation.ascends)

    def place(self) -> None:
        """Move all scalars to the device of the weights; called at every step, since the model may have moved."""
        self._attach()
        params = self.params()
        device, dtype = params[0].device, scalar_dtype(params)
        if self.radius.rho.device != device or self.radius.rho.dtype != dtype:
            self.radius.to(device, dtype)
        if self.tangent is not None:
            self.tangent.to(device)
        self.skipped = self.skipped.to(device)

    def wants(self) -> Wants:
        """What the radius needs to be measured in the next active step."""
        return self.radius.wants(self.steps - self.rested)

    def check_closures(self, validation_closure: object) -> None:
        """Raise `ValueError` if the next step needs a validation closure and there is none."""
        if validation_closure is None and (self.radius.learns or self.wants().validation):
            kind = "a learned radius" if self.radius.learns else f"a {self.radius.kind}, which wants a validation pass"
            raise ValueError(f"`validation_closure` must be given for {kind}, to `step` or as an attribute, got None")

    def record(self, params: list[Tensor]) -> StepRecord:
        """Make the record of a new step; what it measures is decided here, before its first pass."""
        active = self.active is None or is_active(self.active, self.steps)
        step = self.steps - self.rested  # the radius counts active steps, the perturbation those in which it is asked
        turn = step - self.without_radius
        wants = self.wants() if active else Wants(first_pass=False, climbs=False)
        climbs = wants.climbs and self.perturbation.ascends(turn)
        tangent = self.tangent if wants.tangent and climbs else None
        return StepRecord(step, 1.0, self.peak_lr, wants, climbs, tangent, params, active, turn)

    def follow_lr(self, record: StepRecord) -> None:
        """Store the learning rate and its peak; the scheduler's `initial_lr` counts, which matters during warm-up."""
        group = self.base.param_groups[0]
        lr = checks.learning_rate(group)
        initial = checks.learning_rate({"lr": group.get("initial_lr", lr)})
        if isinstance(lr, Tensor) or isinstance(initial, Tensor) or isinstance(self.peak_lr, Tensor):
            peak = self.radius.rho.new_zeros(())  # even if there are several radii
            for value in (self.peak_lr, lr, initial):
                if isinstance(value, Tensor):
                    peak = torch.maximum(peak, value.to(peak).nan_to_num(0.0, 0.0, 0.0))
                elif math.isfinite(value):
                    # a number is not made a tensor: copying it to the device would make the host wait
                    peak = peak.clamp(min=value)
            self.peak_lr = peak
        else:
            self.peak_lr = max([self.peak_lr, *filter(math.isfinite, (lr, initial))])
        record.lr, record.peak_lr = lr, self.peak_lr

    def slope(
        self, params: list[Tensor], scratch: Buffers | None = None, average: Average | None = None
    ) -> tuple[Slope | None, Tensor]:
        """`Tangent.slope`; without a tangent, no slope and the norm of the gradients."""
        if self.tangent is None:
            return None, norm(gradients_of(params))
        return self.tangent.slope(params, scratch, average)

    def discard(self) -> None:
        """A step was abandoned: undo its changes to the parts."""
        self.perturbation.discard()
        self.radius.discard()
        if self.tangent is not None:
            self.tangent.discard()

    def commit(self, record: StepRecord) -> None:
        """A step has ended: keep its changes to the parts if it was finite."""
        if record.active:
            self.radius.commit(record.finite)
        if self.tangent is not None:
            self.tangent.commit(record.finite, None if record.tangent is None else record.moved)
        if record.wants.climbs:
            self.perturbation.commit(record.finite)
        self.steps += 1
        self.rested += not record.active
        self.without_radius += record.active and not record.wants.climbs
        self.skipped = self.skipped + ~record.finite

    # --- copies and files -----------------------------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        scratch = ("weights", "ascent_gradients", "sum", "guard")
        return {name: value for name, value in self.__dict__.items() if name not in scratch}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.reset_scratch()

    def group_added(self) -> None:
        """A param group was added; it is removed again if the parts refuse it."""
        try:
            check_param_groups(self.base.param_groups)
            self.check_groups(self.base.param_groups)
            self.perturbation.attach(self.base.param_groups)
            self._attach()
        except (TypeError, ValueError):
            drop_last_group(self.base)
            self.perturbation.attach(self.base.param_groups)
            raise
        self.place()

    def state_dict(self) -> dict[str, Any]:
        """The state to be saved; tensors are copies."""
        tangent = {} if self.tangent is None else self.tangent.state_dict()
        return {
            "radius": {"type": self.radius.kind, **self.radius.state_dict(), **tangent},
            "perturbation": {"type": self.perturbation.kind, **self.perturbation.state_dict()},
            "steps": self.steps,
            "rested": self.rested,
            "without_radius": self.without_radius,
            "skipped_steps": self.skipped.clone(),
            "peak_lr": self.peak_lr,
        }

    def check_state(self, own: dict[str, Any]) -> None:
        """Raise `ValueError` unless `load_state_dict` will succeed; changes nothing."""
        radius, tangent = copy.deepcopy((self.radius, self.tangent))
        check_own_state(own, {"radius": radius, "perturbation": copy.copy(self.perturbation)}, tangent)

    def load_state_dict(self, own: dict[str, Any]) -> None:
        """Restore the state that `state_dict` returned."""
        self.radius.load_state_dict(own["radius"])
        self.perturbation.load_state_dict(own["perturbation"])
        if self.tangent is not None:
            self.tangent.load_state_dict(own["radius"])
        self.steps, self.peak_lr = own["steps"], own["peak_lr"]
        if isinstance(self.peak_lr, Tensor):
            self.peak_lr = self.peak_lr.amax()  # states of earlier versions have one value per radius
        self.rested = own.get("rested", 0)  # states of earlier versions lack both
        self.without_radius = own.get("without_radius", 0)
        self.skipped = torch.as_tensor(own["skipped_steps"]).to(self.skipped.device, copy=True)
        self._attach()


def _descends_otherwise(perturbation: Perturbation) -> bool:
    kind = type(perturbation)
    changes = kind.descent is not Perturbation.descent
    return changes and kind.descent_derivative is Perturbation.descent_derivative
