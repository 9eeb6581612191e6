"""Metrics that are computed on a whole data set, and need not be a mean over its samples, by scikit-learn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from torch import Tensor

from letsam.results.nearest import did_you_mean
from letsam.tasks.weighted import plain_targets

if TYPE_CHECKING:
    import numpy as np

_NO_WARNING: dict[str, Any] = {"zero_division": 0.0}  # of classes that are never predicted, whose F1 is 0


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A metric of all outputs and targets of a data set.

    Args:
        name: as tables and reports show it.
        function: takes all outputs and all targets on the CPU, and returns a number; NaN where it is not defined, such
            as the AUROC of targets that are all of one class. Targets with weights are a `WeightedTarget`.
        lower_is_better: whether a lower value is better.
    """

    name: str
    function: Callable[[Any, Any], float]
    lower_is_better: bool = False


def _classified(name: str, outputs: Tensor, targets: Any) -> float:
    """Metrics of the most probable class. F1 is the mean over classes, or that of class 1 of two."""
    from sklearn import metrics

    truth, weights = _arrays(targets)
    predicted = outputs.argmax(dim=1).numpy()
    options = {"sample_weight": weights}
    if name == "F1":
        average = "binary" if outputs.shape[1] == 2 else "macro"
        return float(metrics.f1_score(truth, predicted, average=average, **_NO_WARNING, **options))
    if name == "balanced accuracy":
        # Not balanced_accuracy_score, which warns of classes that are predicted and not in the targets.
        import numpy as np

        return float(metrics.recall_score(truth, predicted, labels=np.unique(truth), average="macro", **options))
    return float(metrics.accuracy_score(truth, predicted, **options))


def _probabilities(name: str, outputs: Tensor, targets: Any) -> float:
    """Metrics of the probabilities. AUROC of more than two classes is the mean over one class against the rest."""
    import numpy as np
    from sklearn import metrics

    truth, weights = _arrays(targets)
    probabilities = outputs.double().softmax(dim=1).numpy()
    if not np.isfinite(probabilities).all():
        return float("nan")
    classes = probabilities.shape[1]
    if name == "log loss":
        return float(metrics.log_loss(truth, probabilities, labels=range(classes), sample_weight=weights))
    if classes == 2:
        return _area(truth == 1, probabilities[:, 1], weights)
    areas = [_area(truth == c, probabilities[:, c], weights) for c in range(classes) if (truth == c).any()]
    return float(np.mean(areas))


def _labelled(name: str, outputs: Tensor, targets: Any) -> float:
    """Metrics of several labels, each of which a sample has or has not. F1 and AUROC are means over labels."""
    import numpy as np
    from sklearn import metrics

    truth, weights = _arrays(targets)
    scores = outputs.double().numpy()
    if not np.isfinite(scores).all():
        return float("nan")
    if name == "AUROC":
        both = [i for i in range(truth.shape[1]) if 0 < truth[:, i].sum() < len(truth)]
        areas = [_area(truth[:, i] == 1, scores[:, i], weights) for i in both]
        return float(np.mean(areas)) if areas else float("nan")
    right = (scores > 0) == (truth == 1)
    if name == "accuracy":
        return float(np.average(right.mean(axis=1), weights=weights))
    if name == "exact match":
        return float(np.average(right.all(axis=1), weights=weights))
    return float(metrics.f1_score(truth, scores > 0, average="macro", sample_weight=weights, **_NO_WARNING))


def _predicted(name: str, outputs: Tensor, targets: Any) -> float:
    """Metrics of numbers."""
    import numpy as np
    from sklearn import metrics

    truth, weights = _arrays(targets)
    values = outputs.double().numpy().reshape(truth.shape)
    if not np.isfinite(values).all():
        return float("nan")
    if name == "Spearman":
        columns = zip(truth.reshape(len(truth), -1).T, values.reshape(len(truth), -1).T, strict=True)
        return float(np.mean([_correlation(_ranks(a, weights), _ranks(b, weights), weights) for a, b in columns]))
    if name == "R2":
        return float(metrics.r2_score(truth, values, sample_weight=weights)) if len(truth) > 1 else float("nan")
    function = metrics.root_mean_squared_error if name == "RMSE" else metrics.mean_absolute_error
    return float(function(truth, values, sample_weight=weights))


def _correlation(a: np.ndarray, b: np.ndarray, weights: np.ndarray | None) -> float:
    import numpy as np

    matrix = np.cov(a, b, aweights=weights) if len(a) > 1 else np.zeros((2, 2))
    scale = float(np.sqrt(matrix[0, 0] * matrix[1, 1]))
    return float(matrix[0, 1]) / scale if scale > 0 else float("nan")


def _ranks(values: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
    """Mean ranks; with whole-number weights, those of a data set in which each sample is repeated so often."""
    import numpy as np

    _, place = np.unique(values, return_inverse=True)
    sizes = np.bincount(place, weights=weights)
    return (np.cumsum(sizes) - sizes / 2)[place]


def _area(positive: np.ndarray, scores: np.ndarray, weights: np.ndarray | None) -> float:
    from sklearn import metrics

    if positive.all() or not positive.any():
        return float("nan")
    return float(metrics.roc_auc_score(positive, scores, sample_weight=weights))


def _arrays(targets: Any) -> tuple[Any, Any]:
    """Targets and weights as arrays; weights are None where the samples have none."""
    plain, weights = plain_targets(targets)
    values = plain.double().numpy() if plain.is_floating_point() else plain.numpy()
    return values, None if weights is None else weights.double().numpy()


def _named(function: Callable[[str, Tensor, Any], float], *names: str) -> tuple[Metric, ...]:
    lower = ("log loss", "RMSE", "MAE")
    return tuple(Metric(name=n, function=partial(function, n), lower_is_better=n in lower) for n in names)


METRICS: dict[str, tuple[Metric, ...]] = {
    "classification": (
        *_named(_classified, "accuracy", "balanced accuracy", "F1"),
        *_named(_probabilities, "AUROC", "log loss"),
    ),
    "multilabel": _named(_labelled, "accuracy", "exact match", "F1", "AUROC"),
    "regression": _named(_predicted, "RMSE", "MAE", "R2", "Spearman"),
}
"""The metrics of each kind of target; the first is the main one where the user names none."""


def find_metric(name: str, kind: str) -> Metric:
    """The metric of this name, in any case of its letters, for targets of this kind.

    Raises:
        ValueError: the kind has no such metric; the message names those it has.

    Example:
        >>> find_metric("rmse", "regression").lower_is_better
        True
        >>> find_metric("AUC", "regression")
        Traceback (most recent call last):
        ValueError: `metric` must be one of RMSE, MAE, R2, Spearman for regression, got 'AUC'
    """
    wanted = name.strip().lower().replace("-", " ").replace("_", " ")
    for metric in METRICS[kind]:
        if metric.name.lower() == wanted:
            return metric
    names = [metric.name for metric in METRICS[kind]]
    hint = did_you_mean(wanted, names)
    raise ValueError(f"`metric` must be one of {', '.join(names)} for {kind}, got {name!r}{hint}")


def array_measure(name: str, kind: str) -> Callable[[Any, Any], float]:
    """The metric of this name as a function of arrays of outputs and targets.

    Raises:
        ValueError: as for `find_metric`.

    Example:
        >>> import numpy as np
        >>> array_measure("MAE", "regression")(np.array([[1.0], [2.0]]), np.array([[2.0], [2.0]]))
        0.5
    """
    import torch

    function = find_metric(name, kind).function
    return lambda outputs, targets: function(torch.from_numpy(outputs), torch.from_numpy(targets))
