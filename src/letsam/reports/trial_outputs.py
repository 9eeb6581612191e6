"""What the runs of a trial predict for the test set, ready for the tables and figures of the report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from letsam.results.confidence import probabilities_of
from letsam.results.predicted import Kind, Predictions

__all__ = ["RunOutputs", "TrialOutputs", "trial_outputs"]

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class RunOutputs:
    """One run.

    Args:
        method: its method.
        seed: its seed.
        values: shape ``(samples, outputs)``: probabilities, or predicted numbers in a regression.
    """

    method: str
    seed: int
    values: Numbers

    @property
    def predicted(self) -> NDArray[np.intp]:
        """The most probable class of each sample."""
        return self.values.argmax(axis=1)


@dataclass(frozen=True)
class TrialOutputs:
    """All runs on one test set.

    Args:
        kind: "classification", "multilabel" or "regression".
        names: of the outputs: the classes, labels or numbers that are predicted.
        targets: classes, shape ``(samples,)``; otherwise numbers, shape ``(samples, outputs)``.
        runs: those whose outputs are finite, in the order of the results.
        samples: names of the test samples; empty where they have none.
        left_out: method and seed of runs whose outputs are not, or that were on another test set.
    """

    kind: Kind
    names: tuple[str, ...]
    targets: NDArray[np.generic]
    runs: tuple[RunOutputs, ...]
    samples: tuple[str, ...] = ()
    left_out: tuple[tuple[str, int], ...] = ()

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods, in order of first appearance."""
        return tuple(dict.fromkeys(run.method for run in self.runs))

    @property
    def classes(self) -> NDArray[np.int64]:
        """The true class of each sample of a classification."""
        return self.targets.astype(np.int64)

    def runs_of(self, method: str) -> tuple[RunOutputs, ...]:
        """The runs of one method."""
        return tuple(run for run in self.runs if run.method == method)

    def mean_of(self, method: str) -> Numbers:
        """Probabilities or numbers that a method predicts on average over its seeds."""
        runs = self.runs_of(method)
        return np.asarray(sum(run.values for run in runs) / len(runs))


def trial_outputs(predictions: Sequence[Predictions]) -> TrialOutputs | None:
    """Turn the predictions of runs into probabilities or numbers.

    Args:
        predictions: of the runs of a trial.

    Returns:
        None where no run has finite outputs.
    """
    finite = [one for one in predictions if np.isfinite(one.outputs).all()]
    if not finite:
        return None
    first = finite[0]
    same = [one for one in finite if one.kind == first.kind and np.array_equal(one.targets, first.targets)]
    kept = {one.key for one in same}
    return TrialOutputs(
        kind=first.kind,
        names=first.names,
        targets=first.targets,
        runs=tuple(RunOutputs(one.method, one.seed, probabilities_of(one)) for one in same),
        samples=first.samples,
        left_out=tuple(one.key for one in predictions if one.key not in kept),
    )
