"""What a base optimizer keeps besides tensors in its `state`: counters, lists, other optimizers, preconditioners.

torch's own optimizers keep all that changes in tensors, which the device can put back. Others are looked at: whether
everything that they keep is a tensor in `state` or an option, and whether a step has changed anything else. As long as
that is not known, or is not the case, the host reads once per step whether the step is finite, and leaves the base
optimizer's step out if it is not.
"""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Iterator
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ..joint import optimizers_in
from ..tensors import Tensors
from ..tensors.shards import is_dtensor
from ..tensors.subclasses import dense_parts

PLAIN = (type(None), bool, int, float, complex, str, bytes, torch.dtype, torch.device)
CODE = (type, ModuleType, FunctionType, BuiltinFunctionType, MethodType, functools.partial)
STEP_HOOKS = ("_optimizer_step_pre_hooks", "_optimizer_step_post_hooks")


def is_known(base: Optimizer) -> bool:
    """Whether all that a step changes is known to be in tensors: torch's own classes, without hooks around the step."""
    return not _has_hooks(base) and all(
        f"{type(one).__module__}.".startswith("torch.optim.") and not _has_hooks(one) for one in optimizers_in(base)
    )


def keeps_tensors_only(base: Optimizer) -> bool:
    """Whether an optimizer has nothing but tensors and plain values in its state, and plain values as attributes."""
    if _has_hooks(base):
        return False
    values = [value for state in _states(base) for value in state.values() if not isinstance(value, dict)]
    others = [value for name, value in vars(base).items() if name not in _torchs_attributes()]
    return all(_is_copied(value) or _is_plain(value) for value in values) and all(map(_is_plain, others))


class PythonValues:
    """A shallow copy of the param groups, state dicts and attributes of optimizers: all but the values of tensors.

    Args:
        base: an optimizer, or a `JointOptimizer`.
    """

    def __init__(self, base: Optimizer) -> None:
        self._copies = [(values, dict(values)) for one in optimizers_in(base) for values in _dicts(one)]

    def changed(self) -> bool:
        """Whether a value is not what it was, or state was made. A tensor that is another one is no change."""
        return any(not _same_values(now, before) for now, before in self._copies)

    def put_back(self) -> None:
        """Restore all values; state that has been made since is removed."""
        for values, copied in self._copies:
            values.clear()
            values.update(copied)


class StateGraph:
    """A copy of everything that can be reached from a base optimizer: containers, objects, and tensors by value.

    Args:
        base: the optimizer.
        weights: tensors that are left out, and all that is reached through modules.
    """

    def __init__(self, base: Optimizer, weights: Tensors) -> None:
        self._containers: list[tuple[Any, Any]] = []
        self._tensors: list[tuple[Tensor, Tensor]] = []
        self._generators: list[tuple[torch.Generator, Tensor]] = []
        self._walk(base, {id(weight) for weight in weights})

    def _walk(self, root: object, seen: set[int]) -> None:
        waiting: list[object] = [root]
        while waiting:
            value = waiting.pop()
            if id(value) in seen or isinstance(value, (*PLAIN, *CODE, nn.Module)):
                continue
            seen.add(id(value))
            if isinstance(value, Tensor):
                self._tensors += [(part, part.detach().clone()) for part in dense_parts(value)]
            elif isinstance(value, torch.Generator):
                self._generators.append((value, value.get_state()))
            elif isinstance(value, dict):
                values = cast(dict[Any, Any], value)
                self._containers.append((values, dict(values)))
                waiting += values.values()
            elif isinstance(value, (list, set, deque)):
                entries = cast(list[Any], value)
                self._containers.append((entries, list(entries)))
                waiting += entries
            elif isinstance(value, (tuple, frozenset)):
                waiting += cast(tuple[Any, ...], value)
            elif hasattr(value, "__dict__"):
                waiting.append(vars(value))

    @torch.no_grad()
    def put_back(self) -> None:
        """Restore all values, in the objects that held them."""
        for container, copied in self._containers:
            container.clear()
            add: Any = getattr(container, "extend", None) or container.update
            add(copied)
        for tensor, value in self._tensors:
            tensor.copy_(value)
        for generator, state in self._generators:
            generator.set_state(state)


@functools.cache
def _torchs_attributes() -> frozenset[str]:
    return frozenset(vars(Optimizer([torch.empty(0)], {})))


def _has_hooks(base: Optimizer) -> bool:
    """Hooks may use the new weights, as an average of the weights does, before an undone step is put back."""
    return any(getattr(base, name, None) for name in STEP_HOOKS)


def _is_copied(value: object) -> bool:
    """Whether the buffers can hold a copy; of subclasses, if they say what they are made of."""
    return type(value) in (Tensor, nn.Parameter) or is_dtensor(value) or hasattr(value, "__tensor_flatten__")


def _is_plain(value: object) -> bool:
    if isinstance(value, tuple):
        return all(map(_is_plain, cast(tuple[object, ...], value)))
    return isinstance(value, (*PLAIN, *CODE))


def _states(base: Optimizer) -> list[dict[Any, Any]]:
    return [*(state for state in base.state.values() if isinstance(state, dict)), base.state]


def _dicts(base: Optimizer) -> Iterator[dict[Any, Any]]:
    yield from base.param_groups
    yield from _states(base)
    yield vars(base)


def _same_values(now: dict[Any, Any], before: dict[Any, Any]) -> bool:
    return now.keys() == before.keys() and all(_same(value, before[name]) for name, value in now.items())


def _same(value: object, other: object) -> bool:
    if value is other or (isinstance(value, Tensor) and isinstance(other, Tensor)):
        return True
    return type(value) is type(other) and isinstance(value, PLAIN) and value == other
