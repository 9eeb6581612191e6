"""Train a method as `letsam trial` does."""

from __future__ import annotations

import copy
import dataclasses
import functools
from collections.abc import Callable
from typing import Any

from letsam.results import Run
from letsam.tasks import Task, load_task
from letsam.training.config import TrialConfig
from letsam.training.devices import make_fabric
from letsam.training.loop import Training
from letsam.training.methods import Method
from letsam.training.sampling import Splits

Decay = Callable[..., float]
"""Learning rate as a share of the first, from the number of a step and `steps`; 1 in the first step."""


@functools.lru_cache(maxsize=4)
def loaded(name: str, train_size: int | None = None, model: str | None = None) -> Task:
    """A task, loaded once in each process; evaluated at the end only, because no curves are kept."""
    options: dict[str, Any] = {"train_size": train_size, "model": model}
    found = load_task(name, **{name: value for name, value in options.items() if value is not None})
    return dataclasses.replace(found, evaluations=1)


def begun(
    task: Task,
    method: str,
    seed: int,
    *,
    searched: Run | None = None,
    device: str = "cpu",
    splits: Callable[[TrialConfig], Splits] | None = None,
    decay: Decay | None = None,
    state: dict[str, Any] | None = None,
    **options: Any,
) -> Training:
    """A training before its first step; `searched` has learned the radius that it replays on all data.

    With `state`, that of a training whose method may have another radius, it goes on from there. `splits` makes other
    splits than the trial's own. `decay` is a learning rate in place of the trial's cosine. The options are those of
    `TrialConfig`. A method that does not fit the model raises a ValueError.
    """
    parsed = Method.parse(method)
    config = TrialConfig(task=task.name, methods=(parsed,), seeds=(seed,), **options)
    own = None if splits is None else splits(config)
    training = Training(task, parsed, seed, config, make_fabric(device), searched, splits=own)
    if decay is not None:
        of_step = functools.partial(decay, steps=training.epochs * training.steps_per_epoch)
        training.scheduler.lr_lambdas = [of_step] * len(training.scheduler.lr_lambdas)
    if state is not None:
        training.load_state_dict(copy.deepcopy(state))
    return training


def trained(task: Task, method: str, seed: int, **options: Any) -> Training:
    """A finished training; the arguments are those of `begun`."""
    training = begun(task, method, seed, **options)
    while not training.finished:
        training.advance()
    return training


def with_refit(task: Task, method: str, seed: int, **options: Any) -> list[Run]:
    """A run; for a learned radius also the refit, a second run on all data with the learned schedule."""
    run = trained(task, method, seed, **options).result()
    if not Method.parse(method).is_learned:
        return [run]
    return [run, trained(task, method, seed, searched=run, **options).result()]
