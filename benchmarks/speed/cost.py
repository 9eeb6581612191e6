"""What a step costs: time, with contenders that alternate; operators; peak memory."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode

Step = Callable[[], Any]
Rows = dict[str, dict[str, float]]
"""What is measured of each contender, by name."""


def seconds(
    steps: Mapping[str, Step],
    rounds: int,
    turns: Mapping[str, int] | int = 1,
    before: Callable[[str], Any] = lambda name: None,
) -> dict[str, list[float]]:
    """Seconds of processor time that a step takes: for each contender, the means of the rounds.

    A round has some steps of each; the contenders alternate, and another one begins each time. `before` is called with
    a contender's name before each of its steps, and not timed.
    """
    names = list(steps)
    counts = {name: turns if isinstance(turns, int) else turns[name] for name in names}
    times: dict[str, list[float]] = {name: [] for name in names}
    for turned in range(rounds):
        spent = dict.fromkeys(names, 0.0)
        for turn in range(max(counts.values())):
            first = (turned + turn) % len(names)
            for name in names[first:] + names[:first]:
                if turn < counts[name]:
                    before(name)
                    started = time.process_time()
                    steps[name]()
                    spent[name] += time.process_time() - started
        for name in names:
            times[name].append(spent[name] / counts[name])
    return times


def ratio(values: Sequence[float], others: Sequence[float]) -> float:
    """The median of the ratios of the same round."""
    return statistics.median(mine / other for mine, other in zip(values, others, strict=True))


def in_rows(times: Mapping[str, Sequence[float]], reference: str) -> Rows:
    """For each contender the median in milliseconds, and the ratio to one of them."""
    return {
        name: {"ms": 1000 * statistics.median(values), "ratio": ratio(values, times[reference])}
        for name, values in times.items()
    }


VIEWS = {"detach", "view", "unbind", "slice", "select", "split", "as_strided", "expand"}  # no work on the device


def entries(shapes: Iterable[tuple[int, ...]]) -> int:
    """How many numbers tensors of these shapes hold."""
    return sum(torch.Size(shape).numel() for shape in shapes)


def does_work(func: Any) -> bool:
    """Whether a dispatched operator is more than a view or a mark for the profiler."""
    name = func.overloadpacket.__name__
    return name not in VIEWS and not name.startswith("_record_function")


class Operators(TorchDispatchMode):
    """Counts the operators that work."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Count the operator and run it."""
        self.count += does_work(func)
        return func(*args, **(kwargs or {}))


def operators(step: Callable[[], Any]) -> int:
    """The operators of a step, those of the third, when all buffers are made."""
    step()
    step()
    with Operators() as counter:
        step()
    return counter.count


def peak(step: Callable[[], Any]) -> int:
    """The most bytes that three steps hold beyond what was there before, temporary tensors included."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        for _ in range(3):
            step()
    used = highest = 0
    results: Any = profiler.profiler
    for event in results.kineto_results.events():
        if event.name() == "[memory]":
            used += event.nbytes()
            highest = max(highest, used)
    return highest
