"""The samples for which champion and challenger give different answers, the farthest apart first."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from letsam.operation.model_pair import CHALLENGER, CHAMPION, PairOutputs
from letsam.operation.shadow_report import DifferingSample

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["differing_samples"]


def differing_samples(found: PairOutputs) -> Iterator[DifferingSample]:
    """The samples with different answers; of numbers, those that differ at all.

    They are ranked by the distance of the predictions. Of several numbers, each counts in units of the standard
    deviation of the champion's predictions.
    """
    ranks = _ranks(found)
    order = np.lexsort((np.arange(len(ranks)), -ranks))  # equal ones in the order of the data
    truth = _truth(found)
    for place in order[found.differ[order]].tolist():
        target = truth.get(place)
        answers = [_text(found, found.answers[i][place]) for i in (0, 1)]
        yield DifferingSample(
            name=found.samples[place],
            answers=(answers[0], answers[1]),
            confidences=None if found.kind == "regression" else _two(_confidence(found, i, place) for i in (0, 1)),
            distance=float(found.distances[place]),
            label=None if target is None else _label(found, target),
            right=None if target is None else _right(found, place, target),
        )


def _ranks(found: PairOutputs) -> NDArray[np.float64]:
    if found.kind != "regression":
        return found.distances
    spread = found.values[0].std(axis=0)
    return (np.abs(found.values[1] - found.values[0]) / np.where(spread > 0, spread, 1.0)).mean(axis=1)


def _truth(found: PairOutputs) -> dict[int, Any]:
    if found.known is None:
        return {}
    return dict(zip(found.known.places.tolist(), found.known.values.numpy(), strict=True))


def _two(made: Iterator[float]) -> tuple[float, float]:
    first, second = made
    return first, second


def _confidence(found: PairOutputs, which: int, place: int) -> float:
    probabilities = found.values[which][place]
    return float(
        probabilities.max() if found.kind == "classification" else np.maximum(probabilities, 1 - probabilities).min()
    )


def _text(found: PairOutputs, answer: Any) -> str:
    if found.kind == "classification":
        return found.names[int(answer)]
    if found.kind == "multilabel":
        return ";".join(name for name, present in zip(found.names, answer, strict=True) if present)
    return ", ".join(f"{float(value):.6g}" for value in answer)


def _label(found: PairOutputs, target: Any) -> str:
    assert found.known is not None
    if found.kind == "classification":
        return (*found.names, *found.known.unseen)[int(target)]
    return _text(found, target == 1 if found.kind == "multilabel" else target)


def _right(found: PairOutputs, place: int, target: Any) -> str:
    """Which model is right; both cannot be, as their answers differ."""
    if found.kind == "regression":
        errors = [np.abs(values[place] - target).mean() for values in found.values]
        return "neither" if errors[0] == errors[1] else CHAMPION if errors[0] < errors[1] else CHALLENGER
    truth = target == 1 if found.kind == "multilabel" else target
    right = [bool(np.all(answers[place] == truth)) for answers in found.answers]
    return CHAMPION if right[0] else CHALLENGER if right[1] else "neither"
