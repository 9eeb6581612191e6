"""What an estimator of the curvature term is: H_rho eps_hat from gradients that first-order code can have.

The derivative of one step theta'(rho) = theta - lr P g_rho with respect to rho is Z = -lr P H_rho eps_hat, with eps_hat
held fixed (arXiv:2408.08222, section 3). Estimators differ in how they get H_rho eps_hat.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from torch import Tensor

from .. import checks
from ..tensors import Tensors


class Hypergradient:
    """An estimator of H_rho eps_hat, and whether it is projected.

    A larger rho makes g_rho longer, so one step lowers the loss of its own batch more. The one-step objective then
    mistakes a longer step for a flatter minimum. The projection removes that: only the change of the *direction* of the
    gradient counts,

        H eps_hat <- H eps_hat - g_rho (g_rho . H eps_hat) / ||g_rho||^2

    Args:
        length_invariant: project H_rho eps_hat on the complement of g_rho.

    Raises:
        TypeError: `length_invariant` is neither True nor False.
    """

    holds: ClassVar[Literal["gradient", "direction", "probe"]]
    """What the estimator's buffer contains when g_rho is there: the gradient g_0 at the unperturbed weights, the
    direction eps_hat, or the gradient of a further pass at a probed radius."""

    def __init__(self, length_invariant: bool = True) -> None:
        self.length_invariant = checks.flag("length_invariant", length_invariant)

    def probe_step(self, weights: Tensors, direction: Tensors) -> Tensor:
        """By how much the radius of the further pass exceeds rho (0-dim); only for `holds = "probe"`."""
        raise NotImplementedError

    def curvature(self, held: Tensors, gradients: Tensors, rho: Tensor, probe_step: Tensor | None) -> None:
        """Turn what is held, in place, into the estimate of H_rho eps_hat.

        Args:
            held: see `holds`; becomes the estimate.
            gradients: g_rho, not to be changed.
            rho: the radius of the step (0-dim).
            probe_step: what `probe_step` returned, for estimators that probe.
        """
        raise NotImplementedError
