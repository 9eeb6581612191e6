"""The audit of a task for `letsam audit`."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import torch

from letsam.cli.options import AuditArguments, DataArguments
from letsam.results import write_atomically
from letsam.validation import Audit, audit


def audit_of(asked: AuditArguments, data: DataArguments) -> Audit:
    """Split the data of a task as a trial does, and audit the parts.

    Raises:
        ValueError: the data cannot be read or split, or deployed data are given for a task that is no files of data.
    """
    from letsam.data import is_data
    from letsam.tasks.images import without_augmentation
    from letsam.training.config import TrialConfig
    from letsam.training.drifted import form_options
    from letsam.training.sampling import make_splits

    from_files = is_data(asked.task)
    if not from_files:
        data.check_unused(asked.task)
    config = TrialConfig(
        task=asked.task,
        seeds=(asked.seed,),
        validation_share=asked.validation_share,
        train_size=asked.train_size,
        data_dir=None if asked.data_dir is None else str(asked.data_dir),
        data_options=data.options(asked.task) if from_files else None,
    )
    task = config.load_task()
    if asked.deployed is not None and task.preparation is None:
        raise ValueError("`deployed` needs a DATA that is a file or folder of data")
    deployed = None if asked.deployed is None else task.preparation.read(str(asked.deployed))
    splits = make_splits(task, asked.seed, label_noise=0.0, validation_share=asked.validation_share, hold_out=True)
    assert splits.validation is not None
    kept, total = splits.order
    held_out = torch.ones(total, dtype=torch.bool)
    held_out[kept] = False
    own = task.validation is not None  # its groups and times are not known
    groups, times = (None if own or of is None else (of[kept], of[held_out]) for of in (task.groups, task.times))
    modality, form = form_options(task)
    return audit(
        without_augmentation(splits.train),
        splits.validation,
        deployed,
        groups=groups,
        times=None if groups is not None else times,
        kind=task.kind,
        modality=modality,
        seed=asked.seed,
        **form,
    )


def save_audit(found: Audit, path: Path) -> None:
    """Write the findings, the numbers and the places of samples as JSON."""
    content: dict[str, Any] = {
        "findings": [dataclasses.asdict(finding) for finding in found],
        "measures": found.measures,
        "places": found.places,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(content, ensure_ascii=False, indent=1))
