"""What a variant of SAM is: a direction to climb in and a gradient to descend with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor
from torch.optim import Optimizer

from ..tensors import Tensors, norm


@dataclass(frozen=True)
class Facts:
    """What one wants to know of a variant before one uses it.

    Attributes:
        title: one line for people.
        paper: where it comes from, "arXiv:...".
        passes: training passes a step, the validation passes of a learned radius not counted.
        copies: of the weights that are held, beyond the base optimizer's state and the copy of it that undoes a step:
            one for the unperturbed weights, and those of the variant. A learned radius adds one.
        learned: what a learned radius is like: "yes", with or without what to know.
        rho: the radius where none is given.
    """

    title: str
    paper: str
    passes: str = "2"
    copies: int = 1
    learned: str = "yes"
    rho: float = 0.05


class Perturbation:
    """In which direction to climb, and which gradient to descend with.

    A step of the optimizer asks, in this order: `ascends` (does this step perturb at all?), `begin`, `direction` (with
    the gradients g_0 at the weights) and `descent` (with the gradients g_rho at the perturbed weights); it ends with
    `commit`, or with `discard`. A variant overrides what it changes; what it remembers between steps it hands out in
    `state_dict`, and `letsam.perturbations.memory.Memory` keeps it.

    All methods run under `torch.no_grad` and must not read a tensor's value on the host (no `.item()`, no Python
    `if` on a tensor).
    """

    facts: ClassVar[Facts | None] = None
    """For `letsam methods` and the documentation, where the variant has a name there."""

    keeps_ascent_gradient: ClassVar[bool] = False
    """Whether `descent` needs g_0 as well (costs one more copy of the parameters)."""

    follows_gradient: ClassVar[bool] = True
    """Whether `direction` needs g_0; if not, the pass at the weights is left out where the radius does not need it."""

    perturbs: ClassVar[str] = "all"
    """Which weights are perturbed at all, in the words of `letsam.param_groups`; all but "all" need the model."""

    sub_batches: ClassVar[int] = 1
    """Above 1: each micro-batch climbs along its own gradient, as with `m_sharpness`; a trial makes so many."""

    ascents: int = 1
    """In how many parts the radius is climbed, each along the gradient where the one before has led."""

    @property
    def kind(self) -> str:
        """What a state must be of to be loaded."""
        return type(self).__name__

    def attach(self, param_groups: list[dict[str, Any]]) -> None:
        """Called with the base optimizer's groups, and again with those added; checks options, looks at names."""

    def ascends(self, step: int) -> bool:
        """Whether step `step` (from 0) perturbs; if not, it is a plain step of the base optimizer (LookSAM)."""
        return True

    def begin(self, step: int, base: Optimizer) -> None:
        """Step `step` (from 0) has its first gradients; the place to look at the base optimizer's state."""

    def direction(self, weights: Tensors, gradients: Tensors, gradient_norm: Tensor) -> Tensor:
        """Turn the gradients, in place, into a multiple of eps_hat.

        Args:
            weights: those that have a gradient; not to be changed. In the first ascent they are unperturbed.
            gradients: g_0, one per weight; becomes eps_hat up to the returned factor.
            gradient_norm: ||g_0|| over all of them (0-dim).

        Returns:
            The factor c (0-dim) for which eps_hat = c * gradients; the step then climbs rho * eps_hat. 0 where the
            step, by a decision on the device, does not climb.
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
        return norm(directions) * factor.abs()

    def descent(self, weights: Tensors, gradients: Tensors, ascent_gradients: Tensors | None) -> Tensors | None:
        """Turn g_rho, in place, into the gradient that the base optimizer descends with.

        Args:
            weights: those that have a gradient, unperturbed; not to be changed.
            gradients: g_rho (on a step that does not ascend: g_0).
            ascent_gradients: g_0 of the same weights if `keeps_ascent_gradient` and this step ascended, else None; may
                be overwritten.

        Returns:
            What else is descended with, past the base optimizer: theta <- base(theta, gradients) - lr * this, one
            tensor per gradient. None for nothing.
        """
        return None

    def descent_derivative(
        self, changes: Tensors, gradients: Tensors, ascent_gradients: Tensors | None
    ) -> Tensors | None:
        """Turn a change of g_rho, in place, into that of the gradient which `descent` makes of it (to first order).

        Through it a learned radius sees what `descent` does; whoever overrides that overrides this. g_0 does not depend
        on rho. Only asked on steps that ascend.

        Args:
            changes: d g_rho / d rho; becomes d (descent gradient) / d rho.
            gradients: g_rho, not to be changed.
            ascent_gradients: as for `descent`, not to be changed.

        Returns:
            The change of what `descent` returns; None where that is None.
        """
        return None

    def commit(self, finite: Tensor) -> None:
        """End of a step: keep what the step has made the perturbation remember where `finite` (0-dim bool)."""

    def discard(self) -> None:
        """The step under way comes to nothing: forget what it has made the perturbation remember."""

    def state_dict(self) -> dict[str, Any]:
        """What must survive a save and load."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave; must not change tensors in place."""
