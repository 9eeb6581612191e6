"""A classifier two-sample test: can a model tell two samples apart?"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

FOLDS = 5
MOST = 1000  # of each sample


@dataclass(frozen=True)
class TwoSampleTest:
    """The area under the ROC curve of a classifier that tells sample one from sample two, cross-validated.

    Args:
        auc: 0.5 if the samples cannot be told apart, 1 if they always can.
        low: lower end of the 95% interval.
        high: upper end.
        p_value: of the hypothesis that both come from one distribution, one-sided.
    """

    auc: float
    low: float
    high: float
    p_value: float

    def __str__(self) -> str:
        return f"AUC {self.auc:.2f} (95% interval {self.low:.2f} to {self.high:.2f})"


def two_sample_test(first: Tensor, second: Tensor, seed: int = 0) -> TwoSampleTest:
    """Test whether rows of features come from one distribution.

    The score of a row is the mean probability of a logistic regression and of 30 extremely randomized trees, trained on
    the other folds. The area is the mean over the folds; each has the variance of Hanley and McNeil (1982), and under
    the hypothesis that of the Mann-Whitney statistic. Folds share training data, so the variance of their mean has the
    correction of Nadeau and Bengio; without it, the test found a difference in 14% of equal pairs at a level of 5%.

    Args:
        first: shape ``(samples, features)``; of more than 1,000, as many at random are used.
        second: the same number of features.
        seed: of folds, trees and selection.

    Raises:
        ValueError: fewer than 10 samples on a side.

    Reference:
        Lopez-Paz and Oquab, "Revisiting Classifier Two-Sample Tests", ICLR 2017; Nadeau and Bengio, "Inference for the
        Generalization Error", Machine Learning 2003.
    """
    import numpy as np
    from scipy.stats import norm
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedKFold

    for side in (first, second):
        if len(side) < 2 * FOLDS:
            raise ValueError(f"a two-sample test needs at least {2 * FOLDS} samples on each side, got {len(side)}")
    stream = torch.Generator().manual_seed(seed)
    sides = [side[torch.randperm(len(side), generator=stream)[:MOST]] for side in (first, second)]
    rows = torch.cat(sides).double().numpy()
    labels = np.repeat([0, 1], [len(side) for side in sides])
    areas, errors, null = [], [], []
    for train, test in StratifiedKFold(FOLDS, shuffle=True, random_state=seed % 2**32).split(rows, labels):
        scores = np.mean([m.fit(rows[train], labels[train]).predict_proba(rows[test])[:, 1] for m in _models(seed)], 0)
        area = float(roc_auc_score(labels[test], scores))
        zeros, ones = int((labels[test] == 0).sum()), int((labels[test] == 1).sum())
        areas.append(area)
        errors.append(_variance(area, ones, zeros))
        null.append((zeros + ones + 1) / (12 * zeros * ones))
    auc = float(np.mean(areas))
    error, spread = (math.sqrt(sum(v) / FOLDS * (1 / FOLDS + 1 / (FOLDS - 1))) for v in (errors, null))
    p_value = float(norm.sf((auc - 0.5) / spread))
    return TwoSampleTest(auc, max(0.0, auc - 1.96 * error), min(1.0, auc + 1.96 * error), p_value)


def _models(seed: int) -> list[Any]:
    from sklearn.ensemble import ExtraTreesClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return [
        make_pipeline(StandardScaler(), LogisticRegression(C=0.05, max_iter=200, class_weight="balanced")),
        ExtraTreesClassifier(30, min_samples_leaf=3, class_weight="balanced", random_state=seed % 2**32),
    ]


def _variance(area: float, ones: int, zeros: int) -> float:
    """Hanley and McNeil's variance of an area under the curve."""
    both, twice = area / (2 - area), 2 * area**2 / (1 + area)
    numerator = area * (1 - area) + (ones - 1) * (both - area**2) + (zeros - 1) * (twice - area**2)
    return max(numerator, 0.0) / (ones * zeros)
