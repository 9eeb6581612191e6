"""Other ways to estimate the accuracy of samples without labels, from held-out outputs with labels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

MOST_ASSIGNED = 400  # samples that are assigned to classes; the time grows with their third power


def average_thresholded(held_out: NDArray[np.float64], right: NDArray[np.float64], new: NDArray[np.float64]) -> float:
    """Average thresholded confidence (ATC): the share of samples above a threshold of the confidence.

    The threshold is that above which as many held-out samples lie as the model is right for.

    Args:
        held_out: confidences of the held-out samples.
        right: whether each of them is right, 0 or 1.
        new: confidences of the samples without labels.

    Reference:
        Garg et al., "Leveraging Unlabeled Data to Predict Out-of-Distribution Performance", ICLR 2022.
    """
    wrong = round(float((1 - right).sum()))
    threshold = np.sort(held_out)[wrong] if wrong < len(held_out) else np.inf
    return float((new >= threshold).mean())


def transported(probabilities: NDArray[np.float64], frequencies: NDArray[np.float64]) -> float:
    """Confidence optimal transport (COT): 1 minus the cost of moving the predictions to the known class frequencies.

    It takes for granted that the classes are as frequent as they were.

    Args:
        probabilities: of the samples without labels, shape ``(samples, classes)``; the first 400 are used.
        frequencies: of the classes among the held-out samples, adding up to 1.

    Reference:
        Lu et al., "Characterizing Out-of-Distribution Error via Optimal Transport", NeurIPS 2023.
    """
    from scipy.optimize import linear_sum_assignment

    some = probabilities[:MOST_ASSIGNED]
    counts = np.floor(frequencies * len(some)).astype(int)
    lacking = np.argsort(counts - frequencies * len(some), kind="stable")[: len(some) - counts.sum()]
    counts[lacking] += 1
    costs = 1 - some[:, np.repeat(np.arange(len(frequencies)), counts)]
    return float(1 - costs[linear_sum_assignment(costs)].mean())
