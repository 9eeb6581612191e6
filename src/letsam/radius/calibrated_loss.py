"""Objective: the validation loss with one-sided calibration."""

from __future__ import annotations

from .validation_loss import ValidationLoss


class CalibratedLoss(ValidationLoss):
    """upper(rho) = L_vl(theta'(rho)), but not for the confidence that a network lacks.

    d upper / d rho = c' . J Z,  J = d outputs / d theta',  c = d L_vl / d outputs z + s (y - 1 / K)

    c has the s of `ValidationLoss`. c' is c without the component of each sample along its outputs, if scaling all
    outputs up would lower the loss; else c' = c. So underconfidence is no evidence for a smaller radius, while
    overconfidence is evidence for a larger one. With fewer than three outputs per sample, c' is without the component
    of the whole batch. The outputs are found as for `ValidationLoss`; if there are none, c' = c.

    It needs no cross-entropy: for other losses with validation targets that are more certain than those of training.
    Where a network is underconfident on its training data too, a smaller radius may be what it needs, so this is not
    the default.

    Args:
        training_batch: as for `ValidationLoss`.
        matches_labels: as for `ValidationLoss`.

    Raises:
        ValueError: `training_batch` is neither "next" nor "same".

    Example:
        >>> import letsam
        >>> letsam.LearnedRadius(0.05, objective=CalibratedLoss()).objective
        CalibratedLoss(training_batch='next')

    Reference:
        Not in arXiv:2408.08222; Guo et al., arXiv:1706.04599, for calibration by the scale of the outputs.
    """

    calibrates = True
