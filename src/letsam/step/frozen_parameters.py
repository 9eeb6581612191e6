"""Parameters that the optimizer does not train but that passes may change, such as those of a momentum teacher."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from operator import attrgetter, methodcaller

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from ..tensors.shards import is_dtensor
from .plain_values import chained, same
from .tensor_copy import parts_of_tensor

FSDP2 = "torch.distributed.fsdp.FSDPModule"
SMALL = 2**20  # entries; copying them takes less time than a pass


class FrozenParameters:
    """Decides which of the parameters that are not trained are copied in a step.

    All of them are if together they are not larger than the trained ones, as a teacher is not larger than its student.
    (Up to a million entries are always copied.) Of more, such as a large frozen network with adapters, only those are
    copied that a pass has been seen to change, by torch's version counter or by their memory. A change in place through
    `.data` is not seen there.
    """

    def __init__(self) -> None:
        self._others: list[Tensor] = []
        self._found: list[Tensor] = []  # those among them that can be copied
        self._few = True
        self._moving: list[Tensor] = []
        self._versions: list[tuple[int, int]] = []

    def begin(self, modules: Sequence[nn.Module], weights: Sequence[Tensor]) -> list[Tensor]:
        """Those to copy before the first pass of a step.

        Args:
            modules: each module itself, not only the outermost.
            weights: what the optimizer trains.
        """
        params: list[Tensor | None] = parameters_of(modules)
        found = [param for param in params if param is not None]
        if same(found, weights):
            self._others = self._found = []
            return []
        trained = set(map(id, weights))
        others = {id(p): p for p in found if id(p) not in trained and not is_lazy(p)}
        if any(FSDP2 in names_of(kind) for kind in set(map(type, modules))):
            # of sharded modules: a parameter that is no DTensor may be a whole weight, for as long as FSDP needs it
            others = {key: param for key, param in others.items() if is_dtensor(param)}
        if not same(others.values(), self._others):
            self._others = list(others.values())
            self._found = [param for param in self._others if parts_of_tensor(param)]
            self._few = sum(p.numel() for p in self._found) <= largest(weights)
            self._moving = [param for param in self._moving if id(param) in others]
        if self._few:
            return self._found
        self._versions = list(map(_version, self._found))
        return self._moving

    def end(self) -> list[Tensor]:
        """Those to copy after the first pass."""
        if self._few or not self._found:
            return self._found
        known = set(map(id, self._moving))
        pairs = zip(self._found, self._versions, strict=True)
        moved = [param for param, then in pairs if id(param) not in known and _version(param) != then]
        if moved:
            self._moving = self._moving + moved
        return self._moving


def parameters_of(modules: Sequence[nn.Module]) -> list[Tensor | None]:
    """The parameters that these modules themselves hold; None for those that they do without, such as a bias."""
    return chained(map(_entries, map(_parameters, modules)))


_entries, _parameters = methodcaller("values"), attrgetter("_parameters")


@lru_cache(maxsize=1024)
def names_of(kind: type) -> frozenset[str]:
    """The full names of a class and its bases."""
    return frozenset(f"{base.__module__}.{base.__qualname__}" for base in kind.__mro__)


def largest(weights: Sequence[Tensor]) -> int:
    """How many entries are copied of what may or may not change: as many as there are weights, or a million."""
    return max(SMALL, sum(weight.numel() for weight in weights))


def _version(param: Tensor) -> tuple[int, int]:
    return param._version, param.data_ptr() if type(param) is nn.Parameter else 0
