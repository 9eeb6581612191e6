"""New data as a task whose network is that of the model in use, with its weights."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn
from torch.utils.data import Dataset

from letsam.data import DataOptions, LoadedData, is_data, read_data
from letsam.data.as_task import task_of
from letsam.data.joined import joined_data, joined_sets
from letsam.data.loss_by_kind import KindLoss
from letsam.model_folder.data_hashes import fingerprint_of, hashed_record, hashed_source
from letsam.model_folder.model_loading import restored_network
from letsam.models import ModelOptions, with_options
from letsam.models.pretrained import fine_tuned
from letsam.operation.champion import Champion
from letsam.tasks import Task, load_task, targets_of
from letsam.training.data_record import DataRecord

__all__ = ["NewData", "TunedTask"]


@dataclass(frozen=True)
class NewData:
    """Which data a model is trained on again.

    Args:
        path: a file or folder of the form of the training data; of a model of a task in code, such a task.
        test: a file or folder with the test data; None: a part of the new data is held out.
        old: earlier data that are mixed in; None: none.
    """

    path: str
    test: str | None = None
    old: str | None = None

    def options(self, champion: Champion, path: str, test: str | None) -> DataOptions:
        """How a file is read: as the training data were."""
        assert champion.options.data_options is not None
        return dataclasses.replace(champion.options.data_options, path=path, test=test)

    def hashes(self, task: TunedTask) -> dict[str, Any]:
        """The fingerprint of the data and their sources, as ``version.json`` has them.

        Args:
            task: that was made of them; what is no file counts with its record.
        """
        named = (("train", self.path, task.task), ("test", self.test, task.task), ("old", self.old, task.old))
        sources = [_hashed(role, path, made) for role, path, made in named if path is not None and made is not None]
        return {"fingerprint": fingerprint_of(sources), "sources": sources}


def _hashed(role: str, path: str, task: Task) -> dict[str, Any]:
    if is_data(path) and Path(path).exists():
        return hashed_source(role, path)
    return hashed_record(role, path, DataRecord.of(task).as_json())


@dataclass(frozen=True)
class TunedTask:
    """A task on new data, with the network and the training of a model.

    Args:
        task: the task; its network has the weights of the model, its base optimizer the learning rate of training.
        data_options: how the files are read; None: a task in code.
        old: the old data as a task of their own, for their test samples; None: no old data.
    """

    task: Task
    data_options: DataOptions | None
    old: Task | None = None

    @classmethod
    def of(cls, champion: Champion, data: NewData) -> TunedTask:
        """Read the data and restore the network.

        Raises:
            DataError, TaskError: the data cannot be used: columns that are missing, a class that was never seen, no
                rows.
            ModelFolderError: the weights are not those of the network.
        """
        return _in_code(champion, data) if champion.in_code else _of_files(champion, data)

    @property
    def learning_rate(self) -> float:
        """Of the base optimizer, for its first group of parameters."""
        optimizer = self.task.optimizer(self.task.model().parameters())
        return float(optimizer.param_groups[0]["lr"])

    def with_learning_rate(self, lr: float) -> TunedTask:
        """The same with another learning rate of the base optimizer; other groups keep their ratio to the first."""
        optimizer = with_options(self.task.optimizer, ModelOptions(lr=lr))
        return dataclasses.replace(self, task=dataclasses.replace(self.task, optimizer=optimizer))


@dataclass(frozen=True)
class _Restored:
    """Makes the network of a model with its trained weights."""

    champion: Champion
    make: Callable[[], nn.Module] | None = None

    def __call__(self) -> nn.Module:
        champion = self.champion
        if champion.family == "transformers" and self.make is not None:
            return self.make()  # its weights are in its own folder
        return restored_network(champion.config, champion.place, None if self.make is None else self.make())


def _of_files(champion: Champion, data: NewData) -> TunedTask:
    form = champion.form
    options = data.options(champion, data.path, data.test)
    new = read_data(options, form)
    old: LoadedData | None = None
    if data.old is not None:
        old = read_data(data.options(champion, data.old, None), form)
        new = joined_data(new, old)

    def made(of: LoadedData) -> Task:
        metric, balance = champion.config["metric"], options.balance
        task = task_of(of, champion.model_options, metric=metric, balance=balance)
        network = champion.config["network"]
        loss, scale = task.loss, network.get("rescaled", {}).get("scale")
        if scale is not None and isinstance(loss, KindLoss):  # so that losses on new data compare with earlier ones
            loss = dataclasses.replace(loss, scale=tuple(scale))
        return dataclasses.replace(task, loss=loss, model=_Restored(champion, _adapted(champion)), model_config=network)

    return TunedTask(made(new), options, None if old is None else made(old))


def _adapted(champion: Champion) -> Callable[[], nn.Module] | None:
    """Of a pretrained model with adapters, what adds new ones to its network."""
    network = champion.config["network"]
    if not network.get("lora"):
        return None
    saved = dataclasses.replace(champion.model_options, pretrained=str(champion.place / "network"))
    outputs = int(champion.config["outputs"])
    return functools.partial(fine_tuned, saved, network["modality"], outputs)


def _in_code(champion: Champion, data: NewData) -> TunedTask:
    if data.test is not None:
        raise ValueError("`test` needs a model of files of data; the test data of a task in code are its own")
    task = _task_in_code(champion, data.path)
    old = None if data.old is None else _task_in_code(champion, data.old)
    if old is not None:
        for name in ("groups", "times"):
            if getattr(task, name) is not None or getattr(old, name) is not None:
                raise ValueError(f"`old` must not be given with a task that has {name}")
        task = dataclasses.replace(task, train=joined_sets(task.train, old.train))
    return TunedTask(task, None, old)


def _task_in_code(champion: Champion, spec: str) -> Task:
    if is_data(spec):
        raise ValueError(
            f"{spec}: expected a task in code, as the model was trained on {champion.options.task!r}, got data"
        )
    network = champion.config["network"]
    same = spec == champion.options.task
    directory = Path(network["data_dir"]) if same and network.get("data_dir") else None
    task = load_task(spec, data_dir=directory, model=network.get("model"))
    optimizer = with_options(task.optimizer, champion.model_options)
    _check_dataset_fits(champion, task.train, spec)
    return dataclasses.replace(task, model=_Restored(champion, task.model), optimizer=optimizer)


def _check_dataset_fits(champion: Champion, train: Dataset[Any], spec: str) -> None:
    """The classes of a task in code are those that its network has outputs for."""
    outputs, kind = champion.config.get("outputs"), champion.config["kind"]
    if kind != "classification" or outputs is None:
        return
    targets = targets_of(train)
    if targets.ndim == 1 and not targets.is_floating_point() and int(targets.max()) >= int(outputs):
        raise ValueError(f"{spec}: expected classes from 0 to {int(outputs) - 1}, got {int(targets.max())}")
