"""The interface of an estimator of the curvature term H_rho eps_hat, which uses gradients only.

The derivative of one step theta'(rho) = theta - lr P g_rho with respect to rho is Z = -lr P H_rho eps_hat, with eps_hat
held fixed (arXiv:2408.08222, section 3). Estimators differ in how they compute H_rho eps_hat.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from torch import Tensor

from .. import checks
from ..tensors import Tensors


class Hypergradient:
    """An estimator of H_rho eps_hat, optionally projected: H eps_hat - g_rho (g_rho . H eps_hat) / ||g_rho||^2.

    A larger rho makes g_rho longer, so a step decreases the loss of its batch more. The one-step objective cannot
    distinguish such a longer step from a flatter minimum. The projection on the complement of g_rho removes this
    effect: only the change of the *direction* of the gradient counts.

    An estimator of your own sets `holds` and overrides `curvature`, and `probe_step` if it holds "probe".

    Args:
        length_invariant: whether H_rho eps_hat is projected.

    Raises:
        TypeError: `length_invariant` is neither True nor False.

    Example:
        >>> import letsam
        >>> class GaussNewton(Hypergradient):  # H ~ g g^T for a single sample
        ...     holds = "direction"
        ...     def curvature(self, held, gradients, rho, probe_step):
        ...         slope = sum((h * g).sum() for h, g in zip(held, gradients))
        ...         for h, g in zip(held, gradients):
        ...             h.copy_(slope * g)
        >>> letsam.LearnedRadius(0.05, hypergradient=GaussNewton(length_invariant=False)).hypergradient.holds
        'direction'

    Reference:
        arXiv:2408.08222, section 3; the projection is not in the paper.
    """

    holds: ClassVar[Literal["gradient", "direction", "probe"]]
    """What the estimator needs in addition to g_rho: "gradient" is g_0, "direction" is eps_hat, and "probe" is the
    gradient of a further pass at radius rho + `probe_step`."""

    def __init__(self, length_invariant: bool = True) -> None:
        self.length_invariant = checks.flag("length_invariant", length_invariant)

    def probe_step(self, weights: Tensors, direction: Tensors) -> Tensor:
        """How much larger than rho the radius of the further pass is (0-dim, > 0); only for `holds = "probe"`.

        Args:
            weights: theta.
            direction: eps_hat.
        """
        raise NotImplementedError

    def curvature(self, held: Tensors, gradients: Tensors, rho: Tensor, probe_step: Tensor | None) -> None:
        """Replace the contents of `held`, in place, by the estimate of H_rho eps_hat.

        Args:
            held: as `holds` says, one tensor per gradient; the estimate afterwards.
            gradients: g_rho; must not be changed.
            rho: the radius of the step (0-dim, or one value per tensor).
            probe_step: what `probe_step` returned; None unless `holds` is "probe".
        """
        raise NotImplementedError
