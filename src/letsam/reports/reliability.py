"""Calibration: whether answers given with 80 % confidence are right in 80 % of the cases."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from letsam.reports.trial_outputs import RunOutputs, TrialOutputs

__all__ = ["BINS", "Reliability", "reliability_of"]

BINS = 15


@dataclass(frozen=True)
class Reliability:
    """One run in `BINS` bins of equal width by confidence. Sums, so that runs can be added up.

    Args:
        count: answers in each bin.
        confidence: sum of their confidences.
        correct: how many of them are right.
    """

    count: NDArray[np.int64]
    confidence: NDArray[np.float64]
    correct: NDArray[np.int64]

    @property
    def expected_error(self) -> float:
        """The expected calibration error, ECE: |confidence - share of right answers|, a mean over the answers."""
        return float(np.abs(self.confidence - self.correct).sum() / self.count.sum())


def reliability_of(found: TrialOutputs, run: RunOutputs) -> Reliability:
    """Sort the answers of one run by their confidence.

    The answer to a sample is its most probable class, and the confidence is its probability. Of labels that do not
    exclude each other, each is an answer of its own, yes or no.
    """
    if found.kind == "multilabel":
        yes = run.values > 0.5
        confidence = np.where(yes, run.values, 1 - run.values).ravel()
        correct = (yes == (found.targets > 0.5)).ravel()  # pyright: ignore[reportOperatorIssue]
    else:
        confidence = run.values.max(axis=1)
        correct = run.predicted == found.classes
    place = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
    return Reliability(
        count=np.bincount(place, minlength=BINS),
        confidence=np.bincount(place, weights=confidence, minlength=BINS).astype(np.float64),
        correct=np.bincount(place, weights=correct, minlength=BINS).astype(np.int64),
    )
