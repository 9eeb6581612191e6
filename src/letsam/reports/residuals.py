"""What is left of the targets of a regression after the predictions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from letsam.reports.trial_outputs import RunOutputs, TrialOutputs

__all__ = ["Residuals", "residual_edges", "residuals_of"]

DRAWN = 400
"""So many samples of a run are drawn, evenly spaced over the test set; the numbers are of all."""

BINS = 30


@dataclass(frozen=True)
class Residuals:
    """One run.

    Args:
        rmse: root of the mean squared residual.
        mae: mean absolute residual.
        r2: 1 minus the mean squared residual, divided by the variance of the targets; NaN if all targets are equal.
        targets: of the samples that are drawn.
        predicted: for these.
        counts: how many residuals (target minus prediction) lie between the edges; those beyond are in the outer bins.
    """

    rmse: float
    mae: float
    r2: float
    targets: NDArray[np.float64]
    predicted: NDArray[np.float64]
    counts: NDArray[np.int64]


def residual_edges(found: TrialOutputs) -> NDArray[np.float64]:
    """The edges of the bins for all runs: from the first to the last percentile of all residuals."""
    residuals = np.concatenate([(_targets(found) - run.values).ravel() for run in found.runs])
    low, high = np.percentile(residuals, [1, 99])
    pad = 1e-9 + 0.001 * max(abs(low), abs(high)) if low == high else 0.0
    return np.linspace(low - pad, high + pad, BINS + 1)


def residuals_of(found: TrialOutputs, run: RunOutputs, edges: NDArray[np.float64]) -> Residuals:
    """The residuals of one run; several numbers for each sample count as one list."""
    targets, predicted = _targets(found).ravel(), run.values.ravel()
    residuals = targets - predicted
    variance = float(targets.var())
    squared = float((residuals**2).mean())
    drawn = np.unique(np.linspace(0, len(targets) - 1, min(DRAWN, len(targets))).astype(np.int64))
    return Residuals(
        rmse=squared**0.5,
        mae=float(np.abs(residuals).mean()),
        r2=1 - squared / variance if variance else float("nan"),
        targets=targets[drawn],
        predicted=predicted[drawn],
        counts=np.histogram(np.clip(residuals, edges[0], edges[-1]), edges)[0],
    )


def _targets(found: TrialOutputs) -> NDArray[np.float64]:
    return found.targets.astype(np.float64)
