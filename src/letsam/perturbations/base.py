"""What a variant of SAM is: a direction to climb in and a gradient to descend with."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor

from .._tensors import Tensors, norm


class Perturbation:
    """In which direction to climb, and which gradient to descend with.

    A step of the optimizer asks, in this order: `ascends` (does this step perturb at all?), `direction` (with the
    gradients g_0 at the weights) and `descent` (with the gradients g_rho at the perturbed weights). A variant
    overrides what it changes; what it remembers between steps it hands out in `state_dict`.

    All methods run under `torch.no_grad` and must not read a tensor's value on the host (no `.item()`, no Python
    `if` on a tensor).
    """

    keeps_ascent_gradient: ClassVar[bool] = False
    """Whether `descent` needs g_0 as well (costs one more copy of the parameters)."""

    def attach(self, param_groups: list[dict[str, Any]]) -> None:
        """Called once with the base optimizer's groups; the place to look at names or check group options."""

    def ascends(self, step: int) -> bool:
        """Whether step `step` (from 0) perturbs; if not, it is a plain step of the base optimizer (LookSAM)."""
        return True

    def direction(self, weights: Tensors, gradients: Tensors, gradient_norm: Tensor) -> Tensor:
        """Turn the gradients, in place, into a multiple of eps_hat.

        Args:
            weights: the unperturbed weights that have a gradient; not to be changed.
            gradients: g_0, one per weight; becomes eps_hat up to the returned factor.
            gradient_norm: ||g_0|| over all of them (0-dim).

        Returns:
            The factor c (0-dim) for which eps_hat = c * gradients; the step then climbs rho * eps_hat.
        """
        raise NotImplementedError

    def reach(self, directions: Tensors, factor: Tensor, gradient_norm: Tensor) -> Tensor:
        """How far eps_hat goes, in units of the weights: here its length, which is 1 for SAM (0-dim).

        A learned radius begins with what is sensible for SAM; `reach` says what that is for this perturbation.

        Args:
            directions: what `direction` has made of the gradients.
            factor: what it has returned.
            gradient_norm: ||g_0|| (0-dim).
        """
        return norm(directions) * factor

    def descent(self, gradients: Tensors, ascent_gradients: Tensors | None) -> None:
        """Turn g_rho, in place, into the gradient that the base optimizer descends with.

        Args:
            gradients: g_rho (on a step that does not ascend: g_0).
            ascent_gradients: g_0 of the same weights if `keeps_ascent_gradient` and this step ascended, else None.
        """

    def state_dict(self) -> dict[str, Any]:
        """What must survive a save and load."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
