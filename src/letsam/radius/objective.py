"""What the upper level makes small: the base class of objectives.

With `training_batch="next"` the training loss at theta' is that of the next step's first pass, which runs at exactly
theta'. So the only further pass is the validation pass, made before it at the same weights:

    step t      Z_t = ...                                       one buffer, kept until the next step
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
    """A function of the losses at the new weights theta'(rho), by which a learned radius is judged.

    An objective of your own overrides `derivative`.

    Args:
        training_batch: the batch on which the training loss at theta' is measured. "next": the batch of the next step,
            whose first pass runs at theta' anyway (no further pass). "same": the batch of the step itself (one further
            training pass, the paper's reading).

    Raises:
        ValueError: `training_batch` is neither.
    """

    uses_training_slope: ClassVar[bool] = False
    """Whether `derivative` needs the slope of the training loss."""

    def __init__(self, training_batch: str = "next") -> None:
        self.training_batch = checks.choice("training_batch", training_batch, TRAINING_BATCHES)

    def derivative(self, evidence: Evidence, validation_slope: Tensor, training_slope: Tensor | None) -> Tensor:
        """The derivative of the objective, given those of the losses.

        Called twice for each update: with the slopes along Z, which gives d upper / d rho, and with these slopes in the
        units of the rule, which gives what moves the radius.

        Args:
            evidence: has `validation_loss`, `training_loss` and `gap`.
            validation_slope: derivative of the validation loss (0-dim, or one for each radius).
            training_slope: derivative of the training loss; None unless `uses_training_slope`.

        Returns:
            The derivative, in the shape of the slopes.
        """
        raise NotImplementedError

    def slopes(self, evidence: Evidence, scale: Tensor | None) -> tuple[Tensor, Tensor]:
        """d upper / d rho, and the slope in the units of the rule: of cosines, or divided by `scale`."""
        validation, training = evidence.validation_slope, evidence.training_slope
        assert validation is not None
        plain = self.derivative(evidence, validation.value, None if training is None else training.value)
        scaled_training = None if training is None else training.scaled(scale)
        return plain, self.derivative(evidence, validation.scaled(scale), scaled_training)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(training_batch={self.training_batch!r})"
