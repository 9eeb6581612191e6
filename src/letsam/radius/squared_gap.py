"""The paper's objective: the squared generalization gap."""

from __future__ import annotations

from torch import Tensor

from .base import Evidence
from .objective import Objective


class SquaredGap(Objective):
    """upper(rho) = gap^2 / 2, gap = L_vl(theta'(rho)) - L_tr(theta'(rho)).

    d upper / d rho = gap * (grad L_vl(theta') - grad L_tr(theta')) . Z

    Args:
        training_batch: the batch of L_tr: "next" or "same", which is the paper's (see `Objective`).

    Raises:
        ValueError: `training_batch` is neither.

    Example:
        >>> import letsam
        >>> letsam.LearnedRadius(0.05, objective=SquaredGap(training_batch="same")).objective
        SquaredGap(training_batch='same')

    Reference:
        arXiv:2408.08222, equations (4) to (8).
    """

    uses_training_slope = True

    def derivative(self, evidence: Evidence, validation_slope: Tensor, training_slope: Tensor | None) -> Tensor:
        """gap * (validation slope - training slope)."""
        assert training_slope is not None
        return evidence.gap * (validation_slope - training_slope)
