"""A rehearsal of each method before anything is trained: an error after ten epochs would be a lost hour.

One batch goes through loss, backward and the step of each method's own optimizer, and through evaluation, with metrics
and score. The networks of a rehearsal are thrown away, and all random states are put back, so that the runs are what
they would have been without it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import torch
from lightning_fabric import Fabric

from letsam.training.config import TrialConfig
from letsam.training.evaluation import evaluate_on
from letsam.training.feed import Batches
from letsam.training.loop import Training
from letsam.training.methods import PlannedRun
from letsam.training.random_states import same_random_states
from letsam.training.sampling import SplitCache, select


def rehearse(config: TrialConfig, fabric: Fabric, splits: SplitCache, runs: Iterable[PlannedRun]) -> None:
    """Try one batch with each method of these runs.

    Args:
        config: the options of the trial.
        fabric: where it runs; all ranks must call it together.
        splits: of the task.
        runs: those that are to be trained; of each method, the first is rehearsed.

    Raises:
        ValueError: what the first epoch, or the first evaluation, would have raised.
    """
    methods: dict[str, PlannedRun] = {}
    for run in runs:
        methods.setdefault(run.method.name, run.search)
    alone = dataclasses.replace(config, workers=0)
    with same_random_states(fabric.device):
        for run in methods.values():
            data = splits.get(run.seed, hold_out=run.method.is_learned)
            training = Training(splits.task, run.method, run.seed, alone, fabric, splits=data)
            training.one_step()
            _evaluate(training)


def _evaluate(training: Training) -> None:
    """On a part of each data set. What fails there is tried on all of it: a metric may need samples of every class."""
    task, model = training.task, training.model
    for batches in (training.measured, training.validation):
        if batches is not None:
            evaluate_on(task, model, _part(training, batches))
    try:
        evaluate_on(task, model, _part(training, training.test), whole=True)
    except Exception:
        if len(training.test) <= task.evaluation_batch or not task.metrics:
            raise
        evaluate_on(task, model, training.test, whole=True)
    if task.score is not None:
        try:
            training.score_on(_part(training, training.test).dataset)
        except Exception:
            if len(training.test) <= task.evaluation_batch:
                raise
            training.score_on(training.test.dataset)


def _part(training: Training, batches: Batches) -> Batches:
    count = min(len(batches), training.task.evaluation_batch)
    return Batches(select(batches.dataset, torch.arange(count)), training.fabric.device, training.task.collate)
