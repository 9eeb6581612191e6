"""A Dask cluster, by its own client: the scheduler starts a run again on another worker when one ends.

The client hears of that by the scheduler's events. What the work tells comes as events, too. A run whose client has
cancelled it, or has gone, ends at the next value that it tells.
"""

from __future__ import annotations

import contextlib
import pickle
import queue
import uuid
from collections.abc import Mapping
from typing import Any

from distributed import Client, Future, KilledWorker, LocalCluster, get_worker

from letsam.training.executors import Answered, Backend, Call, Hear, Lost, Outcome, Raised, answer_to

SECONDS = 30
"""How long to wait for the scheduler, and for its first worker."""


class DaskBackend(Backend):
    """The workers of a Dask scheduler.

    Args:
        address: HOST:PORT of the scheduler; "local": a cluster on this machine that ends with this object.
        jobs: the number of workers of a local cluster.

    Raises:
        ValueError: no scheduler answers there, or it has no workers.
    """

    def __init__(self, address: str, jobs: int = 1) -> None:
        self._topic = f"letsam-{uuid.uuid4().hex}"
        self._events: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        self._futures: dict[int, Future] = {}
        self._cluster: LocalCluster | None = None
        if address == "local":
            options: dict[str, Any] = {"n_workers": jobs, "threads_per_worker": 1, "dashboard_address": None}
            self._cluster = LocalCluster(**options)
        try:
            place = f"tcp://{address}" if self._cluster is None else self._cluster
            self._client = Client(place, timeout=SECONDS, set_as_default=False)
        except (OSError, TimeoutError) as error:
            raise ValueError(f"`executor`: no Dask scheduler answers at {address}") from error
        try:
            self._client.wait_for_workers(1, timeout=SECONDS)
        except TimeoutError as error:
            self.close()
            raise ValueError(f"`executor`: the Dask scheduler at {address} has no workers") from error
        self._client.subscribe_topic(self._topic, lambda event: self._events.put(("told", event[1])))
        self._client.subscribe_topic("all", lambda event: self._events.put(("of the cluster", event[1])))

    @property
    def capacity(self) -> int:
        """The number of workers, now: those that have joined since are used, too."""
        return max(self._workers(), 1)

    def submit(self, number: int, call: Call[Any]) -> None:
        """Give the call to the scheduler."""
        key = f"{self._topic}-{number}-{uuid.uuid4().hex[:8]}"
        future = self._client.submit(_answer, self._topic, number, call, key=key, pure=False)
        self._futures[number] = future
        future.add_done_callback(lambda _: self._events.put(("done", number)))

    def wait(self, hear: Hear) -> list[tuple[int, Outcome]]:
        """Wait for an event."""
        outcomes: list[tuple[int, Outcome]] = []
        with contextlib.suppress(queue.Empty):
            kind, value = self._events.get(timeout=1.0)
            if kind == "told":
                number, told = pickle.loads(value["told"])
                if number in self._futures:
                    hear(number, told)
            elif kind == "done":
                outcomes.append((value, self._outcome(self._futures.pop(value))))
            elif isinstance(value, Mapping) and value.get("action") == "remove-worker":
                lost = set(value.get("processing-tasks") or ())
                gone = Lost(f"worker {value.get('worker', '')} has gone", restarted=True)
                outcomes += [(number, gone) for number, future in self._futures.items() if future.key in lost]
        return outcomes

    def _workers(self) -> int:
        known: Any = self._client.nthreads()
        return len(known)

    def _outcome(self, future: Future) -> Outcome:
        if future.status == "cancelled":
            return Raised(RuntimeError("the connection to the Dask scheduler was lost"))
        error = future.exception()
        if error is None:
            return future.result()
        if isinstance(error, KilledWorker):
            return Raised(RuntimeError("every worker that began a run has ended; it may need more memory"))
        if isinstance(error, ModuleNotFoundError):
            return Raised(RuntimeError(f"every worker must have letsam and its packages installed: {error}"))
        return Raised(error if isinstance(error, BaseException) else RuntimeError(str(error)))

    def close(self) -> None:
        """Cancel what is in progress, and leave the cluster; end it if it was started here."""
        with contextlib.suppress(Exception):
            self._client.cancel(list(self._futures.values()), force=True)
            for topic in (self._topic, "all"):
                self._client.unsubscribe_topic(topic)
        self._client.close()
        if self._cluster is not None:
            self._cluster.close()


class _Cancelled(Exception):
    """The run is not wanted any more."""


def _answer(topic: str, number: int, call: Call[Any]) -> Answered | Raised:
    worker = get_worker()
    key = worker.get_current_task()

    def tell(value: Any) -> None:
        task = worker.state.tasks.get(key)
        if task is None or task.state == "cancelled":
            raise _Cancelled
        worker.log_event(topic, {"told": pickle.dumps((number, value))})

    return answer_to(call, tell, cluster=True)
