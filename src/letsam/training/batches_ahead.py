"""Batches read ahead of time by worker processes, with `torch.utils.data.DataLoader`."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from letsam.data.numbered import NumberedDataset, Source
from letsam.tasks import TaskError
from letsam.training.random_states import same_random_states
from letsam.training.user_code import called

MOST_WORKERS = 8  # chosen by themselves; more can be asked for
AHEAD = 2  # requests that each worker has in hand
ENDED = (
    "one of the worker processes that read the data has ended, most often for want of memory; use fewer (--workers) or "
    "smaller batches (--batch-size)"
)

Wanted = tuple[str, list[int], list[int] | None]
"""A batch: the name of the data set, the indices of the samples, and their numbers (see `NumberedDataset`) or None."""


class SampleReader:
    """Reads and collates batches of a data set, in any process.

    Args:
        dataset: (input, target) pairs.
        collate: makes a batch from a list of samples.
    """

    def __init__(self, dataset: Dataset[Any], collate: Callable[[list[Any]], tuple[Any, Any]]) -> None:
        self.dataset, self.collate = dataset, collate
        self.source = Source.of(dataset)
        base = self.source.dataset
        self.numbered = base if isinstance(base, NumberedDataset) else None

    def batch(self, indices: list[int], numbers: list[int] | None) -> tuple[Any, Any]:
        """A batch on the CPU, before `NumberedDataset.finish`.

        Args:
            indices: of the samples.
            numbers: one for each sample, which decides on its augmentation. None: the global generators do.
        """
        samples = called("dataset", self._samples, indices, numbers)
        return called("collate", self.collate, samples)

    def finish(self, inputs: Any) -> Any:
        """The inputs of a batch, on any device, as the model takes them."""
        return inputs if self.numbered is None else called("dataset", self.numbered.finish, inputs)

    def _samples(self, indices: list[int], numbers: list[int] | None) -> list[Any]:
        if self.numbered is not None:
            places = self.source.places(indices)
            given = [0] * len(places) if numbers is None else numbers
            return [
                (self.numbered.raw(place, number), self._target(index, place))
                for index, place, number in zip(indices, places, given, strict=True)
            ]
        if numbers is None:
            whole: Any = self.dataset
            return whole.__getitems__(indices) if _reads_batches(whole) else [whole[index] for index in indices]
        samples: list[Any] = []
        with same_random_states():
            for index, number in zip(indices, numbers, strict=True):
                torch.default_generator.manual_seed(number)
                random.seed(number)
                np.random.seed(number % 2**32)  # noqa: NPY002 - data sets of users may draw from it
                samples.append(self.dataset[index])
        return samples

    def _target(self, index: int, place: int) -> Any:
        assert self.numbered is not None
        return self.numbered.target(place) if self.source.targets is None else int(self.source.targets[index])


def _reads_batches(dataset: object) -> bool:
    """Whether a data set reads several samples at once; not where a subclass replaces the reading of one alone."""
    owner = next(
        (kind for kind in type(dataset).__mro__ if vars(kind).keys() & {"__getitem__", "__getitems__"}), object
    )
    return callable(vars(owner).get("__getitems__"))


class ReadAhead:
    """Worker processes that read the batches of several data sets, in the order in which they are asked for.

    The workers start with the first batch, stay for all further ones, and end with this object. What they read does not
    depend on their number.

    Args:
        readers: by the name of the data set.
        workers: number of processes, >= 1.
        pin: whether batches are copied to page-locked memory, from which a GPU copies while it computes.
    """

    def __init__(self, readers: Mapping[str, SampleReader], workers: int, *, pin: bool = False) -> None:
        self._readers, self._workers, self._pin = readers, workers, pin
        self._requests = _Requests()
        self._loader: DataLoader[Any] | None = None

    def read(self, requests: Iterable[Sequence[Wanted]]) -> Iterator[list[Any]]:
        """The batches of each request, on the CPU.

        Args:
            requests: each is answered at once; they are asked for as early as the workers can take them.

        Raises:
            TaskError: a sample cannot be read; one line.
            RuntimeError: a worker has ended; see `ended_workers_are_named`.
        """
        if self._loader is None:
            self._loader = DataLoader(
                _Answers(self._readers),
                sampler=self._requests,
                batch_size=None,
                collate_fn=_as_is,
                num_workers=self._workers,
                prefetch_factor=AHEAD,
                persistent_workers=True,
                pin_memory=self._pin,
                generator=torch.Generator(),  # or each start would draw a number from the global generator
            )
        self._requests.waiting = requests
        complete = False
        try:
            for answer in self._loader:
                if isinstance(answer, _Failure):
                    raise TaskError(answer.message)
                yield answer
            complete = True
        except (ConnectionError, EOFError, FileNotFoundError) as error:  # it ended while it handed over a batch
            raise TaskError(ENDED) from error
        finally:
            if not complete:  # its workers hold batches that nobody wants
                self._close()

    def _close(self) -> None:
        """End the workers. As long as torch knows of one that has failed, it raises in whatever is done next."""
        iterator = getattr(self._loader, "_iterator", None)
        self._loader = None
        if iterator is not None:
            iterator._shutdown_workers()


@contextlib.contextmanager
def ended_workers_are_named() -> Iterator[None]:
    """Raise `TaskError`, one line, where a worker process has ended.

    torch raises in the main thread as soon as it hears of the end, whatever runs there then: a model, a metric.
    """
    try:
        yield
    except Exception as error:
        if "DataLoader worker" not in str(error):
            raise
        raise TaskError(ENDED) from error


class _Requests:
    """The sampler of the `DataLoader`: an iteration goes over what is waiting."""

    waiting: Iterable[Sequence[Wanted]] = ()

    def __iter__(self) -> Iterator[Sequence[Wanted]]:
        return iter(self.waiting)


@dataclass(frozen=True)
class _Failure:
    """An error in a worker; `DataLoader` would turn the exception into one with several lines."""

    message: str


class _Answers(Dataset[Any]):
    """What a worker does with a request."""

    def __init__(self, readers: Mapping[str, SampleReader]) -> None:
        self.readers = readers

    def __getitem__(self, request: Sequence[Wanted]) -> list[Any] | _Failure:
        try:
            return [self.readers[name].batch(indices, numbers) for name, indices, numbers in request]
        except TaskError as error:
            return _Failure(str(error))


def _as_is(answer: Any) -> Any:
    return answer


def worker_count(given: int | None, *, reads_files: bool) -> int:
    """How many worker processes read the data.

    Args:
        given: as the user has asked; None: one fewer than there are cores, from 1 to 8, if reading is slow, else
            none.
        reads_files: whether reading a sample is slow.

    Returns:
        The number; 0 within a process that must not start others, such as a worker of a cluster.

    Example:
        >>> worker_count(3, reads_files=False), worker_count(None, reads_files=False)
        (3, 0)
    """
    if multiprocessing.current_process().daemon:
        return 0
    if given is not None:
        return given
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(MOST_WORKERS, max(1, cores - 1)) if reads_files else 0  # the training needs one itself
