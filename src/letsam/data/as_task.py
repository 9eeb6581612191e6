"""A task made of files of data: the data, a model, loss and metrics."""

from __future__ import annotations

import dataclasses

from torch import Tensor, nn

from letsam.data.data_options import DataOptions
from letsam.data.loaded import LoadedData
from letsam.data.reading import read_data
from letsam.models import DataDescription, ModelOptions, choose
from letsam.tasks import Task


def data_task(options: DataOptions, model: ModelOptions) -> Task:
    """Read the data, and make a task of them.

    Args:
        options: how the data are read.
        model: the model, and how its weights are trained.

    Returns:
        The task.

    Raises:
        DataError: the data cannot be used.
        ValueError: there is no such model.
    """
    return task_of(read_data(dataclasses.replace(options, pretrained=model.pretrained)), model)


def task_of(data: LoadedData, options: ModelOptions) -> Task:
    """The task of data that were read."""
    described = DataDescription(
        modality=data.modality,
        samples=len(data.train),  # pyright: ignore[reportArgumentType]
        outputs=data.outputs,
        input_shape=data.input_shape,
        vocabulary=data.vocabulary,
    )
    chosen = choose(described, options, data.pad_id)
    return Task(
        name=data.name,
        model=chosen.make,
        train=data.train,
        test=data.test,
        validation=data.validation,
        loss=LOSSES[data.kind],
        collate=data.collate,
        optimizer=chosen.optimizer,
        epochs=chosen.epochs,
        batch_size=chosen.batch_size,
        kind=data.kind,
        classes=data.classes,
        preparation=data.preparation,
        inferred=(*data.inferred, ("model", chosen.name)),
        groups=data.groups,
        times=data.times,
        model_config=chosen.config,
    )


def squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """Mean squared error, for one number or several for each sample."""
    return nn.functional.mse_loss(outputs.reshape(targets.shape), targets)


LOSSES = {
    "classification": nn.functional.cross_entropy,
    "multilabel": nn.functional.binary_cross_entropy_with_logits,
    "regression": squared_error,
}
