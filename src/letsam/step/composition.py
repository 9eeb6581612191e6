"""Composition: perturbation, radius and base optimizer, put together, kept on one device, copied and saved."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from .. import checks
from ..groups import unperturbed
from ..perturbations import Perturbation
from ..radius import Radius
from ..radius.fixed import as_radius
from ..tensors import scalar_dtype
from .wrapper import Wrapper, check_own_state

# Dynamo drops attributes that an optimizer sets on itself: a traced step would not go back to the unperturbed weights.
# (torch's optimizers use the same; the public `torch.compiler.disable` would import the compiler along with letsam.)
not_traced = torch._disable_dynamo  # pyright: ignore[reportPrivateUsage, reportPrivateImportUsage]


class Composition(Wrapper):
    """What a `SharpnessAware` holds between two steps.

    Args:
        base_optimizer: any `torch.optim.Optimizer` whose step needs no closure.
        perturbation: direction and descent rule.
        rho: a number, a schedule or a `LearnedRadius`; copied.

    Raises:
        TypeError: an argument of the wrong type.
        ValueError: an argument out of range.
    """

    def __init__(self, base_optimizer: Optimizer, perturbation: Perturbation, rho: float | Radius) -> None:
        super().__init__(base_optimizer)
        if not isinstance(perturbation, Perturbation):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"`perturbation` must be a Perturbation, got {checks.shown(perturbation)}")
        self.radius = as_radius(rho)
        unperturbed(self.param_groups)
        perturbation.attach(self.param_groups)
        self.perturbation = perturbation
        if self.radius.learns and _descends_otherwise(perturbation):
            raise ValueError(
                "`perturbation` must define `descent_derivative` for a learned radius, got a "
                f"{type(perturbation).__name__} that changes the gradient in `descent` alone"
            )
        self.metrics: dict[str, Tensor] = {}
        self._steps: int = 0
        self._peak_lr: float | Tensor = 0.0
        self._skipped = torch.zeros((), dtype=torch.int64)
        self._place()

    @property
    def rho(self) -> Tensor:
        """The current radius, on the device of the weights: 0-dim, or one value for each radius that is learned."""
        return self.radius.rho

    def _params(self) -> list[Tensor]:
        return [p for group in self.param_groups for p in group["params"]]

    def _trainable(self) -> list[Tensor]:
        params = [p for p in self._params() if p.requires_grad]
        if not params:
            raise ValueError("`base_optimizer` must hold at least one parameter with requires_grad=True, got none")
        return params

    def _place(self) -> None:
        """Keep the scalars where the weights are, also when the model has moved since."""
        self.radius.attach(self.param_groups, self.perturbation.ascends)
        params = self._params()
        device, dtype = params[0].device, scalar_dtype(params)
        if self.rho.device != device or self.rho.dtype != dtype:
            self.radius.to(device, dtype)
        self._skipped = self._skipped.to(device)

    def _follow(self, lr: float | Tensor) -> None:
        """Remember the largest learning rate; a scheduler's `initial_lr` counts, so that warm-up is seen as one."""
        initial = self.param_groups[0].get("initial_lr", lr)
        if isinstance(lr, Tensor) or isinstance(initial, Tensor) or isinstance(self._peak_lr, Tensor):
            peak = torch.zeros_like(self.rho)
            for value in (self._peak_lr, lr, initial):
                # a number made a tensor would be copied to the device, for which the host waits
                peak = torch.maximum(peak, value.to(peak)) if isinstance(value, Tensor) else peak.clamp(min=value)
            self._peak_lr = peak
        else:
            self._peak_lr = max(self._peak_lr, lr, initial)

    # --- copies and files -----------------------------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        kept = ("base_optimizer", "perturbation", "radius", "metrics", "_steps", "_peak_lr", "_skipped")
        return {name: self.__dict__[name] for name in kept}

    def _group_added(self) -> None:
        try:
            unperturbed(self.param_groups)
            self.perturbation.attach(self.param_groups)
            self.radius.attach(self.param_groups, self.perturbation.ascends)
        except ValueError:
            self.param_groups.pop()
            raise
        self._place()

    def _own_state(self) -> dict[str, Any]:
        return {
            "radius": {"type": self.radius.kind, **self.radius.state_dict()},
            "perturbation": {"type": self.perturbation.kind, **self.perturbation.state_dict()},
            "steps": self._steps,
            "skipped_steps": self._skipped.clone(),
            "peak_lr": self._peak_lr,
        }

    def _check_own_state(self, own: dict[str, Any]) -> None:
        parts = {"radius": copy.deepcopy(self.radius), "perturbation": copy.copy(self.perturbation)}
        check_own_state(own, parts)

    def _load_own_state(self, own: dict[str, Any]) -> None:
        self.radius.load_state_dict(own["radius"])
        self.perturbation.load_state_dict(own["perturbation"])
        self._steps, self._peak_lr = own["steps"], own["peak_lr"]
        self._skipped = torch.as_tensor(own["skipped_steps"]).to(self._skipped.device, copy=True)


def _descends_otherwise(perturbation: Perturbation) -> bool:
    kind = type(perturbation)
    changes = kind.descent is not Perturbation.descent
    return changes and kind.descent_derivative is Perturbation.descent_derivative
