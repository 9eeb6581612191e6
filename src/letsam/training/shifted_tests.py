"""A trained model on shifted test sets: metric, loss and calibration under each shift."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
from torch import nn
from torch.utils.data import Dataset

from letsam.results.confidence import expected_calibration_error
from letsam.results.metric_units import UNDER_SHIFT
from letsam.results.shift_names import CLEAN_TEST, mean_over_shifts
from letsam.tasks import Task, targets_of
from letsam.training.drifted import input_form
from letsam.training.evaluation import evaluate_on
from letsam.training.feed import Batches
from letsam.training.predictions import OutputCollector
from letsam.validation import Mixture
from letsam.validation.drift.inputs import InputForm
from letsam.validation.drift.known_shifts import CLEAN, shifts_of
from letsam.validation.drift.shift import SEVERITIES
from letsam.validation.drift.shifted_data import with_form

SEED = 0  # all methods and seeds of a trial are tested on the same data

ALL = "all"

ShiftedTest = Mapping[str, float | None]
"""``metric``, ``loss`` and ``calibration_error`` on a test set."""


def shifts_to_test(text: str, possible: tuple[str, ...] = ()) -> tuple[str, ...]:
    """The shifts in a list with commas; a name without a severity stands for all five.

    Args:
        text: the list.
        possible: the names that "all" stands for.

    Raises:
        ValueError: there is no such shift.

    Example:
        >>> shifts_to_test("noise:2,blur")
        ('noise:2', 'blur:1', 'blur:2', 'blur:3', 'blur:4', 'blur:5')
    """
    parts = [part.strip() for part in text.split(",")]
    for part in parts:
        if part.partition(":")[0] == CLEAN:
            raise ValueError(f"`evaluate_shift` must name shifts: the {CLEAN} data are always tested, got {text!r}")
        if "@" in part:
            raise ValueError(f"`evaluate_shift` must be without weights, as each shift is a test, got {part!r}")
    names = [name for part in parts for name in (possible if part == ALL else (part,))]
    found = [shift for part in names for shift in ([part] if ":" in part else _severities(part))]
    if found or ALL not in parts:
        Mixture.parse(",".join(found), name="evaluate_shift")  # raises where a part is wrong
    return tuple(dict.fromkeys(found))


def _severities(part: str) -> list[str]:
    """The five severities of a shift, or of several, one after the other."""
    steps = [step.strip() for step in part.split("+")]
    return ["+".join(f"{step}:{severity}" for step in steps) for severity in SEVERITIES]


def possible_shifts(task: Task, form: InputForm) -> tuple[str, ...]:
    """The names of all shifts that the test data of a task can have: of its inputs, and `labels` for classes.

    `groups` is not among them, as the groups of test samples are not known.
    """
    names = () if form.modality is None else tuple(shifts_of(form.modality))
    return (*(name for name in names if _fits(form, name)), *(["labels"] if _has_classes(task) else []))


def _has_classes(task: Task) -> bool:
    targets = targets_of(task.test)
    return task.kind == "classification" and targets.ndim == 1 and not targets.is_floating_point()


def _fits(form: InputForm, name: str) -> bool:
    try:
        form.check(Mixture.parse(name, form.modality))
    except ValueError:
        return False
    return True


def check_shifted_tests(task: Task, text: str) -> tuple[str, ...]:
    """The shifts that the test data are tested under.

    Raises:
        ValueError: the test data cannot have one of them, or the task has a `score` of its own.
    """
    return _planned(task, text)[0]


def _planned(task: Task, text: str) -> tuple[tuple[str, ...], InputForm]:
    """The shifts, and the form of the inputs."""
    if task.score is not None:
        raise ValueError("`evaluate_shift` needs a task whose metric is computed from outputs, got one with a `score`")
    form = input_form(task)
    shifts = shifts_to_test(text, possible_shifts(task, form) if ALL in text else ())
    if not shifts:
        raise ValueError(f"`evaluate_shift` must name shifts: there are none for the inputs of {task.name!r}")
    for shift in shifts:
        mixture = Mixture.parse(shift, form.modality, name="evaluate_shift")
        form.check(mixture)
        if "labels" in mixture.resampling and not _has_classes(task):
            raise ValueError(f"`evaluate_shift` cannot shift `labels`: the targets are no classes, got {task.kind}")
        if "groups" in mixture.resampling:
            raise ValueError("`evaluate_shift` cannot shift `groups`: those of the test samples are not known")
    return shifts, form


def evaluate_under_shifts(task: Task, model: nn.Module, device: torch.device, text: str) -> dict[str, ShiftedTest]:
    """Test a model on the test data as they are, and under each shift.

    Args:
        task: test data, metric, and the training data from which the form of the inputs is told.
        model: trained.
        device: of the model.
        text: as for `shifts_to_test`.

    Returns:
        For "clean" and each shift: ``metric``, ``loss`` and ``calibration_error``, which is None for numbers to predict
        and where predictions are not kept.

    Raises:
        ValueError: the data cannot have a shift, or the task has a `score` of its own.
    """
    shifts, form = _planned(task, text)
    found = {CLEAN_TEST: _tested(task, model, device, task.test)}
    for shift in shifts:
        shifted = with_form(task.test, Mixture.parse(shift, form.modality), form, seed=SEED)
        found[shift] = _tested(task, model, device, shifted)
    return found


def _tested(task: Task, model: nn.Module, device: torch.device, dataset: Dataset[object]) -> ShiftedTest:
    collector = OutputCollector(task)
    found = evaluate_on(task, model, Batches(dataset, device, task.collate), whole=True, collector=collector)
    predictions = collector.predictions("", 0)
    error = None if predictions is None else expected_calibration_error(predictions)
    return {"metric": found.metric, "loss": found.loss, "calibration_error": error}


def mean_of_shifted_tests(task: Task, tests: Mapping[str, ShiftedTest]) -> dict[str, float]:
    """The mean over all shifts as a further metric: of an accuracy, one minus it, the mean corruption error.

    Severities of a kind are averaged first, so that each kind counts the same (Hendrycks and Dietterich, 2019).
    """
    mean = mean_over_shifts({name: cast("float", test["metric"]) for name, test in tests.items()})
    if task.metric_name == "accuracy":
        return {"mean corruption error": 1 - mean}
    return {f"{task.metric_name}{UNDER_SHIFT}": mean}
