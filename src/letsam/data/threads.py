"""Work of libraries that leave Python's lock, such as decoders, in threads."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

One = TypeVar("One")
CHUNK = 256  # items that are in work or wait to be taken


def in_threads(function: Callable[[Any], One], items: Iterable[Any]) -> Iterator[One]:
    """The results for all items in order, computed by as many threads as there are cores.

    Example:
        >>> list(in_threads(abs, [-2, 1]))
        [2, 1]
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with ThreadPoolExecutor(cores) as pool:
        chunk: list[Any] = []
        for item in items:
            chunk.append(item)
            if len(chunk) == CHUNK:
                yield from pool.map(function, chunk)
                chunk = []
        yield from pool.map(function, chunk)
