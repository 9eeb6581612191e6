"""The task of a setting, loaded once in each process."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

from benchmarks.evidence.suite import Setting
from letsam.tasks import Task, load_task


def loaded(setting: Setting) -> Task:
    """Its task; evaluated at the end only, as no curves are kept."""
    return _cached(setting.task, setting.train_size, setting.model)


@functools.lru_cache(maxsize=4)
def _cached(task: str, train_size: int | None, model: str | None) -> Task:
    options: dict[str, Any] = {"train_size": train_size, "model": model}
    found = load_task(task, **{name: value for name, value in options.items() if value is not None})
    return dataclasses.replace(found, evaluations=1)
