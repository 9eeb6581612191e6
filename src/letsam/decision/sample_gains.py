"""The gain of one trained model over another on the same samples, and its bounds over the choice of these samples.

A trial compares methods, over seeds; this compares two models that are there. Its bounds hold for other samples like
these and say nothing of other runs of the same methods.

- Shares of right answers (accuracy, exact match): `letsam.decision.matched_pairs`. Balanced accuracy: the same for each
  class, combined.
- Any other metric: Student's t over what each sample contributes (`letsam.decision.sampling_noise`). Where an answer is
  right or wrong and fewer than `FEWEST_DIFFERING` samples are answered differently, there are no bounds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from letsam.decision.inference import bounds
from letsam.decision.matched_pairs import combined_bounds, matched_bounds, mcnemar
from letsam.decision.sampling_noise import Measure, contributions
from letsam.results.metric_units import value_scale
from letsam.results.predicted import Predictions

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["FEWEST_DIFFERING", "SampleGain", "sample_gain"]

FEWEST_DIFFERING = 25
"""With fewer differing answers than this, Student's t is not used for metrics of right and wrong answers."""
LOWER = ("RMSE", "MAE", "log loss")
"""Metrics of which a lower value is better."""
SMOOTH = ("RMSE", "MAE", "R2", "Spearman", "AUROC", "log loss")
"""Metrics that change with every output, not with the answers alone."""


@dataclass(frozen=True)
class SampleGain:
    """How much better one model is than another on the same samples.

    Gain and bounds are in the unit in which the metric is shown: points of an accuracy, RMSE as it is. A positive gain
    is an improvement in either case.

    Args:
        metric: its name.
        old: the metric of the old model, as it is.
        new: that of the new one.
        unit: what follows a gain, such as " points".
        gain: of the new model.
        lower: bound of the true gain; None where there are too few samples, or too few that differ.
        upper: likewise.
        level: the probability with which each bound may be wrong.
        samples: how many there are.
        better: of them, those for which the new model alone is right; None for metrics that know no right answers.
        worse: those for which the old model alone is right, or None.
        p: of the two-sided test that there is no difference: McNemar's exact test or Student's t; None without bounds.
    """

    metric: str
    old: float
    new: float
    unit: str
    gain: float
    lower: float | None
    upper: float | None
    level: float
    samples: int
    better: int | None = None
    worse: int | None = None
    p: float | None = None


def sample_gain(
    old: Predictions, new: Predictions, metric: str, *, measure: Measure | None = None, level: float = 0.05
) -> SampleGain:
    """Compare two models on the same samples.

    Args:
        old: predictions of the model of today.
        new: predictions of the model that may replace it, for the same samples.
        metric: its name.
        measure: the metric as a function of outputs and targets, where it is not an accuracy, RMSE or MAE.
        level: the probability with which each bound may be wrong, above 0 and below 0.5.

    Raises:
        ValueError: other samples, or a metric that cannot be computed.

    Example:
        >>> import numpy as np
        >>> right, wrong = np.eye(2, dtype=np.float32)[[0, 1] * 20], np.eye(2, dtype=np.float32)[[1, 0] * 20]
        >>> truth, mixed = np.array([0, 1] * 20), np.concatenate([right[:30], wrong[30:]])
        >>> models = [Predictions(name, 0, "classification", o, truth) for name, o in (("old", mixed), ("new", right))]
        >>> found = sample_gain(*models, "accuracy")
        >>> found.gain, found.better, found.worse, round(found.lower, 1)
        (25.0, 10, 0, 15.6)
    """
    import numpy as np

    if not 0 < level < 0.5:
        raise ValueError(f"`level` must be above 0 and below 0.5, got {level}")
    if old.kind != new.kind or not np.array_equal(old.targets, new.targets):
        raise ValueError("`old` and `new` must be predictions of the same kind for the same targets")
    values = [_value(one, metric, measure) for one in (old, new)]
    scale = value_scale(metric, [abs(value) for value in values])
    sign = -scale.factor if metric in LOWER else scale.factor
    pair = None if old.kind == "regression" else _Pair(_right(old), _right(new))
    lower = upper = p = None
    made = _bounds(old, new, pair, metric, measure, level)
    if made is not None:
        p = made[2]
        lower, upper = sorted((sign * made[0], sign * made[1]))
    return SampleGain(
        metric=metric,
        old=values[0],
        new=values[1],
        unit=" points" if scale.factor != 1 else "",
        gain=sign * (values[1] - values[0]),
        lower=lower,
        upper=upper,
        level=level,
        samples=len(old.targets),
        better=None if pair is None else pair.better,
        worse=None if pair is None else pair.worse,
        p=p,
    )


@dataclass(frozen=True)
class _Pair:
    """Which answers of the old and of the new model are right."""

    before: NDArray[np.bool_]
    after: NDArray[np.bool_]

    @property
    def better(self) -> int:
        return int((self.after & ~self.before).sum())

    @property
    def worse(self) -> int:
        return int((self.before & ~self.after).sum())

    def bounds(self, level: float) -> tuple[float, float]:
        return matched_bounds(self.better, self.worse, len(self.before), level)

    def of(self, rows: NDArray[np.bool_]) -> _Pair:
        return _Pair(self.before[rows], self.after[rows])


def _value(found: Predictions, metric: str, measure: Measure | None) -> float:
    if measure is not None:
        return float(measure(found.outputs, found.targets))
    if (found.kind, metric) == ("classification", "balanced accuracy"):
        import numpy as np

        right = _right(found)
        return float(np.mean([right[found.targets == name].mean() for name in np.unique(found.targets)]))
    values = contributions(found, metric)
    if values is None:
        raise ValueError(f"`metric` must be one that can be computed from outputs and targets, got {metric!r}")
    return float(values.mean())


def _bounds(
    old: Predictions, new: Predictions, pair: _Pair | None, metric: str, measure: Measure | None, level: float
) -> tuple[float, float, float] | None:
    """Bounds of the difference new minus old, in the unit of the metric itself, and a p-value."""
    import numpy as np
    from scipy import stats

    if pair is not None:
        if (old.kind, metric) in (("classification", "accuracy"), ("multilabel", "exact match")):
            return (*pair.bounds(level), mcnemar(pair.better, pair.worse))
        if (old.kind, metric) == ("classification", "balanced accuracy"):
            classes = [pair.of(old.targets == name) for name in np.unique(old.targets)]
            parts = [((one.better - one.worse) / len(one.before), *one.bounds(level)) for one in classes]
            found = combined_bounds([1 / len(parts)] * len(parts), parts)
            return found[1], found[2], mcnemar(pair.better, pair.worse)
        if metric not in SMOOTH and _differing(old, new) < FEWEST_DIFFERING:
            return None
    rows = [contributions(one, metric, measure) for one in (old, new)]
    if rows[0] is None or rows[1] is None or len(rows[0]) < 2:
        return None
    gains = rows[1] - rows[0]
    low, high = bounds(gains.tolist(), float(stats.t.isf(level, len(gains) - 1)))
    spread, mean = float(gains.std(ddof=1)), abs(float(gains.mean()))
    statistic = mean * math.sqrt(len(gains)) / spread if spread > 0 else math.inf if mean else 0.0
    return low, high, float(2 * stats.t.sf(statistic, len(gains) - 1))


def _answers(found: Predictions) -> NDArray[np.bool_] | NDArray[np.intp]:
    return found.outputs.argmax(axis=1) if found.kind == "classification" else found.outputs > 0


def _right(found: Predictions) -> NDArray[np.bool_]:
    """Whether the answer to each sample is right; of labels, whether all are."""
    answers = _answers(found)
    return answers == found.targets if answers.ndim == 1 else (answers == (found.targets == 1)).all(axis=1)


def _differing(old: Predictions, new: Predictions) -> int:
    """For how many samples the models answer differently."""
    differ = _answers(old) != _answers(new)
    return int((differ if differ.ndim == 1 else differ.any(axis=1)).sum())
