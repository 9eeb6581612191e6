"""The interface of a SAM variant: a direction to climb in and a gradient to descend with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor
from torch.optim import Optimizer

from ..tensors import Tensors, norm


@dataclass(frozen=True)
class Facts:
    """Cost and origin of a variant, for `letsam methods` and the documentation.

    Attributes:
        title: one line, "NAME: what it does".
        paper: source, "arXiv:...".
        passes: training passes per step, without the validation passes of a learned radius.
        copies: copies of the weights in memory, in addition to the base optimizer's state and the copy of it that is
            needed to undo a step: one for the unperturbed weights, plus those of the variant. A learned radius adds
            one.
        learned: whether a learned radius works: "yes", followed by restrictions and costs if there are any.
        rho: default radius.
    """

    title: str
    paper: str
    passes: str = "2"
    copies: int = 1
    learned: str = "yes"
    rho: float = 0.05


class Perturbation:
    """The direction eps_hat in which a step climbs, and the gradient with which it descends.

    The step is theta <- base(theta, d) with d = descent(g_rho) and g_rho = grad L(theta + rho eps_hat). It calls, in
    this order: `ascends` (does this step perturb at all?), `begin`, `direction` (with the gradients g_0 at theta) and
    `descent` (with g_rho), and finally `commit` or `discard`. A subclass overrides what differs from SAM. State that it
    keeps between steps belongs in `state_dict`; `letsam.perturbations.memory.Memory` manages such state.

    All methods run under `torch.no_grad` and must not read a tensor's value on the host (no `.item()`, no Python
    `if` on a tensor).

    Example:
        >>> import torch, letsam
        >>> class Normalized(letsam.perturbations.Perturbation):
        ...     def direction(self, weights, gradients, gradient_norm):
        ...         return 1 / gradient_norm
        >>> weight = torch.nn.Parameter(torch.tensor([3.0, 4.0]))
        >>> opt = letsam.SharpnessAware(torch.optim.SGD([weight], lr=0.1), Normalized(), 0.5)
        >>> opt.perturbation.kind
        'Normalized'
    """

    facts: ClassVar[Facts | None] = None
    """For `letsam methods` and the documentation; None for a perturbation that is not registered as a variant."""

    keeps_ascent_gradient: ClassVar[bool] = False
    """Whether `descent` needs g_0 as well (costs one more copy of the parameters)."""

    follows_gradient: ClassVar[bool] = True
    """Whether `direction` needs g_0. If not, the pass at theta is skipped unless the radius needs it."""

    perturbs: ClassVar[str] = "all"
    """Which weights are perturbed, a value of `letsam.param_groups`' `perturb`; any but "all" needs the model."""

    sub_batches: ClassVar[int] = 1
    """If > 1, each micro-batch climbs along its own gradient, as with `m_sharpness`; the number used in a trial."""

    keeps_cotangents: ClassVar[bool] = False
    """Whether perturbed passes use d loss / d outputs of the pass at the weights (see Functional SAM)."""

    ascents: int = 1
    """Number of ascent steps of length rho / `ascents`, each along the gradient at the point reached so far."""

    @property
    def kind(self) -> str:
        """Identifies the perturbation in a saved state; a state of another kind is refused."""
        return type(self).__name__

    def attach(self, param_groups: list[dict[str, Any]]) -> None:
        """Called with all param groups of the base optimizer, and again when one is added; check options and names."""

    def ascends(self, step: int) -> bool:
        """Whether step number `step` (from 0) perturbs; if not, it makes a single pass, at theta (see LookSAM).

        Steps that are not active, or whose radius is 0 by schedule, are not counted and do not ask.
        """
        return True

    def begin(self, step: int, base: Optimizer) -> None:
        """Called before `direction` in step number `step` (from 0); may read the base optimizer's state."""

    def direction(self, weights: Tensors, gradients: Tensors, gradient_norm: Tensor) -> Tensor:
        """Turn the gradients, in place, into a multiple of eps_hat.

        Args:
            weights: the weights that have a gradient; must not be changed. Unperturbed in the first ascent step.
            gradients: g_0, one per weight; eps_hat up to the returned factor afterwards.
            gradient_norm: ||g_0|| over all weights (0-dim).

        Returns:
            The factor c (0-dim) with eps_hat = c * gradients; the step climbs by rho * eps_hat. 0 if the step does not
            climb, a decision that can be made on the device.
        """
        raise NotImplementedError

    def reach(self, directions: Tensors, factor: Tensor, gradient_norm: Tensor) -> Tensor:
        """Length of eps_hat in units of the weights, or an equivalent (0-dim); 1 for SAM.

        The prior of a learned radius is a SAM radius; divided by `reach` it is a radius of this perturbation.

        Args:
            directions: the gradients as `direction` has changed them.
            factor: the factor that `direction` returned.
            gradient_norm: ||g_0|| (0-dim).

        Returns:
            ||eps_hat|| (0-dim).
        """
        return norm(directions) * factor.abs()

    def descent(self, weights: Tensors, gradients: Tensors, ascent_gradients: Tensors | None) -> Tensors | None:
        """Turn g_rho, in place, into the gradient that the base optimizer descends with.

        Args:
            weights: the weights that have a gradient, unperturbed; must not be changed.
            gradients: g_rho (g_0 in a step that does not climb).
            ascent_gradients: g_0 of the same weights if `keeps_ascent_gradient` and this step climbed, else None; may
                be overwritten.

        Returns:
            A decoupled term, one tensor per gradient: theta <- base(theta, gradients) - lr * term. None for no such
            term.
        """
        return None

    def descent_derivative(
        self, changes: Tensors, gradients: Tensors, ascent_gradients: Tensors | None
    ) -> Tensors | None:
        """Forward-mode derivative of `descent`: turn d g_rho / d rho, in place, into d descent(g_rho) / d rho.

        A learned radius needs it: a class that overrides `descent` must override this as well. g_0 does not depend on
        rho. Called only in steps that climb.

        Args:
            changes: d g_rho / d rho; d (descent gradient) / d rho afterwards.
            gradients: g_rho; must not be changed.
            ascent_gradients: as for `descent`; must not be changed.

        Returns:
            The derivative of the decoupled term that `descent` returns; None where there is none.
        """
        return None

    def commit(self, finite: Tensor) -> None:
        """End of a step: keep the new state if `finite` (0-dim bool), else the old one."""

    def discard(self) -> None:
        """The step was abandoned, for example because a closure raised: keep the old state."""

    def state_dict(self) -> dict[str, Any]:
        """The state to be saved; tensors are copies."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state that `state_dict` returned; must not change tensors in place."""
