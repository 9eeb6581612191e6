"""How much the difference of two methods would change with another test set of the same size.

Seeds cannot tell: all runs are tested on the same samples. The predictions of the runs can. The contribution of test
sample i to the gain with seed s is ``mean + seed[s] + sample[i] + rest[s, i]``, a table of two crossed random effects.
The variance of the mean over all of them is that over seeds, which is estimated from the gains alone, plus the variance
of `sample` divided by the number of samples, which is estimated here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from letsam.decision.pairing import Pairs
from letsam.results import Run
from letsam.results.predicted import Predictions

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Measure", "contributions", "crossed_variance", "sample_variance"]

Measure = Callable[[Any, Any], float]
"""A metric: takes the outputs and the targets of a test set as arrays, and returns a number."""

GROUPS = 50
"""Parts of the test set for the jackknife of metrics that are not a mean over samples."""


def sample_variance(
    pairs: Pairs, predictions: Sequence[Predictions], scale: float, measure: Measure | None = None
) -> tuple[float, int] | None:
    """The variance of the mean gain that is due to the choice of the test samples.

    Args:
        pairs: the runs of two methods.
        predictions: of these runs, and perhaps of others.
        scale: of the gains, see `letsam.results.metric_units.MetricScale`.
        measure: the metric, where it is not an accuracy, RMSE or MAE.

    Returns:
        The variance and its degrees of freedom; None where a run has no predictions, or its metric cannot be computed
        from them.
    """
    import numpy as np

    by_run = {found.key: found for found in predictions}
    rows: list[NDArray[np.float64]] = []
    for old, new in zip(pairs.baseline, pairs.candidate, strict=True):
        both = [_checked(run, by_run.get(run.key), measure) for run in (old, new)]
        if both[0] is None or both[1] is None or len(both[0]) != len(both[1]):
            return None
        rows.append(scale * (both[1] - both[0]))
    if len({len(row) for row in rows}) != 1 or len(rows[0]) < 2:
        return None
    return crossed_variance(np.array(rows)), len(rows[0]) - 1


def crossed_variance(gains: NDArray[np.float64]) -> float:
    """The variance of the mean that is due to the columns of a table of two crossed random effects.

    Args:
        gains: seeds x samples.

    Returns:
        The variance of the columns' effects divided by their number, >= 0: mean squares of the columns minus those of
        the rest, divided by the number of entries. With one seed, nothing is subtracted.

    Example:
        >>> import numpy as np
        >>> crossed_variance(np.array([[0.0, 2.0], [0.0, 2.0]]))
        1.0
    """
    seeds, samples = gains.shape
    columns = gains.mean(axis=0)
    between = float(columns.var(ddof=1)) / samples
    if seeds == 1:
        return between
    rest = gains - columns - gains.mean(axis=1, keepdims=True) + gains.mean()
    noise = float((rest**2).sum()) / ((seeds - 1) * (samples - 1)) / (seeds * samples)
    return max(0.0, between - noise)


def contributions(found: Predictions, metric: str, measure: Measure | None = None) -> NDArray[np.float64] | None:
    """What each test sample contributes to the metric; their mean is the metric.

    Accuracies and MAE are means over samples. RMSE is made linear in the squared errors. Any other metric gives the
    pseudo-values of a jackknife that leaves out one of 50 random parts of the test set at a time.

    Args:
        found: predictions of a run.
        metric: the name of the metric.
        measure: the metric, where the name is not one of those above.

    Returns:
        An array; None where the metric is not known.
    """
    import numpy as np

    outputs, targets = found.outputs.astype(np.float64), found.targets.astype(np.float64)
    if found.kind == "classification" and metric == "accuracy":
        return (found.outputs.argmax(axis=1) == targets).astype(np.float64)
    if found.kind == "multilabel" and metric in ("accuracy", "exact match"):
        right = (outputs > 0) == (targets == 1)
        return (right.mean(axis=1) if metric == "accuracy" else right.all(axis=1)).astype(np.float64)
    if found.kind == "regression" and metric in ("RMSE", "MAE"):
        errors = np.abs(outputs - targets)
        if metric == "MAE":
            return errors.mean(axis=1)
        return _linear_rmse(errors**2)
    return None if measure is None else _pseudo_values(found, measure)


def _linear_rmse(squares: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of several outputs, RMSE is the mean over outputs."""
    import numpy as np

    means = squares.mean(axis=0)
    roots = np.sqrt(means)
    slopes = np.divide(1.0, 2 * roots, out=np.zeros_like(roots), where=roots > 0)
    return (roots + (squares - means) * slopes).mean(axis=1)


def _pseudo_values(found: Predictions, measure: Measure) -> NDArray[np.float64] | None:
    import numpy as np

    count = len(found.targets)
    groups = min(GROUPS, count)
    whole = measure(found.outputs, found.targets)
    # The same parts for all runs, as they have the same test set.
    parts = np.random.default_rng(0).permutation(count) % groups
    without = np.array([measure(found.outputs[parts != g], found.targets[parts != g]) for g in range(groups)])
    values = groups * whole - (groups - 1) * without
    # Their mean differs from the metric by the bias of the jackknife, which is none of the noise.
    return values - values.mean() + whole if np.isfinite(values).all() else None


def _checked(run: Run, found: Predictions | None, measure: Measure | None) -> NDArray[np.float64] | None:
    """The contributions, if their mean is the metric of the run: it is not where samples have weights."""
    values = None if found is None else contributions(found, run.metric, measure)
    if values is None or not abs(values.mean() - run.test_accuracy) <= 1e-6 + 1e-4 * abs(run.test_accuracy):
        return None
    return values
