"""Real training runs on digits with wrong labels, in float64, that stop every few steps to be compared."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Iterator

import torch
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import TensorDataset

import letsam
from benchmarks.fidelity.exact import Batch, Moment, closure_on
from letsam.tasks import load_task
from letsam.training.data import make_splits, training_order, validation_batch

LABEL_NOISE, VALIDATION_SHARE = 0.4, 0.1
LEARNED = "learned"


def moments(radius: float | str, seed: int, every: int, epochs: int | None = None) -> Iterator[tuple[Moment, float]]:
    """Train with SAM as `letsam trial digits` does, and hand out the run before every `every`-th step.

    Args:
        radius: a fixed radius, or "learned" for the default `LearnedRadius`, started at the task's radius.
        seed: of splits, noise, weights and order.
        every: steps between two moments, >= 1.
        epochs: of the training; None: the task's.

    Yields:
        A copy of the run before a step, and the radius that this step has used.
    """
    task = load_task("digits")
    epochs = epochs or task.epochs
    splits = make_splits(task, seed, label_noise=LABEL_NOISE, validation_share=VALIDATION_SHARE, hold_out=True)
    train, held_out = _in_float64(splits.train), _in_float64(splits.validation)
    torch.manual_seed(seed)
    model = task.model().double()
    base = task.optimizer(model.parameters())
    assert isinstance(base, torch.optim.SGD)
    opt = letsam.SAM(base, rho=letsam.LearnedRadius(task.sam_rho) if isinstance(radius, str) else radius)
    steps = epochs * len(training_order(splits.order, task.batch_size, seed, 0))
    schedule = LambdaLR(opt, lambda step: 0.5 * (1 + math.cos(math.pi * min(step / steps, 1))))
    per_epoch = (training_order(splits.order, task.batch_size, seed, epoch) for epoch in range(epochs + 1))
    order = itertools.chain.from_iterable(per_epoch)  # one epoch more, for the last step's next batch
    following = _batch(train, next(order))
    for step in range(steps):
        batch, following = following, _batch(train, next(order))
        validation = _batch(held_out, validation_batch(len(held_out[1]), task.batch_size, seed, step))
        before = copy.deepcopy((model, base.state_dict())) if step % every == 0 else None
        opt.step(closure_on(opt, model, task.loss, batch), closure_on(opt, model, task.loss, validation))
        if before is not None:
            twin = task.optimizer(before[0].parameters())
            assert isinstance(twin, torch.optim.SGD)
            twin.load_state_dict(before[1])
            yield Moment(before[0], twin, task.loss, batch, following, validation), opt.metrics["rho"].item()
        schedule.step()


def _in_float64(data: object) -> Batch:
    assert isinstance(data, TensorDataset)
    return data.tensors[0].double(), data.tensors[1]


def _batch(data: Batch, indices: list[int]) -> Batch:
    return data[0][indices], data[1][indices]
