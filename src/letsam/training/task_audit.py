"""The audit of a task's data, split as a trial splits them, and its record in ``results.json``."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

import torch
from torch.utils.data import Dataset

from letsam.tasks import Task
from letsam.tasks.images import without_augmentation
from letsam.training.config import TrialConfig
from letsam.training.drifted import form_options
from letsam.training.learned_shift import read_deployed
from letsam.training.sampling import make_splits
from letsam.validation import Audit, audit
from letsam.validation.auditing.audited import MOST

QUICK = 2000  # samples of each part in the audit of a trial


def audit_task(
    task: Task,
    *,
    seed: int = 0,
    validation_share: float = 0.1,
    deployed: Dataset[Any] | None = None,
    probe: bool = True,
    most: int = MOST,
) -> Audit:
    """Split the training data as a trial with this seed does, and audit the parts.

    Label noise and shifts of a trial are left out: the data are examined as they are.

    Args:
        task: its own validation data are examined where it has some.
        seed: of the split and the audit.
        validation_share: fraction that is held out.
        deployed: inputs from operation.
        probe: whether the size of the validation data is examined, with a short run.
        most: samples of each part that are examined.

    Raises:
        ValueError, TypeError: the data cannot be split or examined.
        ImportError: scikit-learn is missing.
    """
    splits = make_splits(task, seed, label_noise=0.0, validation_share=validation_share, hold_out=True)
    assert splits.validation is not None
    kept, total = splits.order
    held_out = torch.ones(total, dtype=torch.bool)
    held_out[kept] = False
    own = task.validation is not None  # its groups, times and names are not known
    groups, times = (None if own or of is None else (of[kept], of[held_out]) for of in (task.groups, task.times))
    modality, form = form_options(task)
    names = task.train_names if len(task.train_names) == total else ()
    return audit(
        without_augmentation(splits.train),
        splits.validation,
        deployed,
        groups=groups,
        times=None if groups is not None else times,
        kind=task.kind,
        modality=modality,
        probe=probe,
        most=most,
        names=(_some(names, kept.tolist()), None if own else _some(names, held_out.nonzero().flatten().tolist())),
        seed=seed,
        **form,
    )


def _some(names: Sequence[str], places: list[int]) -> list[str] | None:
    return [names[place] for place in places] if names else None


def can_audit() -> bool:
    """Whether what audits need is installed."""
    return find_spec("sklearn") is not None


def audit_of_trial(config: TrialConfig, task: Task, *, asked: bool | None) -> dict[str, Any] | None:
    """The quick audit of a trial, for its record.

    Args:
        config: the options of the trial; its first seed is that of the split.
        task: its data.
        asked: True: it must be made. None: it is made for files of data and a learned radius, where scikit-learn is
            installed and the data can be examined.

    Returns:
        JSON values, see ``docs/results-schema.md``; None where there is none.

    Raises:
        ValueError: it was asked for, and the data cannot be examined.
    """
    if asked is False or (asked is None and not _usual(config)):
        return None
    deployed = None if config.deployed is None else read_deployed(config, task)
    options = {"seed": config.seeds[0], "validation_share": config.validation_share, "probe": False}
    try:
        found = audit_task(task, **options, deployed=deployed, most=QUICK)
    except (ValueError, TypeError, NotImplementedError):
        if asked:
            raise
        return None
    return audit_record(found, **options, deployed=config.deployed)


def _usual(config: TrialConfig) -> bool:
    learns = any(method.is_learned for method in config.methods)
    return config.data_options is not None and learns and can_audit()


def audit_record(
    found: Audit, *, seed: int, validation_share: float, probe: bool, deployed: str | None
) -> dict[str, Any]:
    """An audit as JSON values, with how it was made."""
    how = {"seed": seed, "validation_share": validation_share, "probe": probe, "deployed": deployed}
    return {**how, **found.as_json()}
