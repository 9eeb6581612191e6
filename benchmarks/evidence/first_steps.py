"""What the first steps of a setting's runs show, as commands of their own print it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch

from benchmarks.evidence.suite import Setting
from benchmarks.harness.training import begun, loaded
from letsam.tasks import TaskError
from letsam.training.loop import Training


def started(setting: Setting, method: str, seed: int) -> Training:
    """A run of a setting before its first step."""
    task = loaded(setting.task, setting.train_size, setting.model)
    options = {"epochs": setting.epochs, "label_noise": setting.noise, "max_grad_norm": setting.max_grad_norm}
    return begun(task, method, seed, **options)


def tell(settings: Iterable[Setting], names: Sequence[str], line: Callable[[Setting], str]) -> None:
    """Print the line of each setting whose name begins with one of these, of all without names.

    A setting whose data is missing is named and left out.
    """
    torch.set_num_threads(1)
    for setting in settings:
        if names and not setting.name.startswith(tuple(names)):
            continue
        try:
            print(f"{setting.name}: {line(setting)}", flush=True)
        except TaskError as error:
            print(f"{setting.name}: left out, {error}", flush=True)
