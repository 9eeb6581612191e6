"""Where the methods of a trial predict different things for the same test sample."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from letsam.languages import gettext
from letsam.reports.recorded_sentences import sample_name
from letsam.reports.trial_outputs import TrialOutputs

__all__ = ["Contested", "contested_samples", "pairwise_disagreement"]

LISTED = 25


@dataclass(frozen=True)
class Contested:
    """A test sample on which the methods disagree.

    Args:
        index: its place in the test set, from 0.
        name: its name, or its place.
        size: how much they disagree.
        target: its class, labels or number, as text.
        answers: of each method: its answer as text, and whether it is right; None for numbers.
    """

    index: int
    name: str
    size: float
    target: str
    answers: tuple[tuple[str, bool | None], ...]


def contested_samples(found: TrialOutputs) -> list[Contested]:
    """The test samples on which the methods disagree most, at most 25, the most contested first.

    A method's prediction is the mean over its seeds. Of classes and labels, the disagreement of a sample is the
    distance of a method's probabilities from the mean over the methods (total variation), averaged over the methods;
    samples for which all methods give the same answer are left out. Of numbers, it is the standard deviation over the
    methods.
    """
    methods = found.methods
    if len(methods) < 2:
        return []
    means = [found.mean_of(method) for method in methods]
    center = np.asarray(sum(means) / len(means))
    if found.kind == "regression":
        sizes = np.sqrt(np.mean([(mean - center) ** 2 for mean in means], axis=0)).mean(axis=1)
        differ = sizes > 0
    else:
        sizes = np.mean([np.abs(mean - center).sum(axis=1) for mean in means], axis=0)
        sizes = sizes / (2 if found.kind == "classification" else center.shape[1])
        answers = [_answers(found, mean) for mean in means]
        differ = np.any([(answer != answers[0]).any(axis=1) for answer in answers[1:]], axis=0)
    order = np.lexsort((np.arange(len(sizes)), -sizes))  # equal ones in the order of the test set
    return [_contested(found, means, int(i), float(sizes[i])) for i in order[differ[order]][:LISTED]]


def pairwise_disagreement(found: TrialOutputs) -> list[list[float]]:
    """For each pair of methods: the share of test samples with different answers; of numbers, the mean difference."""
    means = [found.mean_of(method) for method in found.methods]
    if found.kind == "regression":
        return [[float(np.abs(one - other).mean()) for other in means] for one in means]
    answers = [_answers(found, mean) for mean in means]
    return [[float((one != other).any(axis=1).mean()) for other in answers] for one in answers]


def _answers(found: TrialOutputs, values: NDArray[np.float64]) -> NDArray[np.int64]:
    """The answer to each sample as a row: the class, or yes and no for each label."""
    if found.kind == "multilabel":
        return (values > 0.5).astype(np.int64)
    return values.argmax(axis=1)[:, None]


def _contested(found: TrialOutputs, means: list[NDArray[np.float64]], index: int, size: float) -> Contested:
    name = sample_name(found.samples[index]) if found.samples else str(index)
    if found.kind == "regression":
        texts = [(_numbers(mean[index]), None) for mean in means]
        return Contested(index, name, size, _numbers(found.targets[index]), tuple(texts))
    if found.kind == "multilabel":
        truth = found.targets[index] > 0.5  # pyright: ignore[reportOperatorIssue]
        rows = [mean[index] > 0.5 for mean in means]
        labels = tuple((_labels(found, row), bool((row == truth).all())) for row in rows)
        return Contested(index, name, size, _labels(found, truth), labels)
    target = int(found.classes[index])
    answers: list[tuple[str, bool | None]] = []
    for mean in means:
        given = int(mean[index].argmax())
        answers.append((f"{found.names[given]} ({100 * mean[index, given]:.0f} %)", given == target))
    return Contested(index, name, size, found.names[target], tuple(answers))


def _labels(found: TrialOutputs, row: NDArray[np.bool_]) -> str:
    return ", ".join(name for name, on in zip(found.names, row, strict=True) if on) or gettext("none")


def _numbers(row: NDArray[np.generic]) -> str:
    return ", ".join(f"{float(value):.4g}" for value in np.atleast_1d(row))  # pyright: ignore[reportArgumentType]
