"""A Ray cluster, by its own client. Ray ends a run that is cancelled at once, with its worker process."""

from __future__ import annotations

import contextlib
from typing import Any

import ray
from ray import exceptions
from ray.util.queue import Queue

from letsam.training.executors import Answered, Backend, Call, Hear, Lost, Outcome, Raised, answer_to

SECONDS = 0.2
"""How long `wait` waits for a run to end, before it looks for what runs tell."""

LOST = (
    exceptions.WorkerCrashedError,
    exceptions.NodeDiedError,
    exceptions.OutOfMemoryError,
    exceptions.LocalRayletDiedError,
    exceptions.ObjectLostError,
)
"""What Ray raises where the worker of a run has ended."""


class RayBackend(Backend):
    """The workers of a Ray cluster.

    Args:
        address: HOST:PORT of the Ray client server; "auto": the cluster that this machine belongs to; "local": a
            cluster on this machine that ends with this object.
        jobs: the number of workers of a local cluster.
        device: "cuda": each run asks for a GPU; "auto": it does if the cluster has one.

    Raises:
        ValueError: no cluster answers there.
    """

    def __init__(self, address: str, jobs: int = 1, device: str = "auto") -> None:
        self._own = not ray.is_initialized()  # a program that has connected itself keeps its connection
        options: dict[str, Any] = {"logging_level": "error", "log_to_driver": False}
        if address == "local":
            options |= {"num_cpus": jobs, "include_dashboard": False, "address": "local"}
        else:
            options |= {"address": address if address == "auto" else f"ray://{address}"}
        if self._own:
            try:
                ray.init(**options)
            except (ConnectionError, RuntimeError, ValueError) as error:
                raise ValueError(f"`executor`: no Ray cluster answers at {address}") from error
        gpus = ray.cluster_resources().get("GPU", 0)
        self._per_run = {"CPU": 1} | ({"GPU": 1} if device == "cuda" or (device == "auto" and gpus) else {})
        remote = ray.remote(_answer)
        self._answer = remote.options(num_cpus=1, num_gpus=self._per_run.get("GPU", 0), max_retries=0)
        self._told = Queue(actor_options={"num_cpus": 0})
        self._runs: dict[Any, int] = {}

    @property
    def capacity(self) -> int:
        """How many runs the CPUs, and where they need them the GPUs, of the cluster can take, now."""
        has = ray.cluster_resources()
        return max(1, *(int(has.get(name, 0) // needed) for name, needed in self._per_run.items()))

    def submit(self, number: int, call: Call[Any]) -> None:
        """Give the call to the cluster."""
        self._runs[self._answer.remote(self._told, number, call)] = number

    def wait(self, hear: Hear) -> list[tuple[int, Outcome]]:
        """Wait until a run has ended."""
        finished, _ = ray.wait(list(self._runs), num_returns=1, timeout=SECONDS)
        with contextlib.suppress(exceptions.RayError):  # the actor that holds them may be on a machine that has gone
            for number, value in self._told.get_nowait_batch(self._told.qsize()):
                if number in self._runs.values():
                    hear(number, value)
        return [(self._runs.pop(run), _outcome(run)) for run in finished]

    def close(self) -> None:
        """Cancel what is in progress, and leave the cluster; end it if it was started here."""
        with contextlib.suppress(exceptions.RayError):
            for run in self._runs:
                ray.cancel(run, force=True)
            self._told.shutdown(force=True)
        if self._own:
            ray.shutdown()


def _outcome(run: Any) -> Outcome:
    try:
        return ray.get(run)
    except LOST as error:
        return Lost(type(error).__name__)
    except exceptions.RayTaskError as error:  # `answer_to` raises nothing: letsam could not be loaded there
        return Raised(RuntimeError(f"every worker must have letsam and its packages installed: {error.cause}"))
    except exceptions.RayError as error:
        return Raised(RuntimeError(str(error).split("\n")[0]))


def _answer(told: Queue, number: int, call: Call[Any]) -> Answered | Raised:
    def tell(value: Any) -> None:
        with contextlib.suppress(exceptions.RayError):
            told.put_nowait((number, value))

    return answer_to(call, tell, cluster=True)
