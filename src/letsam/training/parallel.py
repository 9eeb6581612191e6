"""Work done side by side in worker processes that live as long as there is work.

Each worker is a fresh process (spawn) with one torch thread, keeps what it has loaded, and reports while it works. A
worker ends with its parent, however that ends: its pipe closes.
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
Tell = Callable[[Any], None]


def side_by_side(work: Callable[[Item, Tell], None], items: Sequence[Item], jobs: int) -> Iterator[tuple[Item, Any]]:
    """Call `work(item, tell)` on all items, `jobs` at a time, in the order given.

    Args:
        work: a function of a module (it is sent by name).
        items: what to work on; sent to the workers, so plain data.
        jobs: number of processes, >= 1.

    Yields:
        (item, value) for every `tell(value)`, as it comes; those of one item in their order.

    Raises:
        Exception: what `work` raised, the other workers being stopped.
        RuntimeError: a worker ended by itself.

    Example:
        >>> list(side_by_side(print, [], 2))
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
            theirs.close()  # else the end of the worker would not close the pipe
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
                if kind == "told":
                    yield item, value
                elif kind == "raised":
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


def _worker(work: Callable[[Any, Tell], None], pipe: Connection) -> None:
    """Work on what comes through the pipe until it closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent is interrupted too, and ends its workers
    torch.set_num_threads(1)
    while True:
        try:
            item = pipe.recv()
        except (EOFError, OSError):
            return
        try:
            work(item, lambda value: pipe.send(("told", value)))
            answer = ("done", None)
        except Exception as error:
            answer = ("raised", _sendable(error))
        try:
            pipe.send(answer)
        except OSError:  # the parent is gone
            return


def _sendable(error: Exception) -> Exception:
    """The error itself, or one with the same words where it cannot be sent (an exception with arguments of its own)."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
