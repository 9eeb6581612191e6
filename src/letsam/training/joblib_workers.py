"""Processes of this machine, by joblib's loky.

Each slot has a process of its own, so that one that is killed takes no other run with it. The process begins anew in a
fresh interpreter, has one thread, ignores Ctrl-C (the parent stops it), and ends when the parent has ended, however
that came about.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from concurrent.futures import Future
from multiprocessing.connection import Connection, wait
from typing import Any

import torch
from joblib.externals.loky import BrokenProcessPool, ProcessPoolExecutor
from joblib.externals.loky.backend import get_context

from letsam.training.executors import Answered, Backend, Call, Hear, Lost, Outcome, Raised, answer_to

SECONDS = 0.1
"""How long `wait` waits for what calls tell, before it looks for those that have ended."""

_to_parent: Connection | None = None  # of a worker


class JoblibBackend(Backend):
    """As many processes as there are jobs; they start with their first call and keep what they have loaded.

    Args:
        jobs: the number of processes, >= 1.
    """

    def __init__(self, jobs: int) -> None:
        self._idle = [_Slot() for _ in range(jobs)]
        self._busy: dict[int, tuple[_Slot, Future[Answered | Raised]]] = {}

    @property
    def capacity(self) -> int:
        """The number of jobs."""
        return len(self._idle) + len(self._busy)

    def submit(self, number: int, call: Call[Any]) -> None:
        """Give the call to a process without one."""
        slot = self._idle.pop()
        self._busy[number] = slot, slot.submit(number, call)

    def wait(self, hear: Hear) -> list[tuple[int, Outcome]]:
        """Wait until a process tells something or has ended its call."""
        pipes = [slot.pipe for slot, _ in self._busy.values() if slot.pipe is not None]
        ready = wait(pipes, SECONDS)
        finished = [(number, *at) for number, at in self._busy.items() if at[1].done()]
        for pipe in pipes:  # also of those that have ended since: what they told comes first
            with contextlib.suppress(EOFError, OSError):
                while (pipe in ready or any(slot.pipe is pipe for _, slot, _ in finished)) and pipe.poll():
                    hear(*pipe.recv())
        outcomes: list[tuple[int, Outcome]] = []
        for number, slot, future in finished:
            del self._busy[number]
            self._idle.append(slot)
            error = future.exception()
            if error is None:
                outcomes.append((number, future.result()))
            elif isinstance(error, BrokenProcessPool):
                slot.close()  # the next call starts a new process
                outcomes.append((number, Lost("its process was killed")))
            else:  # such as an item that cannot be pickled
                outcomes.append((number, Raised(error)))
        return outcomes

    def close(self) -> None:
        """End the processes, with what they are working on."""
        for slot in [*self._idle, *(slot for slot, _ in self._busy.values())]:
            slot.close()


class _Slot:
    """One process, once it has had a call."""

    def __init__(self) -> None:
        self.pipe: Connection | None = None
        self._executor: ProcessPoolExecutor | None = None
        self._alive: Connection | None = None

    def submit(self, number: int, call: Call[Any]) -> Future[Answered | Raised]:
        if self._executor is None:
            context = get_context("loky")
            self.pipe, theirs = context.Pipe(duplex=False)
            watched, self._alive = context.Pipe(duplex=False)
            self._executor = ProcessPoolExecutor(
                1, context=context, initializer=_begin, initargs=(theirs, watched), env={"OMP_NUM_THREADS": "1"}
            )
            self._theirs = theirs, watched  # kept open here until the process has them
        return self._executor.submit(_answer, number, call)

    def close(self) -> None:
        if self._executor is not None:
            self._executor.shutdown(wait=True, kill_workers=True)
            for end in (self.pipe, self._alive, *self._theirs):
                assert end is not None
                end.close()
        self._executor = self.pipe = self._alive = None


def _begin(to_parent: Connection, watched: Connection) -> None:
    """In a new process, before its first call."""
    global _to_parent
    _to_parent = to_parent
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    threading.Thread(target=_end_with_parent, args=(watched,), daemon=True).start()


def _end_with_parent(watched: Connection) -> None:
    with contextlib.suppress(EOFError, OSError):
        watched.recv()  # the parent sends nothing: this returns when it has ended
    os._exit(1)


def _answer(number: int, call: Call[Any]) -> Answered | Raised:
    def tell(value: Any) -> None:
        assert _to_parent is not None
        _to_parent.send((number, value))

    return answer_to(call, tell)
