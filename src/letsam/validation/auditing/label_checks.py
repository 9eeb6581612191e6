"""Shares of classes on both sides, and labels that are probably wrong."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import torch
from torch import Tensor

FOLDS = 5
WRONG = 0.01  # fraction of wrong labels that is tolerated
EVENLY = (
    0.45  # misses where the classifier is sure, relative to all; 0 to 0.2 for overlapping classes, 0.5 to 0.8 for 10%
)
HOPELESS = 0.45  # misses of a classifier that tells nothing of labels
MOST = 5000  # samples for the classifier


def shares_differ(train: Tensor, validation: Tensor, kind: str) -> float:
    """The p-value of the hypothesis that both sides have the same distribution of targets.

    A chi-square test for classes (rare classes taken together), the smallest of one for each label times their number
    for multi-label targets, and the test of Kolmogorov and Smirnov for numbers.
    """
    from scipy.stats import chi2_contingency, ks_2samp

    if kind == "regression":
        columns = zip(train.reshape(len(train), -1).T, validation.reshape(len(validation), -1).T, strict=True)
        values = [float(ks_2samp(a.numpy(), b.numpy())[1]) for a, b in columns]  # pyright: ignore[reportArgumentType]
        return min(1.0, min(values) * len(values))
    if kind == "multilabel":
        values = [
            shares_differ(a.long(), b.long(), "classification") for a, b in zip(train.T, validation.T, strict=True)
        ]
        return min(1.0, min(values) * len(values))
    _, numbers = torch.unique(torch.cat([train, validation]), return_inverse=True)
    count = int(numbers.max()) + 1
    table = torch.stack(
        [torch.bincount(part, minlength=count) for part in numbers.split([len(train), len(validation)])]
    )
    expected = table.sum(0) * len(validation) / table.sum()
    rare = expected < 5  # the test is not valid for them one by one
    if int(rare.sum()) > 1:
        table = torch.cat([table[:, ~rare], table[:, rare].sum(1, keepdim=True)], dim=1)
    table = table[:, table.sum(0) > 0]
    return 1.0 if table.shape[1] < 2 else float(chi2_contingency(table.numpy())[1])  # pyright: ignore[reportArgumentType]


@dataclass(frozen=True)
class SuspectedLabels:
    """What a classifier that has not seen them says of labels.

    Args:
        which: places of the labels that are probably wrong, the most suspicious first.
        places: of all samples that were classified.
        confidence: of the classifier in the class that it predicts.
        missed: whether that is another class than the label.
    """

    which: Tensor
    places: Tensor
    confidence: Tensor
    missed: Tensor

    def contradicted(self, among: Tensor, level: float) -> bool:
        """Whether labels are wrong, rather than classes overlapping, among these samples (bool, for all places).

        Where classes overlap, the classifier errs where it is unsure. Where labels are wrong, it misses them where it
        is sure as well. So they are wrong if it misses more than 1% of the third of which it is surest, beyond chance,
        and at least 0.45 times as often there as among all. A classifier that misses 45% of all labels cannot tell.
        """
        from scipy.stats import beta

        missed, confidence = self.missed[among], self.confidence[among]
        count = len(missed) // 3
        if not count or float(missed.float().mean()) >= HOPELESS:
            return False
        surest = missed[confidence.argsort(descending=True, stable=True)[:count]]
        hits = int(surest.sum())
        lowest = float(beta.ppf(level, hits, count - hits + 1)) if hits else 0.0
        return lowest > WRONG and hits / count >= EVENLY * float(missed.float().mean())


def suspected(rows: Tensor, labels: Tensor, seed: int) -> SuspectedLabels:
    """Samples whose label is probably wrong, by cleanlab's confident learning.

    The probabilities are those of 50 extremely randomized trees, cross-validated.

    Returns:
        The places of suspected labels, and what the classifier says of all of them.

    Raises:
        ImportError: cleanlab is missing.

    Reference:
        Northcutt et al., "Confident Learning: Estimating Uncertainty in Dataset Labels", JAIR 2021.
    """
    try:
        from cleanlab.filter import find_label_issues
    except ImportError as error:
        raise ImportError('audits need cleanlab; install it with `pip install "letsam[validation]"`') from error
    import numpy as np
    from sklearn.ensemble import ExtraTreesClassifier
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    _, numbers = torch.unique(labels, return_inverse=True)
    places = torch.arange(len(labels))
    enough = torch.bincount(numbers) >= FOLDS
    places = places[enough[numbers]]
    if len(places) > MOST:
        places = places[torch.randperm(len(places), generator=torch.Generator().manual_seed(seed))[:MOST]]
    if int(enough.sum()) < 2:
        return SuspectedLabels(
            torch.zeros(0, dtype=torch.int64), places[:0], torch.zeros(0), torch.zeros(0, dtype=torch.bool)
        )
    used = torch.unique(numbers[places], return_inverse=True)[1].numpy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed % 2**32)
        trees = ExtraTreesClassifier(50, random_state=seed % 2**32)
        told = np.asarray(cross_val_predict(trees, rows[places].numpy(), used, cv=folds, method="predict_proba"))
        found = find_label_issues(
            used, told, filter_by="confident_learning", return_indices_ranked_by="self_confidence", n_jobs=1
        )
    return SuspectedLabels(
        places[torch.as_tensor(np.asarray(found), dtype=torch.int64)],
        places,
        torch.from_numpy(told.max(1)),
        torch.from_numpy(told.argmax(1) != used),
    )
