"""Audits for the commands: of a task, and of the data of a trial."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from letsam.cli.options import AuditArguments, DataArguments
from letsam.cli.terminal import print_line
from letsam.results import Results, locked_folder, write_atomically
from letsam.validation import Audit

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from letsam.cli.drift_options import DriftArguments
    from letsam.tasks import Task
    from letsam.training.config import TrialConfig


def audit_config(asked: AuditArguments, data: DataArguments) -> TrialConfig:
    """The options of a trial with the data that are audited."""
    from letsam.data import is_data
    from letsam.training.config import TrialConfig

    from_files = is_data(asked.task)
    if not from_files:
        data.check_unused(asked.task)
    return TrialConfig(
        task=asked.task,
        seeds=(asked.seed,),
        validation_share=asked.validation_share,
        deployed=None if asked.deployed is None else str(asked.deployed),
        train_size=asked.train_size,
        data_dir=None if asked.data_dir is None else str(asked.data_dir),
        data_options=data.options(asked.task) if from_files else None,
    )


def audit_of(config: TrialConfig, task: Task) -> Audit:
    """Split the data of a task as a trial does, and audit the parts.

    Raises:
        ValueError: the data cannot be split, or deployed data are given for a task that is no files of data.
    """
    from letsam.training.learned_shift import read_deployed
    from letsam.training.task_audit import audit_task

    deployed = None if config.deployed is None else read_deployed(config, task)
    return audit_task(task, seed=config.seeds[0], validation_share=config.validation_share, deployed=deployed)


def save_audit(found: Audit, path: Path) -> None:
    """Write the findings, the numbers and the places of samples as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps({**found.as_json(), "places": found.places}, ensure_ascii=False, indent=1))


def check_same_data(folder: Path, task: Task) -> None:
    """Raise ValueError unless the results in this folder are of these data."""
    from letsam.training.data_record import DataRecord
    from letsam.training.trial import RESULTS

    path = folder / RESULTS
    if difference := DataRecord.of(task).difference(Results.load(path).config.get("data")):
        raise ValueError(f"{path}: holds runs on other data: {difference}")


def add_audit(found: Audit, folder: Path, config: TrialConfig, language: str) -> None:
    """Put an audit in the place of that of a trial, and make its report again in this language."""
    from letsam.reports.html import write_report
    from letsam.training.task_audit import audit_record
    from letsam.training.trial import REPORT, RESULTS

    how: dict[str, Any] = {"seed": config.seeds[0], "validation_share": config.validation_share}
    record = audit_record(found, **how, probe=True, deployed=config.deployed)
    with locked_folder(folder):
        results = dataclasses.replace(Results.load(folder / RESULTS), audit=record)
        results.save(folder / RESULTS)
        write_report(results, folder / REPORT, language)


def audit_for_record(
    config: TrialConfig, task: Task, drift: DriftArguments, earlier: Path | None, fabric: Fabric
) -> tuple[Mapping[str, Any] | None, bool]:
    """The audit of the data for the record, which the first rank makes unless there is one; whether it is new."""
    from letsam.training.task_audit import audit_of_trial

    asked = drift.asks_for_audit
    if earlier is not None and earlier.exists() and (known := Results.load(earlier).audit) is not None:
        return known, False
    return (audit_of_trial(config, task, asked=asked) if fabric.is_global_zero else None), True


def print_audit(found: Mapping[str, Any] | None) -> None:
    """Print what the audit of a trial has found, a line for each finding."""
    if found is None:
        return
    for one in found["findings"]:
        print_line(f"data audit: {one['severity']}: {one['what']}: {one['change']} [{one['code']}]")
    if not found["findings"]:
        print_line("data audit: nothing is wrong")
