"""How many labels are wrong: the misses of a classifier that overlapping classes do not explain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

TOLERATED = 0.01  # fraction of wrong labels
OVERLAP = 0.1  # of the misses that overlap explains, tolerated besides: the link of a classifier is never quite right
AS_GOOD = 20.0  # nats, by which a classifier may explain the labels worse than the best one
QUANTILE = 1.92  # of a chi-square variable with one degree of freedom, 95%, halved


@dataclass(frozen=True)
class Fitted:
    """A fit of `LabelNoise`.

    Args:
        loss: negative logarithm of the likelihood.
        slope: of the scores.
        shares: of wrong labels, in training and in validation.
    """

    loss: float
    slope: float
    shares: tuple[float, float]


class LabelNoise:
    """Scores of a classifier that has not seen the labels, and how they explain them.

    A label is that of class k with the probability

        (1 - e) softmax(w s)_k + e / K,

    of the scores s, a slope w that calibrates them, and a share of labels that are drawn at random; (1 - 1/K) e of all
    are wrong. Where classes overlap, the classifier errs where its scores are close together, which the slope explains.
    Where labels are wrong, it misses them whatever the scores are. This is the lapse rate of psychometric functions.

    Args:
        scores: shape ``(samples, classes)``, such as logarithms of probabilities.
        labels: numbers of classes.
        validation: whether a sample is one of validation.

    Reference:
        Wichmann and Hill, "The psychometric function: I. Fitting, sampling, and goodness of fit", 2001.
    """

    def __init__(self, scores: Any, labels: Any, validation: Any) -> None:
        self.scores = np.asarray(scores, dtype=np.float64)
        self.scores = self.scores - self.scores.mean(axis=1, keepdims=True)
        self.labels, self.validation = np.asarray(labels), np.asarray(validation)
        self.classes = self.scores.shape[1]
        self._own = self.scores[np.arange(len(self.labels)), self.labels]

    @cached_property
    def together(self) -> Fitted:
        """The fit with one share for training and validation."""
        return self.fit(None)

    @cached_property
    def apart(self) -> Fitted:
        """The fit with a share for each."""
        return self.fit(None, None)

    @cached_property
    def told(self) -> Any:
        """Calibrated probabilities of the classes, without wrong labels."""
        return _softmax(self.together.slope * self.scores)

    def everywhere(self) -> float:
        """How significantly more labels are wrong than is tolerated: the signed root of the likelihood ratio."""
        most = self.tolerated(np.ones(len(self.labels), dtype=bool))
        return _signed_root(self.fit(most).loss - self.together.loss, self.together.shares[0] > most)

    def in_validation(self) -> float:
        """How significantly more labels are wrong in validation than in training and than is tolerated."""
        if not self.validation.any():
            return 0.0
        most = self.tolerated(self.validation)
        ours, held_out = self.apart.shares
        worse = held_out > ours and held_out > most
        return _signed_root(min(self.together.loss, self.fit(None, most).loss) - self.apart.loss, worse)

    def tolerated(self, which: Any) -> float:
        """The share of wrong labels that is no fault: 1%, or a tenth of the misses that overlap explains."""
        return min(0.5, max(TOLERATED, OVERLAP * float(1 - self.told[which].max(axis=1).mean())))

    def doubts(self) -> Any:
        """The probability of each label to be one of those that are drawn at random."""
        shares = np.where(self.validation, self.apart.shares[1], self.apart.shares[0])
        rates = shares / (1 - 1 / self.classes)
        told = _softmax(self.apart.slope * self.scores)[np.arange(len(self.labels)), self.labels]
        return rates / self.classes / np.maximum((1 - rates) * told + rates / self.classes, 1e-12)

    def interval(self) -> tuple[float, float]:
        """The 95% interval of the share of wrong labels, by the profile of the likelihood."""
        from scipy.optimize import brentq

        best, limit = self.together, 1 - 1 / self.classes
        share = best.shares[0]

        def beyond(one: float) -> float:
            return self.fit(one).loss - best.loss - QUANTILE

        def border(far: float, otherwise: float) -> float:
            found: Any = otherwise if far == share or beyond(far) <= 0 else brentq(beyond, far, share, xtol=1e-3)
            return float(found)

        return border(0.0, 0.0), border(max(share, 0.95 * limit), limit)

    def fit(self, *shares: float | None) -> Fitted:
        """Maximize the likelihood.

        Args:
            shares: of wrong labels, in training and in validation, or one for both; None: it is fitted.
        """
        from scipy.optimize import minimize

        free = [place for place, share in enumerate(shares) if share is None]
        sides = [self.validation == bool(place) for place in range(2)] if len(shares) == 2 else [slice(None)]
        limit = 1 - 1 / self.classes

        def loss(point: Any) -> tuple[float, Any]:
            rates = np.empty(len(self.labels))
            for place, side in enumerate(sides):
                share = shares[place]
                rates[side] = (point[1 + free.index(place)] if share is None else share) / limit
            return self._loss(point[0], rates, [sides[place] for place in free])

        starts = [(self._usual_slope, 0.02), (self._usual_slope, 0.2)]
        if shares != (None,):
            starts.append((self.together.slope, self.together.shares[0]))
        bounds = [(0.0, 100.0), *[(0.0, 0.95 * limit)] * len(free)]
        tried: list[Any] = []
        for slope, start in starts if free else starts[1:]:
            first = [slope, *[min(start, 0.9 * limit)] * len(free)]
            tried.append(minimize(loss, first, jac=True, method="L-BFGS-B", bounds=bounds))
        best = min(tried, key=lambda one: float(one.fun))
        found = [float(best.x[1 + free.index(p)]) if share is None else share for p, share in enumerate(shares)]
        return Fitted(float(best.fun), float(best.x[0]), (found[0], found[-1]))

    @cached_property
    def _usual_slope(self) -> float:
        """Where to start: differences of about two between the scores."""
        return 2 / max(1e-9, float(np.ptp(self.scores, axis=1).mean()))

    def _loss(self, slope: float, rates: Any, sides: Sequence[Any]) -> tuple[float, Any]:
        told = _softmax(slope * self.scores)
        right = told[np.arange(len(self.labels)), self.labels]
        likely = np.maximum((1 - rates) * right + rates / self.classes, 1e-12)
        by_slope = (1 - rates) / likely * right * (self._own - (told * self.scores).sum(axis=1))
        by_rate = (1 / self.classes - right) / likely / (1 - 1 / self.classes)
        return -float(np.log(likely).sum()), -np.array([by_slope.sum(), *[by_rate[side].sum() for side in sides]])


@dataclass(frozen=True)
class NoiseTest:
    """Whether labels are wrong, by several classifiers.

    Args:
        best: the classifier that explains the labels best.
        everywhere: p-value of the hypothesis that no more labels are wrong than is tolerated.
        in_validation: of the hypothesis that no more of them are wrong in validation than in training.
    """

    best: LabelNoise
    everywhere: float
    in_validation: float

    @classmethod
    def of(cls, classifiers: Sequence[LabelNoise]) -> NoiseTest:
        """Test with each classifier that explains the labels nearly as well as the best one (Bonferroni).

        Nothing is found where the best one itself estimates no more wrong labels than are tolerated.
        """
        from scipy.stats import norm

        best = min(classifiers, key=lambda one: one.together.loss)
        good = [one for one in classifiers if one.together.loss < best.together.loss + AS_GOOD]
        p_values: list[float] = []
        for test in (LabelNoise.everywhere, LabelNoise.in_validation):
            highest = max(map(test, good)) if test(best) > 0 else 0.0
            p_values.append(min(1.0, len(classifiers) * float(norm.sf(highest))))
        return cls(best, *p_values)


def pooled(scores: Sequence[Any]) -> Any:
    """The mean of the scores of several classifiers, each in units of its mean size."""
    centred = [one - one.mean(axis=1, keepdims=True) for one in scores]
    return sum(one / max(1e-9, float(np.abs(one).mean())) for one in centred)


def _signed_root(gain: float, above: bool) -> float:
    return float(np.sqrt(max(0.0, 2 * gain))) * (1 if above else -1)


def _softmax(values: Any) -> Any:
    found = np.exp(values - values.max(axis=1, keepdims=True))
    return found / found.sum(axis=1, keepdims=True)
