"""What can be counted of a step: operators, and the memory that it takes at its peak."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode

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
        """Count, and do it."""
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
