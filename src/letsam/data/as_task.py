"""A task made of files of data: the data, a model, loss and metrics."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from letsam.data.data_options import DataOptions
from letsam.data.loaded import LoadedData
from letsam.data.loss_by_kind import KindLoss
from letsam.data.problems import DataError
from letsam.data.reading import read_data
from letsam.models import DataDescription, ModelOptions, Rescaled, choose
from letsam.tasks import Task, targets_of
from letsam.tasks.metrics import METRICS, Metric, find_metric

IMBALANCED = 5.0  # times the smallest class, from which on the accuracy says little


def data_task(options: DataOptions, model: ModelOptions) -> Task:
    """Read the data, and make a task of them.

    Args:
        options: how the data are read.
        model: the model, and how its weights are trained.

    Returns:
        The task.

    Raises:
        DataError: the data cannot be used.
        ValueError: there is no such model or metric.
    """
    data = read_data(dataclasses.replace(options, pretrained=model.pretrained))
    return task_of(data, model, metric=options.metric, balance=options.balance)


def task_of(data: LoadedData, options: ModelOptions, *, metric: str | None = None, balance: bool = False) -> Task:
    """The task of data that were read.

    Args:
        data: prepared data.
        options: the model, and how its weights are trained.
        metric: the name of the main metric. None: accuracy, of classes that differ in size by a factor of 5 or more
            balanced accuracy, of numbers RMSE.
        balance: weight the classes in the loss so that all have the same total weight.

    Raises:
        ValueError: there is no such model or metric.
    """
    described = DataDescription(
        modality=data.modality,
        samples=len(data.train),  # pyright: ignore[reportArgumentType]
        outputs=data.outputs,
        input_shape=data.input_shape,
        vocabulary=data.vocabulary,
    )
    targets = targets_of(data.train)
    main, why = _main_metric(data.kind, targets, metric)
    others = ", ".join(one.name for one in METRICS[data.kind] if one is not main)
    chosen = choose(described, options, data.pad_id)
    make, config, scale = _in_units_of_the_target(data.kind, targets, chosen.make, chosen.config)
    weights = _class_weights(data, targets) if balance else None
    rows = [("metric", f"{main.name}{' (lower is better)' if main.lower_is_better else ''}{why}; also {others}")]
    if weights is not None:
        rows.append(("loss", "weighted, so that all classes have the same total weight"))
    return Task(
        name=data.name,
        description=f"{data.modality} data from a file or folder",
        model=make,
        train=data.train,
        test=data.test,
        validation=data.validation,
        train_names=data.train_names,
        test_names=data.test_names,
        loss=KindLoss(data.kind, weights, scale),
        metrics=METRICS[data.kind],
        metric_name=main.name,
        lower_is_better=main.lower_is_better,
        collate=data.collate,
        optimizer=chosen.optimizer,
        epochs=chosen.epochs,
        batch_size=chosen.batch_size,
        kind=data.kind,
        classes=data.classes,
        preparation=data.preparation,
        inferred=(*data.inferred, *rows, ("model", chosen.name)),
        groups=data.groups,
        times=data.times,
        model_config=config,
    )


def _main_metric(kind: str, targets: Tensor, name: str | None) -> tuple[Metric, str]:
    """The main metric, and why it is not the usual one of its kind."""
    if name is not None:
        return find_metric(name, kind), ""
    if kind == "classification":
        counts = torch.bincount(targets)
        counts = counts[counts > 0]
        if float(counts.max()) >= IMBALANCED * float(counts.min()):
            return find_metric("balanced accuracy", kind), ", as the classes differ much in size"
    return METRICS[kind][0], ""


def _class_weights(data: LoadedData, targets: Tensor) -> tuple[float, ...]:
    """One for each class: with them, all have the same total weight, and the mean weight of the samples is 1."""
    if data.kind != "classification":
        raise DataError(f"`balance` must be given for classes, got a target for {data.kind}")
    weights = torch.ones(len(targets)) if data.weights is None else data.weights
    totals = torch.zeros(data.outputs, dtype=torch.float64).index_add_(0, targets, weights.double())
    present = totals > 0
    balanced = torch.where(present, totals.sum() / (present.sum() * totals.clamp(min=1e-300)), 0.0)
    return tuple(balanced.tolist())


def _in_units_of_the_target(
    kind: str, targets: Tensor, make: Callable[[], nn.Module], config: dict[str, Any]
) -> tuple[Callable[[], nn.Module], dict[str, Any], tuple[float, ...]]:
    """A model of numbers whose outputs are in their units, its configuration, and the scale of the loss."""
    if kind != "regression":
        return make, config, (1.0,)
    columns = targets.double().reshape(len(targets), -1)
    deviation = columns.std(dim=0, correction=0)
    mean, scale = columns.mean(dim=0).tolist(), torch.where(deviation > 0, deviation, 1.0).tolist()
    rescaled = {"mean": mean, "scale": scale}
    return partial(_rescaled_model, make, mean, scale), {**config, "rescaled": rescaled}, tuple(scale)


def _rescaled_model(make: Callable[[], nn.Module], mean: list[float], scale: list[float]) -> nn.Module:
    return Rescaled(make(), mean, scale)
