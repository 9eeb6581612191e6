"""The metric of a trained model on shifted test sets."""

from __future__ import annotations

import torch
from torch import nn

from letsam.tasks import Task
from letsam.training.drifted import input_form
from letsam.training.evaluation import evaluate_on
from letsam.training.feed import Batches
from letsam.validation import Mixture
from letsam.validation.drift.shift import SEVERITIES
from letsam.validation.drift.shifted_data import with_form

SEED = 0  # all methods and seeds of a trial are tested on the same data


def shifts_to_test(text: str) -> tuple[str, ...]:
    """The shifts in a list with commas; a name without a severity stands for all five.

    Raises:
        ValueError: there is no such shift.

    Example:
        >>> shifts_to_test("noise:2,blur")
        ('noise:2', 'blur:1', 'blur:2', 'blur:3', 'blur:4', 'blur:5')
    """
    parts = [part.strip() for part in text.split(",")]
    found = [shift for part in parts for shift in ([part] if ":" in part else [f"{part}:{s}" for s in SEVERITIES])]
    Mixture.parse(",".join(found))  # raises where a part is wrong
    return tuple(dict.fromkeys(found))


def shifted_metrics(task: Task, model: nn.Module, device: torch.device, text: str) -> dict[str, float]:
    """The main metric on the test data under each shift; for accuracies also one minus their mean.

    Args:
        task: test data, metric, and the training data from which the form of the inputs is told.
        model: trained.
        device: of the model.
        text: as for `shifts_to_test`.

    Raises:
        ValueError: the data cannot have a shift, or the task has a `score` of its own.
    """
    if task.score is not None:
        raise ValueError("`evaluate_shift` needs a task whose metric is computed from outputs, got one with a `score`")
    form = input_form(task)
    found: dict[str, float] = {}
    for shift in shifts_to_test(text):
        shifted = with_form(task.test, Mixture.parse(shift, form.modality), form, seed=SEED)
        batches = Batches(shifted, device, task.collate)
        found[f"{task.metric_name} under {shift}"] = evaluate_on(task, model, batches, whole=True).metric
    mean = sum(found.values()) / len(found)
    if task.metric_name == "accuracy":
        found["mean corruption error"] = 1 - mean
    return found
