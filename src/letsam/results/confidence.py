"""Probabilities from the outputs of a model, and calibration: whether 80 % confidence means 80 % right answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from letsam.results.predicted import Kind, Predictions

__all__ = ["BINS", "Reliability", "expected_calibration_error", "probabilities_of", "reliability"]

BINS = 15

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Reliability:
    """Answers in `BINS` bins of equal width by confidence. Sums, so that runs can be added up.

    Args:
        count: answers in each bin.
        confidence: sum of their confidences.
        correct: how many of them are right.
    """

    count: NDArray[np.int64]
    confidence: Numbers
    correct: NDArray[np.int64]

    @property
    def expected_error(self) -> float:
        """The expected calibration error, ECE: |confidence - share of right answers|, a mean over the answers."""
        return float(np.abs(self.confidence - self.correct).sum() / self.count.sum())


def probabilities_of(one: Predictions) -> Numbers:
    """The outputs of a run as probabilities; of a regression the outputs themselves.

    Scores become probabilities by the softmax, or by the sigmoid where labels do not exclude each other. A model that
    returns probabilities already, as some do, is taken at its word.
    """
    scores = one.outputs.astype(np.float64)
    if one.kind == "regression":
        return scores
    bounded = bool(((scores >= 0) & (scores <= 1)).all())
    if one.kind == "multilabel":
        return scores if bounded else np.exp(-np.logaddexp(0, -scores))
    if bounded and np.allclose(scores.sum(axis=1), 1, atol=1e-3):
        return scores
    raised = np.exp(scores - scores.max(axis=1, keepdims=True))
    return raised / raised.sum(axis=1, keepdims=True)


def reliability(kind: Kind, probabilities: Numbers, targets: NDArray[np.generic]) -> Reliability:
    """Sort answers by their confidence.

    The answer to a sample is its most probable class, and the confidence is its probability. Of labels that do not
    exclude each other, each is an answer of its own, yes or no.

    Args:
        kind: "classification" or "multilabel".
        probabilities: shape ``(samples, outputs)``.
        targets: classes, shape ``(samples,)``, or labels, shape ``(samples, outputs)``.
    """
    if kind == "multilabel":
        yes = probabilities > 0.5
        confidence = np.where(yes, probabilities, 1 - probabilities).ravel()
        correct = (yes == (targets > 0.5)).ravel()  # pyright: ignore[reportOperatorIssue]
    else:
        confidence = probabilities.max(axis=1)
        correct = probabilities.argmax(axis=1) == targets.astype(np.int64)
    place = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
    return Reliability(
        count=np.bincount(place, minlength=BINS),
        confidence=np.bincount(place, weights=confidence, minlength=BINS).astype(np.float64),
        correct=np.bincount(place, weights=correct, minlength=BINS).astype(np.int64),
    )


def expected_calibration_error(one: Predictions) -> float | None:
    """The ECE of a run on its test set; None for a regression, and where an output is not finite.

    Example:
        >>> from letsam.results.predicted import Predictions
        >>> scores = np.array([[0.8, 0.2], [0.2, 0.8]], dtype=np.float32)
        >>> round(expected_calibration_error(Predictions("sgd", 0, "classification", scores, np.array([0, 0]))), 3)
        0.3
    """
    if one.kind == "regression" or not np.isfinite(one.outputs).all():
        return None
    return reliability(one.kind, probabilities_of(one), one.targets).expected_error
