"""Shares of classes on both sides, and labels that are probably wrong."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import torch
from torch import Tensor

FOLDS = 5
WRONG = 0.01  # fraction of wrong labels that is tolerated
EVENLY = 0.3  # misses where the classifier is sure, relative to all: 0.5 to 0.8 where a tenth of the labels are wrong
SKILL = 0.5  # Cohen's kappa; below, a classifier knows too little of the labels
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
        predicted: the number of that class.
        labels: the number of the class of the label.
    """

    which: Tensor
    places: Tensor
    confidence: Tensor
    predicted: Tensor
    labels: Tensor

    @property
    def missed(self) -> Tensor:
        """Whether another class than the label is predicted."""
        return self.predicted != self.labels

    @property
    def skill(self) -> float:
        """Cohen's kappa of predictions and labels: 0 for guesses with the same shares of classes, 1 for agreement."""
        count = len(self.labels)
        classes = int(torch.cat([self.labels, self.predicted]).max()) + 1
        shares = [torch.bincount(of, minlength=classes).double() / count for of in (self.labels, self.predicted)]
        by_chance = float((shares[0] * shares[1]).sum())
        return 1 - float(self.missed.double().mean()) / (1 - by_chance) if by_chance < 1 else 0.0

    def contradicted(self, validation: Tensor, level: float) -> bool:
        """Whether labels are wrong, rather than classes overlapping.

        Where classes overlap, the classifier errs where it is unsure. Where labels are wrong, it misses them where it
        is sure as well. So they are wrong if it misses more than 1% of the third of which it is surest, and more than
        0.3 times as often there as among all, both beyond chance (Clopper and Pearson). Validation labels are wrong if
        it misses more of them than of training labels in that third, beyond chance (Fisher's exact test). A classifier
        whose kappa is below 0.5 cannot tell.

        Args:
            validation: whether a place is that of a validation sample; bool, for all places.
            level: probability of a wrong answer for each of the two tests.
        """
        from scipy.stats import beta, fisher_exact

        count = len(self.places) // 3
        if not count or self.skill < SKILL:
            return False
        surest = self.confidence.argsort(descending=True, stable=True)[:count]
        missed, ours = self.missed[surest], validation[surest]
        hits = int(missed.sum())
        lowest = float(beta.ppf(level, hits, count - hits + 1)) if hits else 0.0
        if lowest > max(WRONG, EVENLY * float(self.missed.double().mean())):
            return True
        table = [[int((missed & side).sum()), int((~missed & side).sum())] for side in (ours, ~ours)]
        worse = float(fisher_exact(table, alternative="greater")[1]) < level  # pyright: ignore[reportArgumentType]
        of_ours = self.missed[validation].double().mean() if bool(validation.any()) else torch.tensor(1.0)
        return worse and table[0][0] >= EVENLY * float(of_ours) * sum(table[0])


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
        none = places[:0]
        return SuspectedLabels(none, none, torch.zeros(0), none, none)
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
        torch.from_numpy(told.argmax(1)),
        torch.from_numpy(used),
    )
