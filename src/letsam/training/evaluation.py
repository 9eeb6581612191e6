"""The loss and the metrics of a model on a data set."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from letsam import checks
from letsam.tasks import Task
from letsam.tasks.model_outputs import logits_of, model_outputs, of_outputs
from letsam.tasks.weighted import concatenated
from letsam.training.feed import Batches
from letsam.training.predictions import OutputCollector
from letsam.training.user_code import called


@dataclass(frozen=True)
class Evaluation:
    """The numbers of one data set.

    Args:
        loss: mean over the samples.
        metric: the main metric; NaN where it needs the whole data set and that was not asked for.
        metrics: all metrics of the task that need the whole data set, by name.
    """

    loss: float
    metric: float
    metrics: dict[str, float] = field(default_factory=dict[str, float])


@torch.no_grad()
def evaluate_on(
    task: Task,
    model: nn.Module,
    batches: Batches,
    *,
    whole: bool = False,
    collector: OutputCollector | None = None,
    only: list[int] | None = None,
) -> Evaluation:
    """Mean loss and mean metric over all samples, in evaluation mode, weighted by the size of each batch.

    Args:
        task: loss and metrics.
        model: its mode is restored.
        batches: of the data set.
        whole: compute the metrics of the whole data set as well.
        collector: takes in the outputs.
        only: the indices of the samples; None: all.
    """
    samples = len(batches) if only is None else len(only)
    by_batch = task.metric_name not in {metric.name for metric in task.metrics}
    loss = metric = torch.zeros((), dtype=torch.float64)
    outputs_of, targets_of = [], []
    for count, outputs, targets in outputs_in_batches(task, model, batches, only):
        share = count / samples
        loss = loss + share * scalar("loss", called("loss", of_outputs, task.loss, outputs, targets))
        if by_batch:
            metric = metric + share * scalar("metric", called("metric", of_outputs, task.metric, outputs, targets))
        if whole and task.metrics:
            outputs_of.append(logits_of(outputs))
            targets_of.append(targets)
        if collector is not None:
            collector.add(outputs, targets, count)
    metrics: dict[str, float] = {}
    if outputs_of:
        outputs, targets = concatenated(outputs_of), concatenated(targets_of)
        for row in task.metrics:
            value = called(f"metrics: {row.name}", row.function, outputs, targets)
            metrics[row.name] = checks.number(f"metrics: {row.name}", value)
    return Evaluation(float(loss), float(metric) if by_batch else metrics.get(task.metric_name, float("nan")), metrics)


def outputs_in_batches(
    task: Task, model: nn.Module, batches: Batches, only: list[int] | None = None
) -> Iterator[tuple[int, Any, Any]]:
    """For each batch in order: the number of its samples, the outputs of the model in evaluation mode, the targets.

    The mode of the model is restored at the end. Call it without gradients.
    """
    training = model.training
    model.eval()
    indices, size = list(range(len(batches))) if only is None else only, task.evaluation_batch
    chunks = [indices[i : i + size] for i in range(0, len(indices), size)]
    for chunk, (inputs, targets) in zip(chunks, batches.take(chunks), strict=True):
        yield len(chunk), called("model", model_outputs, model, inputs), targets
    model.train(training)


def check_scalar(name: str, value: object) -> None:
    """Raise ValueError unless a function of a task has returned one number in a tensor."""
    if not isinstance(value, Tensor) or value.numel() != 1:
        shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise ValueError(f"`{name}` must return a scalar tensor, got {shape}")


def scalar(name: str, value: Any) -> Tensor:
    """The number in float64 on the CPU."""
    check_scalar(name, value)
    return value.detach().cpu().double().reshape(())
