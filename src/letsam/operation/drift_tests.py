"""Whether new inputs come from the distribution of the reference: feature by feature, and by embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor

from letsam.model_folder.reference import FeatureColumn
from letsam.operation.estimates import Estimate, corrected

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FEWEST = 20  # samples of a batch that are tested
EXPECTED = 5  # samples in a cell of the chi-squared test; rarer categories are put together
MOST_DISTANCES = 500  # samples of a side, for embeddings
PERMUTATIONS, REPLICATES = 500, 200


@dataclass(frozen=True)
class ComparedFeature:
    """A feature of the reference and of the batch.

    Args:
        name: of the feature.
        reference: its values; of a category, whole numbers.
        batch: likewise.
        category: whether it is one.
    """

    name: str
    reference: NDArray[Any]
    batch: NDArray[Any]
    category: bool = False


@dataclass(frozen=True)
class FeatureTest:
    """The test of one feature.

    Args:
        name: of the feature.
        distance: between the two distributions, from 0 to 1: the largest difference of the cumulative distributions
            (Kolmogorov-Smirnov), or of categories the total variation distance.
        p: of the hypothesis that they are the same; not corrected.
        adjusted: after Holm's correction for all features.
    """

    name: str
    distance: float
    p: float
    adjusted: float


@dataclass(frozen=True)
class FeatureDrift:
    """The tests of all features.

    Args:
        tests: in the order of their p-values.
        distance: the largest, with its interval.
    """

    tests: tuple[FeatureTest, ...]
    distance: Estimate

    @property
    def p(self) -> float:
        """Of the hypothesis that no feature has changed."""
        return self.tests[0].adjusted

    @property
    def largest(self) -> FeatureTest:
        """The feature with the largest distance."""
        return max(self.tests, key=lambda test: test.distance)


@dataclass(frozen=True)
class EmbeddingDrift:
    """The test of embeddings.

    Args:
        distance: the energy coefficient, from 0 (the same distribution) to 1; without bias, and 0 where it is below.
        p: of the hypothesis that they come from one distribution.
    """

    distance: Estimate
    p: float


def compared_columns(reference: Tensor, batch: Tensor, columns: Sequence[FeatureColumn]) -> list[ComparedFeature]:
    """The named features of two samples.

    Args:
        reference: shape ``(samples, features)``.
        batch: the same number of features.
        columns: which of them are tested, and how.
    """
    return [
        ComparedFeature(column.name, _values(reference, column), _values(batch, column), column.category)
        for column in columns
    ]


def feature_drift_of(features: Sequence[ComparedFeature]) -> FeatureDrift:
    """Test each feature, with Holm's correction.

    Numbers are compared by the Kolmogorov-Smirnov test, categories by the chi-squared test of homogeneity, in which
    categories are put together that are expected less than five times.

    Args:
        features: at least one.

    Example:
        >>> import numpy
        >>> stream = numpy.random.default_rng(0)
        >>> same = ComparedFeature("same", stream.normal(size=300), stream.normal(size=200))
        >>> other = ComparedFeature("other", stream.normal(size=300), stream.normal(1, size=200))
        >>> found = feature_drift_of([same, other])
        >>> found.largest.name, found.p < 1e-9, found.tests[1].adjusted > 0.05
        ('other', True, True)

    Reference:
        Holm, "A Simple Sequentially Rejective Multiple Test Procedure", Scandinavian Journal of Statistics 1979.
    """
    rows = sorted(((one, *_tested(one)) for one in features), key=lambda row: row[2])
    tests: list[FeatureTest] = []
    largest = 0.0
    for place, (one, distance, p) in enumerate(rows):
        largest = max(largest, min(1.0, (len(rows) - place) * p))
        tests.append(FeatureTest(one.name, distance, p, largest))
    furthest, distance, _ = max(rows, key=lambda row: row[1])
    return FeatureDrift(tuple(tests), corrected(distance, _distances_of_drawn(furthest), 0.0, 1.0))


def embedding_drift_of(reference: Tensor, batch: Tensor) -> EmbeddingDrift:
    """Test whether embeddings come from one distribution, by their energy distance.

    The energy distance is 2 E|X - Y| - E|X - X'| - E|Y - Y'|; divided by its first term it is the energy coefficient.
    The p-value is that of a Pearson type III distribution with the first three moments of 500 permutations, as
    permutations alone would not give one below 1/500.

    Args:
        reference: shape ``(samples, numbers)``; of more than 500, the first are used.
        batch: likewise.

    Example:
        >>> import torch
        >>> stream = torch.Generator().manual_seed(0)
        >>> rows = torch.randn(300, 8, generator=stream)
        >>> embedding_drift_of(rows[:200], rows[200:]).p > 0.01, embedding_drift_of(rows[:200], rows[200:] + 1).p < 1e-6
        (True, True)

    Reference:
        Szekely and Rizzo, "Energy statistics: A class of statistics based on distances", Journal of Statistical
        Planning and Inference 2013.
    """
    import numpy as np
    from scipy.spatial.distance import cdist
    from scipy.stats import pearson3, skew

    sides = [side[:MOST_DISTANCES].double().numpy() for side in (reference, batch)]
    first, second = (len(side) for side in sides)
    rows = np.concatenate(sides)
    distances = cdist(rows, rows)
    signs = np.repeat([1 / first, -1 / second], [first, second])
    stream = np.random.default_rng(0)
    drawn = np.stack([signs, *(stream.permutation(signs) for _ in range(PERMUTATIONS))], axis=1)
    found, *permuted = -np.einsum("ik,ik->k", drawn, distances @ drawn)
    spread = float(np.std(permuted, ddof=1))
    if not spread > 0:
        return EmbeddingDrift(Estimate(0.0, 0.0, 0.0), 1.0)
    p = float(pearson3.sf(found, float(skew(permuted)), loc=float(np.mean(permuted)), scale=spread))
    counts = [stream.multinomial(n, np.full(n, 1 / n), REPLICATES) / n for n in (first, second)]
    whole = [np.full((1, n), 1 / n) for n in (first, second)]
    value, *replicates = _coefficients(distances, *(np.concatenate(pair) for pair in zip(whole, counts, strict=True)))
    low, high = np.quantile(replicates, [0.025, 0.975])
    ends = Estimate(max(float(value), 0.0), max(float(low), 0.0), max(float(high), 0.0))
    return EmbeddingDrift(ends, min(max(p, 0.0), 1.0))


def _coefficients(distances: NDArray[Any], first: NDArray[Any], second: NDArray[Any]) -> NDArray[Any]:
    """The energy coefficient for each row of weights, without the pairs of a sample with itself.

    With these pairs it would be above 0 for samples of one distribution, and larger yet for samples that are drawn
    from them.
    """
    import numpy as np

    size = first.shape[1]
    between = np.einsum("ki,ki->k", first @ distances[:size, size:], second)
    within = [
        np.einsum("ki,ki->k", side @ block, side) / (1 - np.square(side).sum(axis=1))
        for side, block in ((first, distances[:size, :size]), (second, distances[size:, size:]))
    ]
    return (2 * between - within[0] - within[1]) / np.maximum(2 * between, 1e-300)


def _values(rows: Tensor, column: FeatureColumn) -> NDArray[Any]:
    block = rows[:, column.start : column.stop]
    if not column.category:
        return block[:, 0].numpy()
    if block.shape[1] == 1:
        return (block[:, 0] > 0).long().numpy()
    return (block.argmax(dim=1) + 1).where(block.amax(dim=1) > 0, 0).numpy()  # 0: a category that is not known


def _tested(one: ComparedFeature) -> tuple[float, float]:
    """The distance and the p-value of a feature."""
    from scipy.stats import chi2_contingency, ks_2samp

    if not one.category:
        found: Any = ks_2samp(one.reference, one.batch, method="asymp")
        return float(found.statistic), float(found.pvalue)
    import numpy as np

    table = _counts(one.reference, one.batch)
    distance = _total_variation(table)
    expected = table.sum(0) * table.sum(1).min() / table.sum()
    rare = expected < EXPECTED
    if rare.any():
        table = np.concatenate([table[:, ~rare], table[:, rare].sum(1, keepdims=True)], axis=1)
        if table.shape[1] > 1 and table[:, -1].sum() * table.sum(1).min() / table.sum() < EXPECTED:
            fullest = int(table[:, :-1].sum(0).argmax())
            table[:, fullest] += table[:, -1]
            table = table[:, :-1]
    if table.shape[1] < 2:
        return distance, 1.0
    return distance, float(chi2_contingency(table).pvalue)  # pyright: ignore[reportAttributeAccessIssue]


def _counts(first: NDArray[Any], second: NDArray[Any]) -> NDArray[Any]:
    import numpy as np

    known = np.union1d(first, second)
    return np.stack([np.bincount(np.searchsorted(known, side), minlength=len(known)) for side in (first, second)])


def _total_variation(table: NDArray[Any]) -> float:
    shares = table / table.sum(axis=1, keepdims=True)
    return float(abs(shares[0] - shares[1]).sum() / 2)


def _distances_of_drawn(one: ComparedFeature) -> NDArray[np.float64]:
    import numpy as np

    stream = np.random.default_rng(0)

    def drawn(values: NDArray[Any]) -> NDArray[Any]:
        return values[stream.integers(0, len(values), len(values))]

    measure = (lambda a, b: _total_variation(_counts(a, b))) if one.category else _largest_difference
    return np.array([measure(drawn(one.reference), drawn(one.batch)) for _ in range(REPLICATES)])


def _largest_difference(first: NDArray[Any], second: NDArray[Any]) -> float:
    """The Kolmogorov-Smirnov statistic."""
    import numpy as np

    first, second = np.sort(first), np.sort(second)
    places = np.concatenate([first, second])
    shares = [np.searchsorted(side, places, side="right") / len(side) for side in (first, second)]
    return float(np.abs(shares[0] - shares[1]).max())
