"""The squared generalization gap, in a form that a rise of the training loss cannot satisfy."""

from __future__ import annotations

from torch import Tensor

from .base import Evidence
from .squared_gap import SquaredGap

TINY = 1e-12  # a gap below it counts as 0


class OneSidedGap(SquaredGap):
    """upper(rho) = max(gap, 0)^2 / 2, where a rise of the training loss does not count as a smaller gap.

    d upper / d rho = max(gap, 0) * (v - min(t, 0)),  v = grad L_vl(theta') . Z,  t = grad L_tr(theta') . Z

    The squared gap can be made small by raising both losses, which a larger radius does: beside wrong labels
    `SquaredGap` drives the radius to its upper bound. Here t counts only where a larger radius lowers the training
    loss. A gap below 0, as there is early in training, needs no change. Gap and v are those of validation labels which
    are wrong as often as the training labels.

    The slope of a rule with `normalize=True`, such as the default's, is of cosines, without the factor gap. The gap
    grows over a run, and steps in proportion to it go too far: 25 points less on a transformer with 60% wrong labels.

    Args:
        training_batch: the batch of L_tr: "next" or "same" (see `Objective`).

    Raises:
        ValueError: `training_batch` is neither.

    Example:
        >>> import letsam
        >>> letsam.LearnedRadius(0.05, objective=OneSidedGap()).objective
        OneSidedGap(training_batch='next')

    Reference:
        Not in arXiv:2408.08222, whose equations (4) to (8) have the squared gap. Measured in docs/how-to/radii.md.
    """

    matches_labels = True

    def derivative(self, evidence: Evidence, validation_slope: Tensor, training_slope: Tensor | None) -> Tensor:
        """max(gap, 0) * (validation slope - min(training slope, 0))."""
        assert training_slope is not None
        return evidence.matched_gap.relu() * (validation_slope - training_slope.clamp(max=0))

    def slopes(self, evidence: Evidence, scale: Tensor | None) -> tuple[Tensor, Tensor]:
        """As of any objective; from cosines, the slope for the rule is without the gap."""
        plain, slope = super().slopes(evidence, scale)
        return plain, slope / evidence.matched_gap.clamp(min=TINY) if scale is None else slope
