"""Shadow mode: the challenger predicts what the champion predicts, and nobody sees its answers but this comparison.

    report = letsam.operation.shadow("runs/v1", "runs/v2", "july.csv")              # without labels
    report = letsam.operation.shadow("runs/v1", "runs/v2", "july.csv", labels=True)  # july.csv has them
    print(report.disagreement, report.gain)

Without labels, the share of samples with different answers bounds how much the accuracies can differ: a sample that
both answer alike is right or wrong for both. With labels, the gain has bounds over the choice of samples
(`letsam.decision.sample_gain`).
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from letsam.decision import bounds, sample_gain
from letsam.model_folder import LoadedModel
from letsam.model_folder.data_hashes import hashed_source
from letsam.model_folder.version_record import utc_now, version_of
from letsam.operation.differing_samples import differing_samples
from letsam.operation.model_pair import ModelPair, PairOutputs
from letsam.operation.shadow_report import BoundedValue, ClassDifference, ComparedModel, ShadowReport
from letsam.tasks.metrics import array_measure, find_metric

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["compare_outputs", "rate_estimate", "shadow"]


def shadow(
    champion: str | Path | LoadedModel,
    challenger: str | Path | LoadedModel,
    data: Any,
    labels: Any = None,
    *,
    metric: str | None = None,
    level: float = 0.05,
    batch_size: int = 256,
    device: str = "cpu",
) -> ShadowReport:
    """Compare what two models predict for the same data.

    Args:
        champion: the model in use, or its folder.
        challenger: the model that may replace it, or its folder.
        data: a file or folder of the same form as the training data, or what else `LoadedModel.predict` takes.
        labels: True: `data` have them, as the training data had; rows without one are allowed. Or an array, tensor or
            list with one for each sample. None: nobody knows them.
        metric: with labels, the metric that is compared; None: the main metric of the champion.
        level: the probability with which each bound may be wrong, above 0 and below 0.5.
        batch_size: samples that are predicted at once.
        device: where models that are folders predict.

    Returns:
        The report, with the samples that differ.

    Raises:
        ModelFolderError: a folder without a model, or with a file that was changed.
        DataError: data that a model cannot read.
        ValueError: models of different kinds or classes, no samples, outputs that are not finite, another option out of
            range.

    Example:
        >>> shadow("nowhere", "nowhere", "july.csv")
        Traceback (most recent call last):
        letsam.model_folder.manifest.ModelFolderError: nowhere: expected the folder of a model, but there is none
    """
    pair = ModelPair.loaded(champion, challenger, device)
    found = pair.outputs(data, labels, batch_size=batch_size)
    return compare_outputs(pair, found, data, metric=metric, level=level)


def compare_outputs(
    pair: ModelPair, found: PairOutputs, data: Any, *, metric: str | None = None, level: float = 0.05
) -> ShadowReport:
    """The report on the outputs of two models, see `shadow`."""
    if not 0 < level < 0.5:
        raise ValueError(f"`level` must be above 0 and below 0.5, got {level}")
    metric = checked_metric(pair, metric)
    numbers, count, distances = found.kind == "regression", len(found.samples), found.distances
    differing = None if numbers else int(found.differ.sum())
    disagreement = mean_estimate(distances, level) if differing is None else rate_estimate(differing, count, level)
    change_metric, change = _most_change(found, metric, disagreement, level)
    predictions = found.predictions()
    gain = None
    if predictions is not None:
        gain = sample_gain(*predictions, metric, measure=array_measure(metric, found.kind), level=level)
    return ShadowReport(
        time=utc_now(),
        champion=_compared(pair.champion),
        challenger=_compared(pair.challenger),
        data=_described(data, count),
        kind=found.kind,
        level=level,
        differing=differing,
        disagreement=disagreement,
        most_change=change,
        most_change_metric=change_metric,
        distance=mean_estimate(distances, level),
        distance_high=float(np.quantile(distances, 0.95)),
        distance_largest=float(distances.max()),
        mean_difference=mean_estimate((found.values[1] - found.values[0]).mean(axis=1), level) if numbers else None,
        by_class=tuple(_by_output(found, level) if found.kind != "classification" else _by_class(found, level)),
        labelled=0 if found.known is None else len(found.known),
        unseen=_unseen(found),
        gain=gain,
        differing_samples=tuple(differing_samples(found)),
    )


def checked_metric(pair: ModelPair, metric: str | None) -> str:
    """The name of the metric that is compared.

    Raises:
        ValueError: it cannot be computed from outputs and targets.
    """
    kind = pair.champion.kind
    if metric is not None:
        return find_metric(metric, kind).name
    own = str(pair.champion.config["metric"])
    try:
        return find_metric(own, kind).name
    except ValueError:  # that of a task in code
        return find_metric("RMSE" if kind == "regression" else "accuracy", kind).name


def rate_estimate(count: int, samples: int, level: float) -> BoundedValue:
    """A share and its exact bounds (Clopper and Pearson).

    Example:
        >>> found = rate_estimate(3, 100, 0.05)
        >>> found.value, round(found.low, 4), round(found.high, 4)
        (0.03, 0.0082, 0.0757)
    """
    from scipy import stats

    if not samples:
        return BoundedValue(math.nan, None, None)
    interval = stats.binomtest(count, samples).proportion_ci(1 - 2 * level, method="exact")
    return BoundedValue(count / samples, float(interval.low), float(interval.high))


def mean_estimate(values: NDArray[np.float64], level: float) -> BoundedValue:
    """A mean and its bounds by Student's t."""
    from scipy import stats

    mean = float(values.mean())
    if len(values) < 2:
        return BoundedValue(mean, None, None)
    return BoundedValue(mean, *bounds(values.tolist(), float(stats.t.isf(level, len(values) - 1))))


def _compared(model: LoadedModel) -> ComparedModel:
    record = version_of(model.folder)
    version = None if record is None else record.version
    return ComparedModel(str(model.folder), model.fingerprint, version, str(model.config["method"]))


def _described(data: Any, count: int) -> dict[str, Any]:
    if not isinstance(data, (str, Path)):
        return {"name": f"`data` ({type(data).__name__})", "fingerprint": None, "samples": count}
    return {"name": str(data), "fingerprint": hashed_source("data", str(data))["sha256"], "samples": count}


def _most_change(found: PairOutputs, metric: str, disagreement: BoundedValue, level: float) -> tuple[str, BoundedValue]:
    """The metric, and by how much it can differ: 0 to the value that was seen, or to its upper bound."""
    if found.kind != "regression":
        high = None if disagreement.high is None else 100 * disagreement.high
        name = "accuracy" if found.kind == "classification" or metric == "accuracy" else "exact match"
        return name, BoundedValue(100 * disagreement.value, 0.0, high)
    if metric != "RMSE":
        return "MAE", BoundedValue(disagreement.value, 0.0, disagreement.high)
    squares = [mean_estimate(column, level) for column in ((found.values[1] - found.values[0]) ** 2).T]
    value = float(np.mean([math.sqrt(one.value) for one in squares]))
    highs = [one.high for one in squares]
    high = None if None in highs else float(np.mean([math.sqrt(one) for one in highs if one is not None]))
    return "RMSE", BoundedValue(value, 0.0, high)


def _by_class(found: PairOutputs, level: float) -> Sequence[ClassDifference]:
    old, new = found.answers
    measured = found.measured
    rows: list[ClassDifference] = []
    for index, name in enumerate(found.names):
        mine = old == index
        others = Counter(new[mine & found.differ].tolist()).most_common(1)
        right: list[int | None] = [None, None, None]
        if measured is not None:
            places, targets = measured
            truly = places[targets == index]
            right = [len(truly), int((old[truly] == index).sum()), int((new[truly] == index).sum())]
        count, differing = int(mine.sum()), int((mine & found.differ).sum())
        mostly = found.names[int(others[0][0])] if others else None
        rows.append(ClassDifference(name, count, differing, rate_estimate(differing, count, level), mostly, *right))
    return rows


def _by_output(found: PairOutputs, level: float) -> Sequence[ClassDifference]:
    """For each label or predicted number."""
    make = _of_number if found.kind == "regression" else _of_label
    return [make(found, index, level) for index in range(len(found.names))]


def _of_number(found: PairOutputs, index: int, level: float) -> ClassDifference:
    old, new = (values[:, index] for values in found.values)
    apart, measured = mean_estimate(np.abs(new - old), level), found.measured
    row = ClassDifference(found.names[index], len(old), None, apart)
    if measured is None:
        return row
    places, targets = measured
    truth = targets[:, index].astype(np.float64)
    errors = [float(np.abs(values[places] - truth).mean()) for values in (old, new)]
    return dataclasses.replace(row, labelled=len(places), champion_error=errors[0], challenger_error=errors[1])


def _of_label(found: PairOutputs, index: int, level: float) -> ClassDifference:
    old, new = (answers[:, index] for answers in found.answers)
    count, differing, measured = len(old), int((old != new).sum()), found.measured
    row = ClassDifference(found.names[index], count, differing, rate_estimate(differing, count, level))
    if measured is None:
        return row
    places, targets = measured
    right = [int((answers[places] == (targets[:, index] == 1)).sum()) for answers in (old, new)]
    return dataclasses.replace(row, labelled=len(places), champion_right=right[0], challenger_right=right[1])


def _unseen(found: PairOutputs) -> dict[str, int]:
    """Classes that no model knows, with the number of their samples."""
    if found.known is None or found.kind != "classification":
        return {}
    counts = Counter(found.known.values.tolist())
    return {name: counts[len(found.names) + index] for index, name in enumerate(found.known.unseen)}
