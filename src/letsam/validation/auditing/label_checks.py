"""Shares of classes on both sides, and labels that are probably wrong."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from letsam.validation.auditing.noise_model import LabelNoise, NoiseTest, pooled

CHUNKS, DIVISIONS = 10, 1000  # random divisions of samples of several classes
FOLDS = 5
TREES = 50
SKILL = 0.4  # Cohen's kappa; below, a classifier knows too little of the labels
MOST = 5000  # samples for the classifiers


def shares_differ(train: Tensor, validation: Tensor, kind: str) -> float:
    """The p-value of the hypothesis that both sides have the same distribution of targets.

    For classes a permutation test, which is exact where classes are rare; for multi-label targets the smallest p-value
    of a test for each label times their number; for numbers the test of Kolmogorov and Smirnov.
    """
    from scipy.stats import ks_2samp

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
    ).numpy()
    return 1.0 if count < 2 else _two_values(table) if count == 2 else _classes(table)


def _two_values(table: Any) -> float:
    from scipy.stats import chi2_contingency, fisher_exact

    rare = (table.sum(axis=1, keepdims=True) * table.sum(axis=0) / table.sum()).min() < 5
    found: Any = (fisher_exact if rare else chi2_contingency)(table)
    return float(found[1])


def _classes(table: Any) -> float:
    """Compare Pearson's chi-square plus the likelihood ratio with those of random divisions.

    Pearson's sees a class that has become frequent better, the likelihood ratio classes that are missing.
    """
    import numpy as np

    whole = table.sum(axis=0)
    expected = table.sum(axis=1, keepdims=True) * whole / table.sum()

    def statistic(held_out: Any) -> Any:
        found = 0.0
        for seen, usual in ((whole - held_out, expected[0]), (held_out, expected[1])):
            found = found + ((seen - usual) ** 2 / usual + 2 * seen * np.log(np.maximum(seen, 1) / usual)).sum(axis=-1)
        return found

    stream, least = np.random.default_rng(0), statistic(table[1]) - 1e-9
    as_far = 0
    for _ in range(CHUNKS):
        drawn = stream.multivariate_hypergeometric(whole, int(table[1].sum()), size=DIVISIONS, method="marginals")
        as_far += int((statistic(drawn) >= least).sum())
    return (1 + as_far) / (1 + CHUNKS * DIVISIONS)


@dataclass(frozen=True)
class SuspectedLabels:
    """What classifiers that have not seen them say of labels.

    Args:
        which: places of the labels that are probably wrong, the most suspicious first.
        places: of all samples that were classified.
        predicted: the number of the class that the best classifier predicts.
        labels: the number of the class of the label.
        test: whether labels are wrong; None where nothing could be classified.
    """

    which: Tensor
    places: Tensor
    predicted: Tensor
    labels: Tensor
    test: NoiseTest | None = None

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

    @property
    def can_tell(self) -> bool:
        """Whether the classifier knows enough of the labels."""
        return self.test is not None and self.skill >= SKILL

    def contradicted(self, level: float) -> bool:
        """Whether labels are wrong, rather than classes overlapping.

        Args:
            level: probability of a wrong answer for each of two tests: labels are wrong, more of them in validation.
        """
        test = self.test
        return test is not None and self.can_tell and min(test.everywhere, test.in_validation) < level


def suspected(rows: Tensor, labels: Tensor, validation: Tensor, seed: int) -> SuspectedLabels:
    """Samples whose label is probably wrong, by what classifiers say that have not seen it.

    The classifiers are a logistic regression, 50 extremely randomized trees and both together, cross-validated. Labels
    are suspected where it is more likely that they were drawn at random than that classes overlap, by the classifier
    that explains all labels best (see `LabelNoise`).

    Args:
        rows: of numbers, for each sample.
        labels: of the samples.
        validation: whether a sample is one of validation.
        seed: of folds, trees and selection.
    """
    _, numbers = torch.unique(labels, return_inverse=True)
    places = torch.arange(len(labels))
    enough = torch.bincount(numbers) >= FOLDS
    places = places[enough[numbers]]
    if len(places) > MOST:
        places = places[torch.randperm(len(places), generator=torch.Generator().manual_seed(seed))[:MOST]]
        enough = torch.bincount(numbers[places], minlength=len(enough)) >= FOLDS
        places = places[enough[numbers[places]]]
    if int(enough.sum()) < 2:
        none = places[:0]
        return SuspectedLabels(none, none, none, none)
    used = torch.unique(numbers[places], return_inverse=True)[1].numpy()
    scores = _scores(rows[places].numpy(), used, seed)
    scores.append(pooled(scores))
    test = NoiseTest.of([LabelNoise(one, used, validation[places].numpy()) for one in scores])
    doubts = torch.from_numpy(test.best.doubts())
    order = doubts.argsort(descending=True, stable=True)
    return SuspectedLabels(
        places[order[doubts[order] > 0.5]],
        places,
        torch.from_numpy(test.best.scores.argmax(axis=1)),
        torch.from_numpy(used),
        test,
    )


def _scores(rows: Any, labels: Any, seed: int) -> list[Any]:
    """Logarithms of out-of-fold probabilities, of each classifier."""
    import numpy as np
    from sklearn.ensemble import ExtraTreesClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed % 2**32)
    models = (
        (make_pipeline(StandardScaler(), LogisticRegression(C=0.05, max_iter=200)), 10_000),
        (ExtraTreesClassifier(TREES, random_state=seed % 2**32), TREES),
    )
    found: list[Any] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for model, count in models:  # a vote more, for all classes, so that none has the probability zero
            told = np.asarray(cross_val_predict(model, rows, labels, cv=folds, method="predict_proba"), dtype=float)
            found.append(np.log((count * told + 1 / told.shape[1]) / (count + 1)))
    return found
