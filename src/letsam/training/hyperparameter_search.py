"""``--search``: Optuna tunes the base optimizer of every method with the same budget, on held-out training data.

A study belongs to one method. Its trials train that method with the first seed on the training data without a share
that is held out from all methods alike, and are scored on this share; test data are never read. A worker computes one
trial from those before it, so that the trials depend on the seed alone, wherever they run and however often the search
was interrupted. Optuna samples the values (TPE), decides which trials are pruned, and keeps the finished ones.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from lightning_fabric import Fabric

from letsam import checks
from letsam.models import ModelOptions, with_options
from letsam.tasks import Task, targets_of, with_label_noise
from letsam.tasks.images import without_augmentation
from letsam.training.config import TrialConfig
from letsam.training.loop import Training
from letsam.training.methods import Method
from letsam.training.sampling import NOISE, SEARCH, generator, select
from letsam.training.user_code import called
from letsam.validation import held_out_split

if TYPE_CHECKING:
    from optuna.pruners import BasePruner
    from optuna.study import Study
    from optuna.trial import FrozenTrial

FACTOR = 30.0
"""The learning rate is searched from the task's own divided by this to that times this, on a logarithmic scale."""

DECAYS = (1e-6, 1e-1)
"""The weight decay is searched in this range, on a logarithmic scale, which the task's own extends if it is outside."""


class Searches:
    """The studies of a trial, in an Optuna storage.

    Args:
        config: the options of the trial, with the data on record.
        task: says which values are better.
        storage: URL of the storage; None: the file `optuna.db` in the folder.
        folder: of the trial.
    """

    def __init__(self, config: TrialConfig, task: Task, storage: str | None, folder: Path) -> None:
        self.config, self.lower = config, searched_for(task)[1]
        self._storage = storage
        self._folder = folder
        self._studies: dict[str, Study] = {}

    def earlier(self, method: Method) -> tuple[FrozenTrial, ...]:
        """The finished trials of a method, in order, as many as the budget has at most."""
        import optuna

        states = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED)
        trials = [trial for trial in self._study(method).trials if trial.state in states]
        return tuple(trials[: self.config.search_trials])

    def add(self, method: Method, trial: FrozenTrial) -> None:
        """Keep a finished trial."""
        self._study(method).add_trial(trial)

    def chosen(self, method: Method) -> dict[str, float] | None:
        """The best values of a method; None while its budget is not used up.

        Raises:
            ValueError: every trial has diverged.
        """
        trials = self.earlier(method)
        if len(trials) < (self.config.search_trials or 0):
            return None
        finished = [trial for trial in trials if trial.value is not None and trial.state.name == "COMPLETE"]
        if not finished:
            raise ValueError(f"`search`: all {len(trials)} trials of {method.name} have diverged")
        sign = 1 if self.lower else -1
        return dict(min(finished, key=lambda trial: sign * float(trial.value or 0.0)).params)

    def _study(self, method: Method) -> Study:
        import optuna

        if method.name not in self._studies:
            optuna.logging.set_verbosity(optuna.logging.WARNING)
            storage = self._storage
            if storage is None:
                self._folder.mkdir(parents=True, exist_ok=True)
                storage = f"sqlite:///{(self._folder / 'optuna.db').resolve()}"
            try:
                self._studies[method.name] = optuna.create_study(
                    storage=storage,
                    study_name=f"letsam {self.config.task} {method.name} {_digest(self.config)}",
                    direction="minimize" if self.lower else "maximize",
                    load_if_exists=True,
                )
            except Exception as error:  # what a storage raises depends on its kind
                text = " ".join(str(error).split("\n")[0].split())
                raise ValueError(f"`search_storage`: {storage} cannot be used: {text}") from error
        return self._studies[method.name]


def searched_for(task: Task) -> tuple[str, bool]:
    """What a search scores, and whether a lower value is better: the task's metric, or its loss where it has a score.

    A score may know the test set, whose references it compares with.
    """
    return ("test_accuracy", task.lower_is_better) if task.score is None else ("test_loss", True)


def run_search_trial(
    config: TrialConfig, fabric: Fabric, task: Task, method: Method, earlier: Sequence[FrozenTrial]
) -> FrozenTrial:
    """Train and score the next trial of a method.

    Args:
        config: the options of the trial.
        fabric: where it runs.
        task: the whole task.
        method: what is tuned.
        earlier: the trials before it.

    Returns:
        The finished trial: complete or pruned. One that diverges counts as pruned.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    column, lower = searched_for(task)
    seed = config.seeds[0]
    study = optuna.create_study(
        direction="minimize" if lower else "maximize",
        sampler=optuna.samplers.TPESampler(seed=generator(seed, SEARCH, len(earlier) + 1).initial_seed() % 2**32),
        pruner=_pruner(config.search_pruner),
    )
    study.add_trials(earlier)
    own = _own_values(task, config.search or ())
    if not earlier:  # so that no method does worse than with the task's own values, on the held-out share
        study.enqueue_trial({name: value for name, (value, _, _) in own.items()})
    uniform = optuna.distributions.FloatDistribution
    trial = study.ask({name: uniform(low, high, log=True) for name, (_, low, high) in own.items()})
    alone = dataclasses.replace(config, label_noise=0.0)
    training = Training(with_values(_held_out(task, config), trial.params), method, seed, alone, fabric)
    while not training.finished:
        training.advance()
        points = training.history[column]
        if not points or training.history["epoch"][-1] != training.epoch:
            continue
        value, loss = _number(points[-1]), _number(training.history["test_loss"][-1])
        diverged = not (math.isfinite(value) and math.isfinite(loss))
        if not diverged:
            trial.report(value, training.epoch)
        if diverged or (not training.finished and trial.should_prune()):
            trial.set_user_attr("diverged", diverged)
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
            return study.trials[-1]
    study.tell(trial, _number(training.history[column][-1]))
    return study.trials[-1]


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def with_values(task: Task, values: Mapping[str, float]) -> Task:
    """The task with a base optimizer of these values, `lr` and `weight_decay`, as far as they are given.

    The learning rate is that of the first param group; the others keep their ratio to it. The weight decay is that of
    all groups that have one, or of all groups if none has.
    """
    if not values:
        return task
    return dataclasses.replace(
        task,
        optimizer=with_options(
            task.optimizer, ModelOptions(lr=values.get("lr"), weight_decay=values.get("weight_decay"))
        ),
    )


def check_search(config: TrialConfig, task: Task) -> None:
    """Raise unless the base optimizer of the task can be searched, before anything is trained.

    Raises:
        ValueError: it has no such value, or none to start from.
    """
    if config.search is not None:
        _own_values(task, config.search)


def _own_values(task: Task, names: Sequence[str]) -> dict[str, tuple[float, float, float]]:
    """The task's own value of each, and the range in which it is searched."""
    with torch.random.fork_rng([]):
        optimizer = called("optimizer", task.optimizer, called("model", task.model).parameters())
    found: dict[str, tuple[float, float, float]] = {}
    for name in names:
        values = [group.get(name) for group in optimizer.param_groups]
        if any(value is None or isinstance(value, tuple | list) for value in values):
            raise ValueError(f"`search`: {type(optimizer).__name__} of this task has no {name}")
        if name == "lr":
            own = checks.positive("lr", float(values[0]))
            found[name] = own, own / FACTOR, own * FACTOR
        else:
            own = max((float(value) for value in values), default=0.0)
            low, high = min(DECAYS[0], own or DECAYS[0]), max(DECAYS[1], own)
            found[name] = own or low, low, high
    return found


def _held_out(task: Task, config: TrialConfig) -> Task:
    """The task with a share of its training data in place of its test data, and without that share for training."""
    seed, train = config.seeds[0], task.train
    if config.label_noise:
        train = with_label_noise(train, config.label_noise, generator=generator(seed, NOISE))
    kept, held_out = held_out_split(
        targets_of(train),
        config.validation_share,
        generator(seed, SEARCH),
        kind=task.kind,
        groups=task.groups,
        times=task.times,
        name="validation_share",
    )
    kept = kept.sort().values
    return dataclasses.replace(
        task,
        train=select(train, kept),
        test=without_augmentation(select(train, held_out)),
        groups=None if task.groups is None else task.groups[kept],
        times=None if task.times is None else task.times[kept],
        score=None,
    )


def _pruner(name: str | None) -> BasePruner:
    import optuna

    if name == "halving":
        return optuna.pruners.SuccessiveHalvingPruner()
    return optuna.pruners.MedianPruner() if name == "median" else optuna.pruners.NopPruner()


def _digest(config: TrialConfig) -> str:
    """Names the options that the trials of a search depend on; more trials of the same are the same search."""
    values = {**config.identity, "methods": None, "search_trials": None, "refit": None, "seeds": config.seeds[0]}
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:8]
