"""Plain values: numbers, strings, tensors and containers of these, which modules keep as attributes.

They are the attributes that a step can put back. Anything else (objects of other classes, functions, modules, arrays of
NumPy) may stand for something that exists only once, such as a file, a process group or compiled code, and is left
alone.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping
from itertools import chain
from operator import is_
from typing import Any

import torch
from torch import Tensor

NUMBERS_AND_NAMES = frozenset(
    {type(None), bool, int, float, complex, str, bytes, range, slice, torch.dtype, torch.device, torch.layout}
) | {torch.Size, torch.memory_format}
"""Types of values that cannot change in place."""
MAPPINGS = frozenset({dict, OrderedDict, defaultdict, Counter})
CHANGEABLE = MAPPINGS | {list, set, deque}
LARGEST = 100  # entries; of a larger container it is followed which objects it holds, but not what is in them
DEEPEST = 8  # containers within each other

Key = tuple[Hashable, ...]
Container = Any  # a list, tuple, set, deque or dict: the checker knows nothing of their entries


def same(some: Collection[object], others: Collection[object]) -> bool:
    """Whether two collections hold the same objects in the same order."""
    return len(some) == len(others) and all(map(is_, some, others))


def is_container(value: object) -> bool:
    """Whether a value is a container of the standard library; tuples may have named fields."""
    return type(value) in CHANGEABLE or isinstance(value, tuple | frozenset)


def entries_of(container: Container) -> Collection[Any]:
    """The keys, followed by the values, of a dict; of other containers what they hold."""
    return [*container, *container.values()] if type(container) in MAPPINGS else container


def views_of(container: Container) -> list[Collection[Any]]:
    """What `entries_of` a container reads, now and later."""
    return [container, container.values()] if type(container) in MAPPINGS else [container]


def is_plain(value: object, depth: int = DEEPEST) -> bool:
    """Whether a value is a number, a string, a tensor, or a container of plain values.

    Example:
        >>> is_plain([1, {"state": torch.zeros(2)}]), is_plain([object()]), is_plain(print)
        (True, False, False)
    """
    if type(value) in NUMBERS_AND_NAMES or isinstance(value, Tensor):
        return True
    if not is_container(value) or depth == 0:
        return False
    entries = entries_of(value)
    if set(map(type, entries)) <= NUMBERS_AND_NAMES:
        return True
    if len(entries) > LARGEST:
        return all(issubclass(kind, Tensor | tuple | frozenset) or kind in _FLAT for kind in set(map(type, entries)))
    return all(is_plain(entry, depth - 1) for entry in entries)


_FLAT = NUMBERS_AND_NAMES | CHANGEABLE


def parts_of_value(value: object, key: Key) -> Iterator[tuple[Key, Any]]:
    """The containers that can change in place, and the tensors, within a plain value.

    Args:
        value: a plain value; if it is not a container, nothing is in it.
        key: of the value.

    Yields:
        Pairs of a key and a container or a tensor. A key is that of the value, followed by the places on the way.
    """
    if not is_container(value):
        return
    if type(value) in CHANGEABLE:
        yield key, value
    entries = entries_of(value)
    if len(entries) > LARGEST or set(map(type, entries)) <= NUMBERS_AND_NAMES:
        return
    for i, entry in enumerate(entries):
        if isinstance(entry, Tensor):
            yield (*key, i), entry
        else:
            yield from parts_of_value(entry, (*key, i))


def with_tensors(value: Any, key: Key, tensors: Mapping[Key, Tensor]) -> Any:
    """A value in which tensors are replaced: by key, as `parts_of_value` gives them. Changes containers in place.

    Example:
        >>> with_tensors([1, (torch.zeros(2),)], ("state",), {("state", 1, 0): torch.ones(2)})
        [1, (tensor([1., 1.]),)]
    """
    if isinstance(value, Tensor):
        return tensors.get(key, value)
    if not is_container(value) or len(entries_of(value)) > LARGEST:
        return value
    entries = list(entries_of(value))
    new = [with_tensors(entry, (*key, i), tensors) for i, entry in enumerate(entries)]
    if same(new, entries):
        return value
    if type(value) in CHANGEABLE:
        fill(value, new)
        return value
    return type(value)(*new) if hasattr(value, "_fields") else type(value)(new)


def fill(container: Any, entries: list[Any]) -> None:
    """Let a container hold these entries (see `entries_of`), in this order."""
    container.clear()
    if type(container) in MAPPINGS:
        half = len(entries) // 2
        for key, value in zip(entries[:half], entries[half:], strict=True):
            container[key] = value
    elif hasattr(container, "update"):
        container.update(entries)
    else:
        container.extend(entries)


class ContainerCopy:
    """What a container held at one moment.

    Args:
        container: a list, set, deque or dict.
        key: by which its owner knows it.

    Example:
        >>> losses = [1.0]
        >>> before = ContainerCopy(losses)
        >>> losses.append(2.0)
        >>> before.put_back()
        >>> losses
        [1.0]
    """

    def __init__(self, container: Container, key: Key = ()) -> None:
        self.key = key
        self._container = container
        self._entries = list(entries_of(container))

    def changed(self) -> bool:
        """Whether it holds other objects now."""
        return not same(entries_of(self._container), self._entries)

    def put_back(self) -> None:
        """Let the container hold what it held, in the same order; not if it holds something else than values now."""
        if self.changed() and is_plain(self._container):
            fill(self._container, self._entries)


def chained(collections: Iterable[Iterable[Any]]) -> list[Any]:
    """All entries of several collections in one list."""
    return [*chain.from_iterable(collections)]
