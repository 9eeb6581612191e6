"""Where runs are worked on: in this process, in processes of this machine (joblib), on a Dask or on a Ray cluster.

`run_all` hands out the items and yields what comes back, in the order in which it arrives. It starts an item again if
the worker that had it ends, a bounded number of times, and says so in the log. An exception of the work itself is
raised here with its own message. Every worker computes with one thread and on one item at a time, so that the numbers
are those of one process with one thread.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import socket
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Generic, TypeVar

import torch

from letsam import checks
from letsam._version import __version__

Item = TypeVar("Item")
Tell = Callable[[Any], None]
"""Sends a value to the process that hands out the items, while the work goes on."""

RETRIES = 3
"""How often an item is started again after the worker that had it has ended."""

_VERSIONS = ("letsam", "torch")
_ONE_AT_A_TIME = threading.Lock()  # workers of Dask may have many threads, and torch's random numbers are one stream
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Answered:
    """What the work has returned."""

    value: Any


@dataclass(frozen=True)
class Raised:
    """What the work has raised."""

    error: BaseException


@dataclass(frozen=True)
class Lost:
    """The worker has ended without an answer.

    Attributes:
        reason: what is known about it, a few words.
        restarted: whether the cluster has started the item again by itself.
    """

    reason: str
    restarted: bool = False


Outcome = Answered | Raised | Lost
Hear = Callable[[int, Any], None]
"""Takes the number of a call and a value that its work has told."""


@dataclass(frozen=True)
class Call(Generic[Item]):
    """What a worker does: `work(item, tell)`.

    Attributes:
        work: a function at the top level of a module, which is sent by its name.
        item: its argument, which is pickled.
        folder: the current folder; a worker that has it works there, so that relative paths mean the same.
        versions: of the packages that decide the numbers.
    """

    work: Callable[[Item, Tell], Any]
    item: Item
    folder: str = field(default_factory=os.getcwd)
    versions: tuple[str, ...] = field(default_factory=lambda: installed_versions())


class Backend(ABC):
    """Workers that take calls and answer; a context manager that stops what is in progress at its end."""

    @property
    @abstractmethod
    def capacity(self) -> int:
        """How many calls can be worked on at once, now."""

    @abstractmethod
    def submit(self, number: int, call: Call[Any]) -> None:
        """Start a call, which is known by its number from then on."""

    @abstractmethod
    def wait(self, hear: Hear) -> list[tuple[int, Outcome]]:
        """Wait until something has happened, a second at most.

        Args:
            hear: is given what calls tell; of a call that has ended, before this returns.

        Returns:
            The numbers of calls that have ended, and how.
        """

    @abstractmethod
    def close(self) -> None:
        """Stop what is in progress, and the workers if they were started here."""

    def __enter__(self) -> Backend:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def run_all(
    work: Callable[[Item, Tell], Any],
    items: Iterable[Item],
    backend: Backend,
    *,
    heard: Callable[[Item, Any], None] | None = None,
    follow: Callable[[Item, Any], Iterable[Item]] | None = None,
) -> Iterator[tuple[Item, Any]]:
    """Call `work(item, tell)` for all items, as many at a time as the backend takes, started in the order given.

    Args:
        work: for other processes than this one, a function at the top level of a module.
        items: what to work on; `str(item)` names it in the log.
        backend: from `make_backend`; it is closed at the end, however that comes.
        heard: called with the item and every value that its work tells.
        follow: called with the item and what its work returned; gives further items, which are next in the queue.

    Yields:
        (item, what `work` returned), as they arrive.

    Raises:
        Exception: what `work` raised; everything else is stopped.
        RuntimeError: the worker of an item has ended, `RETRIES` + 1 times.

    Example:
        >>> double = lambda number, tell: 2 * number
        >>> list(run_all(double, [1, 2], Here(), follow=lambda number, value: [number + 9] if number == 1 else []))
        [(1, 2), (10, 20), (2, 4)]
    """
    waiting = deque(items)
    busy: dict[int, Item] = {}
    losses: dict[int, int] = {}
    number = 0
    with backend:
        while waiting or busy:
            for _ in range(min(len(waiting), backend.capacity - len(busy)) if waiting else 0):
                busy[number] = waiting.popleft()
                backend.submit(number, Call(work, busy[number]))
                number += 1
            for one, outcome in backend.wait(lambda one, value: heard(busy[one], value) if heard else None):
                item = busy[one]
                if isinstance(outcome, Lost):
                    losses[one] = losses.get(one, 0) + 1
                    _report(item, outcome, losses[one])
                    if not outcome.restarted:
                        backend.submit(one, Call(work, item))
                elif isinstance(outcome, Raised):
                    raise outcome.error
                else:
                    del busy[one]
                    waiting.extendleft(reversed(list(follow(item, outcome.value) if follow is not None else ())))
                    yield item, outcome.value


def make_backend(executor: str, jobs: int = 1, device: str = "auto") -> Backend:
    """The workers that the option `--executor` names.

    Args:
        executor: "joblib" (processes of this machine), "dask://HOST:PORT" (of the scheduler), "ray://HOST:PORT" (of the
            Ray client server), "ray://auto" (the cluster that this machine belongs to), or "dask://local" and
            "ray://local" (a cluster on this machine that ends with the trial).
        jobs: the number of processes, >= 1; a cluster that runs already has its own.
        device: as in `make_fabric`; on Ray, a run on a GPU asks for one.

    Returns:
        The workers, which start with the first call.

    Raises:
        ValueError: another name, or a cluster that does not answer.
        ModuleNotFoundError: the package of the cluster is not installed.

    Example:
        >>> make_backend("slurm")
        Traceback (most recent call last):
        ValueError: `executor` must be joblib, dask://HOST:PORT, ray://HOST:PORT or ray://auto, got 'slurm'
    """
    check_executor(executor, jobs)
    kind, _, address = executor.partition("://")
    if kind == "joblib":
        from letsam.training.joblib_workers import JoblibBackend

        return JoblibBackend(jobs)
    if kind == "dask":
        from letsam.training.dask_cluster import DaskBackend

        return DaskBackend(address, jobs)
    from letsam.training.ray_cluster import RayBackend

    return RayBackend(address, jobs, device)


def check_executor(executor: str, jobs: int = 1) -> None:
    """Raise ValueError if there is no such executor, or if it does not leave the number of workers to `jobs`."""
    checks.whole("jobs", jobs, 1)
    kind, mark, address = executor.partition("://")
    host, _, port = address.rpartition(":")
    known = (host and port.isdigit()) or address in ("local", *(["auto"] if kind == "ray" else []))
    if executor != "joblib" and not (mark and kind in ("dask", "ray") and known):
        expected = "joblib, dask://HOST:PORT, ray://HOST:PORT or ray://auto"
        raise ValueError(f"`executor` must be {expected}, got {executor!r}")
    if jobs > 1 and mark and address != "local":
        raise ValueError(f"`jobs` must be 1 with {executor}, which has its own number of workers, got {jobs}")


class Here(Backend):
    """Works in this process, on one call at a time, with its threads; what the work tells is heard at once."""

    def __init__(self) -> None:
        self._waiting: list[tuple[int, Call[Any]]] = []

    @property
    def capacity(self) -> int:
        """One."""
        return 1

    def submit(self, number: int, call: Call[Any]) -> None:
        """Keep the call for `wait`, which works on it."""
        self._waiting.append((number, call))

    def wait(self, hear: Hear) -> list[tuple[int, Outcome]]:
        """Work on the call; an exception is raised as it is."""
        number, call = self._waiting.pop()
        return [(number, Answered(call.work(call.item, lambda value: hear(number, value))))]

    def close(self) -> None:
        """Nothing is left to stop."""


def answer_to(call: Call[Item], tell: Tell, *, cluster: bool = False) -> Answered | Raised:
    """What a worker process does with a call: its answer, never an exception.

    Args:
        call: the call.
        tell: sends a value.
        cluster: whether the worker may be on another machine; errors then name it, and versions are compared.
    """
    folder = contextlib.chdir(call.folder) if os.path.isdir(call.folder) else contextlib.nullcontext()
    with _ONE_AT_A_TIME, folder:
        torch.set_num_threads(1)
        try:
            if cluster:
                _check_versions(call.versions)
            return Answered(call.work(call.item, tell))
        except (Exception, SystemExit) as error:
            return Raised(_sendable(error, f" (on the worker {socket.gethostname()})" if cluster else ""))


def installed_versions() -> tuple[str, ...]:
    """The versions of the packages that decide the numbers."""
    return __version__, torch.__version__


def _check_versions(theirs: tuple[str, ...]) -> None:
    for name, here, there in zip(_VERSIONS, installed_versions(), theirs, strict=True):
        if here != there:
            raise ValueError(f"every worker must have {name} {there}, so that all runs are comparable, got {here}")


def _report(item: object, lost: Lost, times: int) -> None:
    if times > RETRIES:
        raise RuntimeError(
            f"the worker ended {times} times while working on {item} ({lost.reason}); it may need more memory"
        )
    _log.warning(
        "a worker ended while working on %s (%s); it starts again, attempt %d of %d",
        item,
        lost.reason,
        times + 1,
        RETRIES + 1,
    )


def _sendable(error: BaseException, where: str) -> BaseException:
    """The error itself, or one with the same message where it cannot be pickled."""
    if isinstance(error, SystemExit):
        error = RuntimeError(f"SystemExit: {error}")
    if where and len(error.args) == 1 and isinstance(error.args[0], str):
        error.args = (error.args[0] + where,)
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
