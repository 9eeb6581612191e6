"""``lr="auto"``: one range test of the base optimizer, before a trial, for all its methods and seeds."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric

from letsam.models import range_test
from letsam.models.model_options import AUTO
from letsam.results import Results
from letsam.tasks import Task
from letsam.tasks.model_outputs import model_outputs, of_outputs
from letsam.training.config import TrialConfig
from letsam.training.feed import Batches
from letsam.training.sampling import SplitCache, training_order
from letsam.training.user_code import called


def with_learning_rate(
    config: TrialConfig, splits: SplitCache, fabric: Fabric, earlier: Path | None = None
) -> tuple[TrialConfig, Task]:
    """Find the learning rate where the options ask for it.

    The test trains a network of the first seed on all training samples of this seed, with the loss and the batch size
    of the trial (one of its micro-batches, with `accumulate`). It depends on the options alone. No random number of a
    run is drawn by it.

    Args:
        config: with the defaults of the task filled in.
        splits: of the task; it gets the task that is returned.
        fabric: where it runs; all ranks get the learning rate of the first.
        earlier: results of this trial, whose learning rate is kept if it has one.

    Returns:
        The options with `found_lr`, and the task with a base optimizer of this learning rate. Without ``lr="auto"``,
        the options and the task as they are.
    """
    task = splits.task
    if config.model_options is None or config.model_options.lr != AUTO:
        return config, task
    known = Results.load(earlier).config.get("found_lr") if earlier is not None and earlier.exists() else None
    found = known if isinstance(known, float) else fabric.broadcast(_tested(task, config, splits, fabric))
    config = dataclasses.replace(config, found_lr=found)
    row = ("learning rate", f"{found:g}, found by a range test")
    splits.task = dataclasses.replace(config.with_optimizer(task), inferred=(*task.inferred, row))
    return config, splits.task


def _tested(task: Task, config: TrialConfig, splits: SplitCache, fabric: Fabric) -> float:
    seed, size = config.seeds[0], config.batch_size or task.batch_size
    data = splits.get(seed, hold_out=False)
    device = fabric.device

    def batches() -> Iterator[tuple[Any, Any]]:
        train, epoch = Batches(data.train, device, task.collate), 0
        while True:
            for indices in training_order(data.order, max(1, size // config.accumulate), seed, epoch):
                yield train.one(indices)
            epoch += 1

    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        model = called("model", task.model).to(device).train()
        return range_test(
            lambda inputs: called("model", model_outputs, model, inputs),
            called("optimizer", task.optimizer, model.parameters()),
            lambda outputs, targets: called("loss", of_outputs, task.loss, outputs, targets),
            batches(),
        ).found
