"""The default objective: the validation loss."""

from __future__ import annotations

from torch import Tensor

from .base import Evidence
from .objective import Objective


class ValidationLoss(Objective):
    """upper(rho) = L_vl(theta'(rho)), so d upper / d rho = grad L_vl(theta') . Z.

    Args:
        training_batch: the batch of the training loss in `metrics`, "next" or "same" (see `Objective`). "same" also
            updates the radius at the end of the step that Z belongs to, instead of in the next step.

    Raises:
        ValueError: `training_batch` is neither.

    Example:
        >>> import letsam
        >>> letsam.LearnedRadius(0.05, objective=ValidationLoss()).objective
        ValidationLoss(training_batch='next')

    Reference:
        arXiv:2408.08222, section 3, with the validation loss in place of the squared gap.
    """

    def derivative(self, evidence: Evidence, validation_slope: Tensor, training_slope: Tensor | None) -> Tensor:
        """The validation slope."""
        return validation_slope
