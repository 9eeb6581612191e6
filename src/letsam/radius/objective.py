"""Objective: the base class of what the upper level minimizes.

With `training_batch="next"`, the training loss at theta' is that of the next step's first pass, which runs at exactly
theta'. So the only further pass is the validation pass, which precedes it at the same weights:

    step t      Z_t = d theta' / d rho                          one buffer, kept until the next step
    step t+1    validation pass -> L_vl, grad L_vl . Z_t
                first training pass -> L_tr, grad L_tr . Z_t    -> rho_(t+1), used by this very step
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from .. import checks
from .base import Evidence

TRAINING_BATCHES = ("next", "same")


class Objective:
    """upper(rho): a function of the losses at the new weights theta'(rho), which a learned radius minimizes.

    An objective of your own overrides `derivative`. It sets `uses_training_slope` if it needs the training slope.

    Args:
        training_batch: the batch on which the training loss at theta' is measured. "next": the batch of the next step,
            whose first pass runs at theta' anyway (no further pass). "same": the batch of the step itself, as in the
            paper (one further training pass).

    Raises:
        ValueError: `training_batch` is neither.

    Example:
        >>> import letsam
        >>> class LogLoss(Objective):  # upper = log(L_vl)
        ...     def derivative(self, evidence, validation_slope, training_slope):
        ...         return validation_slope / evidence.validation_loss
        >>> letsam.LearnedRadius(0.05, objective=LogLoss()).objective
        LogLoss(training_batch='next')

    Reference:
        arXiv:2408.08222, equations (4) to (8), for the squared gap.
    """

    uses_training_slope: ClassVar[bool] = False
    """Whether `derivative` needs the slope of the training loss."""

    matches_labels: bool = False
    """Whether the validation slope is that of labels which are wrong as often as the training labels."""

    calibrates: bool = False
    """Whether the validation slope is measured without the part of the gradient that asks for more confidence."""

    def __init__(self, training_batch: str = "next") -> None:
        self.training_batch = checks.choice("training_batch", training_batch, TRAINING_BATCHES)

    def derivative(self, evidence: Evidence, validation_slope: Tensor, training_slope: Tensor | None) -> Tensor:
        """The derivative of the objective, given the derivatives of the losses.

        Called twice per update: with the derivatives with respect to rho, for d upper / d rho (reported in the
        metrics), and with the slopes in the units of the rule, for the slope that the rule is given.

        Args:
            evidence: has `validation_loss`, `training_loss` and `gap` (0-dim).
            validation_slope: derivative of the validation loss (0-dim, or one value per radius).
            training_slope: derivative of the training loss (same shape); None unless `uses_training_slope`.

        Returns:
            The derivative, in the shape of the slopes.
        """
        raise NotImplementedError

    def slopes(self, evidence: Evidence, scale: Tensor | None) -> tuple[Tensor, Tensor]:
        """d upper / d rho, and the slope for the rule: from cosines if `scale` is None, else from slopes / `scale`."""
        validation, training = evidence.validation_slope, evidence.training_slope
        assert validation is not None
        plain = self.derivative(evidence, validation.value, None if training is None else training.value)
        scaled_training = None if training is None else training.scaled(scale)
        return plain, self.derivative(evidence, validation.scaled(scale), scaled_training)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(training_batch={self.training_batch!r})"
