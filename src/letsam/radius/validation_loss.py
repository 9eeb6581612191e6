"""The default objective: the validation loss, with labels as noisy as in training."""

from __future__ import annotations

from torch import Tensor

from .. import checks
from .base import Evidence
from .objective import Objective


class ValidationLoss(Objective):
    """upper(rho) = L_vl(theta'(rho)), as if the validation labels were wrong as often as the training labels.

    d upper / d rho = (c + s (y - 1 / K)) . J Z,  J = d outputs / d theta',  c = d L_vl / d outputs

    s is the share of wrong labels by which training exceeds validation, 0 for labels that were held out from training.
    It follows from the losses of the first 50 steps or more (`ExcessNoise` of the rule's guard). Its term is that of a
    cross-entropy with K classes and labels y, and 0 for any other loss: then d upper / d rho = grad L_vl(theta') . Z.
    It makes the radius independent of whether the validation labels were cleaned.

    The outputs are those of the last module with parameters that the validation closure calls: usually the network
    (`logits` if it returns a mapping that has them). If it calls no module, or only a compiled function, s is 0.

    Args:
        training_batch: the batch of the training loss in `metrics`, "next" or "same" (see `Objective`). "same" also
            updates the radius at the end of the step that Z belongs to, instead of in the next step.
        matches_labels: False: s is 0.

    Raises:
        ValueError: `training_batch` is neither.
        TypeError: `matches_labels` is not a bool.

    Example:
        >>> import letsam
        >>> letsam.LearnedRadius(0.05, objective=ValidationLoss()).objective
        ValidationLoss(training_batch='next')

    Reference:
        arXiv:2408.08222, section 3, with the validation loss in place of the squared gap; Szegedy et al.,
        arXiv:1512.00567, section 7, for labels drawn at random.
    """

    def __init__(self, training_batch: str = "next", *, matches_labels: bool = True) -> None:
        super().__init__(training_batch)
        self.matches_labels = checks.flag("matches_labels", matches_labels)

    def derivative(self, evidence: Evidence, validation_slope: Tensor, training_slope: Tensor | None) -> Tensor:
        """The validation slope."""
        return validation_slope
