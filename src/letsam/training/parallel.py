"""Work in parallel worker processes.

Each worker is a fresh process (spawn) with one torch thread. It works on one item after another, keeps what it has
loaded, and sends values while it works. When the parent ends, for whatever reason, the pipe closes and the worker ends.
"""

from __future__ import annotations

import multiprocessing
import pickle
import signal
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any, TypeVar

import torch

Item = TypeVar("Item")
Send = Callable[[Any], None]
"""Sends a value to the parent process."""


def run_in_parallel(work: Callable[[Item, Send], None], items: Sequence[Item], jobs: int) -> Iterator[tuple[Item, Any]]:
    """Call `work(item, send)` for all items, `jobs` at a time, started in the order given.

    Args:
        work: a function at the top level of a module, as it is sent by name.
        items: what to work on; they are pickled and sent to the workers.
        jobs: number of processes, >= 1.

    Yields:
        (item, value) for every `send(value)`, as they arrive; the values of one item in order.

    Raises:
        Exception: what `work` raised; the other workers are stopped.
        RuntimeError: a worker process ended unexpectedly.

    Example:
        >>> list(run_in_parallel(print, [], 2))
        []
    """
    context = multiprocessing.get_context("spawn")
    waiting = list(reversed(items))
    busy: dict[Connection, Item] = {}
    processes: list[SpawnProcess] = []
    try:
        for _ in range(min(jobs, len(items))):
            mine, theirs = context.Pipe()
            process = context.Process(target=_worker, args=(work, theirs), daemon=True)
            process.start()
            theirs.close()  # otherwise the pipe would stay open when the worker ends
            processes.append(process)
            busy[mine] = waiting.pop()
            mine.send(busy[mine])
        while busy:
            for pipe in wait(list(busy)):
                assert isinstance(pipe, Connection)
                item = busy[pipe]
                try:
                    kind, value = pipe.recv()
                except EOFError:
                    raise RuntimeError(f"a worker process ended while working on {item}") from None
                if kind == "value":
                    yield item, value
                elif kind == "error":
                    raise value
                elif waiting:
                    busy[pipe] = waiting.pop()
                    pipe.send(busy[pipe])
                else:
                    del busy[pipe]
                    pipe.close()
    finally:
        for process in processes:
            process.terminate()
            process.join()


def _worker(work: Callable[[Any, Send], None], pipe: Connection) -> None:
    """Work on the items that come through the pipe until it closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent is interrupted as well, and stops its workers
    torch.set_num_threads(1)
    while True:
        try:
            item = pipe.recv()
        except (EOFError, OSError):
            return
        try:
            work(item, lambda value: pipe.send(("value", value)))
            answer = ("done", None)
        except Exception as error:
            answer = ("error", _sendable(error))
        try:
            pipe.send(answer)
        except OSError:  # the parent has ended
            return


def _sendable(error: Exception) -> Exception:
    """The error itself, or one with the same message where it cannot be pickled."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
