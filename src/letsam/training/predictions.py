"""What a run predicts for the test set: collected in its last evaluation, so that the test set is read only once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from letsam.decision.sampling_noise import Measure
from letsam.results import Results, Run
from letsam.results.predicted import FOLDER, Kind, Predictions, predictions_file
from letsam.tasks import Task
from letsam.tasks.metrics import array_measure
from letsam.tasks.model_outputs import logits_of
from letsam.tasks.weighted import plain_targets

__all__ = ["LARGEST_OUTPUTS", "Finished", "OutputCollector", "measure_of"]

LARGEST_OUTPUTS = 4_000_000
"""Predictions of more numbers than this are not kept: the file of one run would have more than 16 MB."""


@dataclass(frozen=True)
class Finished:
    """What a worker returns of a run.

    Args:
        run: its record.
        predictions: for the test set; None where its outputs are not kept, see `OutputCollector.predictions`.
    """

    run: Run
    predictions: Predictions | None

    def save_predictions(self, out: Path) -> None:
        """Write the predictions into the folder of the trial, before `results.json` tells of the run.

        Those of an earlier run of the same method and seed do not stay.
        """
        if self.predictions is not None:
            self.predictions.save(out)
        else:
            (out / FOLDER / predictions_file(self.run.method, self.run.seed)).unlink(missing_ok=True)


class OutputCollector:
    """Collects the batches of an evaluation.

    Args:
        task: says what kind of outputs and targets there are.
    """

    def __init__(self, task: Task) -> None:
        self._task = task
        self._outputs: list[Tensor] = []
        self._targets: list[Tensor] = []
        self._numbers = 0
        self._refused = False

    def add(self, outputs: Any, targets: Any, samples: int) -> None:
        """Take in a batch.

        Args:
            outputs: of the model.
            targets: of the batch.
            samples: how many there are in the batch.
        """
        scores, (targets, _) = logits_of(outputs), plain_targets(targets)
        if self._refused or not (_one_row_each(scores, samples) and _one_row_each(targets, samples)):
            self._refused = True
            return
        self._numbers += scores.numel()
        if self._numbers > LARGEST_OUTPUTS:
            self._refused = True
            return
        self._outputs.append(scores.detach().to("cpu", torch.float32).reshape(samples, -1))
        self._targets.append(targets.detach().cpu())

    def predictions(self, method: str, seed: int) -> Predictions | None:
        """The record of the whole test set.

        Args:
            method: of the run.
            seed: of the run.

        Returns:
            None where the outputs are not one row of scores for each sample (translations, segmentations), too many, or
            of another form than the kind of the task says.
        """
        if self._refused or not self._outputs:
            return None
        outputs, targets = torch.cat(self._outputs), torch.cat(self._targets)
        kind = _kind(self._task.kind, outputs, targets)
        if kind is None:
            return None
        numbers = targets.reshape(-1) if kind == "classification" else targets.float().reshape(len(targets), -1)
        classes = tuple(self._task.classes) if len(self._task.classes) == outputs.shape[1] else ()
        samples = tuple(self._task.test_names) if len(self._task.test_names) == len(outputs) else ()
        try:
            return Predictions(method, seed, kind, outputs.numpy(), numbers.numpy(), classes, samples)
        except ValueError:
            return None


def measure_of(results: Results, predictions: Sequence[Predictions]) -> Measure | None:
    """The metric of results as a function of arrays, for a verdict.

    Returns:
        None where it is none of those that are computed on whole test sets.
    """
    try:
        return array_measure(results.metric, predictions[0].kind) if predictions else None
    except ValueError:
        return None


def _one_row_each(value: Any, samples: int) -> bool:
    return isinstance(value, Tensor) and value.dim() in (1, 2) and len(value) == samples


def _kind(stated: str, outputs: Tensor, targets: Tensor) -> Kind | None:
    """The kind of the predictions; None where the outputs cannot be read as the task says."""
    width = outputs.shape[1]
    if stated == "regression":
        return "regression"
    if stated == "multilabel":
        return "multilabel"
    if width > 1 and targets.dim() == 1 and not targets.is_floating_point():
        return "classification"
    # Tasks that were written before there were kinds. Targets of 0 and 1 may be classes: nothing says how to read them.
    numbers = width == 1 and targets.is_floating_point() and not bool(((targets == 0) | (targets == 1)).all())
    return "regression" if numbers else None
