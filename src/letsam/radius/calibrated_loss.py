"""Objective: the validation loss with one-sided calibration."""

from __future__ import annotations

from .validation_loss import ValidationLoss


class CalibratedLoss(ValidationLoss):
    """upper(rho) = L_vl(theta'(rho)), but not for the confidence that a network lacks.

    d upper / d rho = c' . J Z, J = d outputs / d theta', c = d L_vl / d outputs z

    c' is c without the component of each sample along its outputs, if scaling all outputs up would lower the loss;
    else c' = c. So underconfidence is no evidence for a smaller radius, while overconfidence is evidence for a larger
    one. This makes the radius independent of how certain the validation labels are, for example clean labels next to
    noisy training labels. With fewer than three outputs per sample, c' is without the component of the whole batch.

    The outputs are those of the last module with parameters that the validation closure calls: usually the network
    (`logits` if it returns a mapping that has them). If it calls no module, or only a compiled function, c' = c.

    Args:
        training_batch: as for `ValidationLoss`.

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
