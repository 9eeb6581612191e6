"""``validation_shift="auto"``: the mixture of shifts that resembles deployed data, learned once for a trial."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from torch.utils.data import Dataset

from letsam.results import Results
from letsam.tasks import Task
from letsam.tasks.images import without_augmentation
from letsam.training.config import TrialConfig
from letsam.training.drifted import input_form
from letsam.validation.drift.learned_mixture import learn_mixture
from letsam.validation.drift.shifted_data import AUTO

WHAT = "validation shift"


def with_learned_shift(config: TrialConfig, task: Task, earlier: Path | None = None) -> tuple[TrialConfig, Task]:
    """Learn the drift of the validation data where the options ask for it.

    All training data are compared with the deployed data, so the mixture is the same for all seeds and methods.

    Args:
        config: the options of the trial.
        task: of files of data, whose preparation reads the deployed data.
        earlier: results of this trial, whose mixture is kept if it has one.

    Returns:
        The options with `learned_shift`, and the task with a row about it in `inferred`. Without
        ``validation_shift="auto"``, both as they are.

    Raises:
        ValueError: the deployed data cannot be read, or are too few.
    """
    if config.validation_shift != AUTO:
        return config, task
    known = Results.load(earlier) if earlier is not None and earlier.exists() else None
    shift = None if known is None else known.config.get("learned_shift")
    text = "" if known is None else dict(known.inferred).get(WHAT, "")
    if not isinstance(shift, str):
        learned = learn_mixture(without_augmentation(task.train), read_deployed(config, task), input_form(task))
        shift, text = str(learned.mixture), str(learned)
    inferred = (*task.inferred, (WHAT, text or shift))
    return dataclasses.replace(config, learned_shift=shift), dataclasses.replace(task, inferred=inferred)


def read_deployed(config: TrialConfig, task: Task) -> Dataset[Any]:
    """The deployed inputs of a trial, read as its training data are.

    Raises:
        ValueError: the task is no file of data, or the deployed data cannot be read.
    """
    if task.preparation is None:
        raise ValueError(f"`deployed` needs a file or folder of data, got the task {config.task!r}")
    return task.preparation.read(str(config.deployed))
