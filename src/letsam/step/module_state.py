"""The state that forward passes keep on modules: buffers, plain attributes and parameters that nobody trains.

Buffers are followed by the module that owns them and their name, so a buffer that a pass replaces, makes, removes or
resizes is put back too. Attributes are followed if they are plain values (see `plain_values`) before and after. The
attributes of wrappers (DDP, FSDP, `torch.compile`, Fabric), and those that `torch.nn.Module` itself needs, are left
alone; the modules inside wrappers are followed as any other.

For an ordinary model this costs a comparison of lists by identity. Only what a pass has changed is looked at further.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Hashable, Iterator, Sequence
from itertools import accumulate, islice, repeat
from operator import attrgetter, methodcaller, sub
from typing import Any

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from .frozen_parameters import largest, names_of, parameters_of
from .plain_values import (
    NUMBERS_AND_NAMES,
    ContainerCopy,
    Key,
    chained,
    is_container,
    is_plain,
    parts_of_value,
    same,
    views_of,
    with_tensors,
)
from .tensor_copy import TensorCopy, equal, parts_of_tensor

BUILT_IN = tuple(vars(nn.Module()))
"""Attributes that every module has, in their order; `torch.nn.Module.__init__` usually sets them first."""
WRAPPERS = frozenset(
    {
        "torch._dynamo.eval_frame.OptimizedModule",
        "torch.nn.parallel.data_parallel.DataParallel",
        "torch.nn.parallel.distributed.DistributedDataParallel",
        "lightning.fabric.wrappers._FabricModule",
        "lightning_fabric.wrappers._FabricModule",
        "deepspeed.runtime.engine.DeepSpeedEngine",
        "torch.jit._script.ScriptModule",
    }
)
FSDP1 = "torch.distributed.fsdp.fully_sharded_data_parallel.FullyShardedDataParallel"
"""It makes views of its weights attributes of the modules inside."""

Place = dict[str, Any]  # `__dict__` or `_buffers` of a module


class ModuleTree:
    """The modules of a model, looked up again only if a module in it has others inside than before.

    Args:
        model: the outermost module; None: there are no modules.
    """

    def __init__(self, model: nn.Module | None) -> None:
        self._model = model
        self._found: list[nn.Module] = []
        self._inside: list[object] = []

    def now(self) -> list[nn.Module]:
        """Each module, the outermost first."""
        if self._model is not None and not (self._found and same(self._children(), self._inside)):
            self._found = list(self._model.modules())
            self._inside = self._children()
        return self._found

    def _children(self) -> list[object]:
        return chained(map(_entries, map(_modules, self._found)))


_entries, _modules = methodcaller("values"), attrgetter("_modules")


class ModuleState:
    """What passes change on modules, at one moment. Its memory is used again at the next one."""

    def __init__(self) -> None:
        self._buffers = TensorCopy()  # and frozen parameters
        self._attributes = TensorCopy()
        self._modules: list[nn.Module] = []
        self._places: list[Place] = []  # the attributes of the modules that are followed, then the buffers of all
        self._owners: list[nn.Module] = []  # of the places
        self._kinds: list[type] = []  # of the owners; a lazy module changes its class when it is made
        self._followed = 0  # how many of the places are attributes
        self._skips: list[int] = []  # how many entries at the beginning of each place are torch's own
        self._sizes: list[int] = []  # how many entries there were in each place
        self._values: list[object] = []  # of all places: what is compared
        self._copies: list[Place] = []
        self._kept: list[list[tuple[Key, Any]]] = []  # of each place, the tensors and containers
        self._owned: list[tuple[Key, Tensor]] = []  # buffers
        self._single: list[tuple[Key, Tensor]] = []  # attributes that are tensors
        self._nests: list[tuple[Key, object]] = []  # attributes that are containers with something that can change
        self._containers: list[ContainerCopy] = []  # all that can change, within others or not
        self._views: list[Collection[Any]] = []  # on what they hold
        self._contents: list[object] = []  # what they held: what is compared
        self._inner: list[tuple[Key, Tensor]] = []  # the tensors in them

    def take(self, modules: Sequence[nn.Module], weights: Sequence[Tensor] = (), frozen: Sequence[Tensor] = ()) -> None:
        """Copy the state of these modules.

        Args:
            modules: each module itself, not only the outermost.
            weights: what is trained: never written, nor are attributes that share memory with it.
            frozen: parameters that are copied.
        """
        if not same(modules, self._modules):
            self._look_through(modules)
        self._kinds = list(map(type, self._owners))
        values = self._now()
        if not same(values, self._values):
            changed = self._changed(values)
            self._values = values
            self._read(changed, weights)
        if self._views and not same(chained(self._views), self._contents):
            self._read_containers(weights)
        _take(self._attributes, self._single + self._inner)
        _take(self._buffers, self._owned + [((id(param),), param) for param in frozen])

    def keep_where(self, flag: Tensor, other: ModuleState) -> None:
        """Put this state back; where `flag` (0-dim bool) is False, its tensors with the values of `other`.

        The flag is not read, so everything that is not a tensor is as in this state, and so are tensors that have
        another shape in `other`.
        """
        fresh = self._buffers.keep_where(flag, other._buffers) | self._attributes.keep_where(flag, other._attributes)
        self.put_back()
        if fresh:
            known: dict[Hashable, Place] = {id(place): place for place in self._places}
            for root in {key[:2] for key in fresh}:
                place, name = known[root[0]], str(root[1])
                place[name] = with_tensors(place[name], root, fresh)

    def release(self) -> None:
        """Forget attributes that are tensors or hold some, to free their memory; they cannot be put back any more."""
        held = {key[0] for key, _ in self._single + self._inner}
        if not held:
            return
        ends = [0, *self._ends()]
        for i, place in enumerate(self._places[: self._followed]):
            if id(place) in held:
                self._copies[i], self._kept[i] = {}, []
                self._values[ends[i] : ends[i + 1]] = [self] * (ends[i + 1] - ends[i])  # it will be read again
        self._single, self._nests, self._containers = [], [], []
        self._views, self._contents, self._inner = [], [], []
        self._attributes.release()

    def put_back(self, now: ModuleState | None = None) -> None:
        """Restore the state: values, shapes, and the objects that the modules held.

        Args:
            now: the present state, if it has been taken and nothing has run since; else the modules are asked.
        """
        known = now is not None and same(now._modules, self._modules)
        values = now._values if now is not None and known else self._now()
        if not same(values, self._values):
            changed = self._changed(values)
            for i in [i for i in changed if i >= self._followed]:
                _replace_entries(self._places[i], self._copies[i])
            for i in [i for i in changed if i < self._followed]:
                if type(self._owners[i]) is self._kinds[i]:  # else a lazy module: its sizes stay with its weights
                    _replace_attributes(self._places[i], self._copies[i])
        if self._views and not same(chained(self._views), self._contents):
            for container in self._containers:
                container.put_back()
        for tensors in (self._attributes, self._buffers):
            if not tensors.is_empty:
                tensors.put_back()

    def changes(self) -> Iterator[tuple[nn.Module, str]]:
        """Buffers, plain attributes and frozen parameters that have changed, by module and name. The host waits."""
        changed = self._attributes.changed() | self._buffers.changed()
        changed |= {copy.key for copy in self._containers if copy.changed()}
        for i, (place, copy) in enumerate(zip(self._places, self._copies, strict=True)):
            for name in dict.fromkeys([*copy, *place]):
                now, then = place.get(name), copy.get(name)
                if i < self._followed and (name in BUILT_IN or not (is_plain(now) and is_plain(then))):
                    continue
                key = id(place), name
                keys = {key, *(inner for inner, _ in parts_of_value(then, key))}
                if differ(now, then) if now is not then else not keys.isdisjoint(changed):
                    yield self._owners[i], name
        for module in self._modules:
            yield from ((module, name) for name, p in module.named_parameters(recurse=False) if (id(p),) in changed)

    # --- reading --------------------------------------------------------------------------------------------------

    def _look_through(self, modules: Sequence[nn.Module]) -> None:
        self._modules = list(modules)
        sharded = {inner for module in modules if FSDP1 in names_of(type(module)) for inner in module.modules()}
        followed = [m for m in modules if m not in sharded and WRAPPERS.isdisjoint(names_of(type(m)))]
        self._followed = len(followed)
        self._owners = [*followed, *modules]
        self._places = [*map(vars, followed), *map(_buffers_of, modules)]
        count = len(BUILT_IN)
        first = [count if tuple(islice(vars(module), count)) == BUILT_IN else 0 for module in followed]
        self._skips = first + [0] * len(modules)
        self._values = [self]  # no value of a module, so that they are read even if there are none
        self._sizes = []
        self._copies, self._kept = [{} for _ in self._places], [[] for _ in self._places]

    def _now(self) -> list[object]:
        return chained(map(islice, map(_entries, self._places), self._skips, repeat(None)))

    def _ends(self) -> list[int]:
        """Where the values of each place end in `_values`."""
        return list(accumulate(map(sub, self._sizes, self._skips)))

    def _changed(self, now: list[object]) -> Sequence[int]:
        """The places that hold other objects than at the last time; all of them if one has another size."""
        if list(map(len, self._places)) != self._sizes or len(now) != len(self._values):
            return range(len(self._places))
        ends, pairs = self._ends(), zip(now, self._values, strict=True)
        return sorted({bisect_right(ends, i) for i, (value, then) in enumerate(pairs) if value is not then})

    def _read(self, changed: Sequence[int], weights: Sequence[Tensor]) -> None:
        """Look through places that have changed."""
        self._sizes = list(map(len, self._places))
        for i in changed:
            place = self._places[i]
            self._copies[i] = dict(place.items())
            pairs = [((id(place), name), value) for name, value in islice(place.items(), self._skips[i], None)]
            self._kept[i] = [(key, value) for key, value in pairs if value is not None and _can_change(key, value)]
        kept = chained(self._kept[: self._followed])
        self._nests = [pair for pair in kept if not isinstance(pair[1], Tensor)]
        self._single = self._copied([pair for pair in kept if isinstance(pair[1], Tensor)], weights)
        self._owned = chained(self._kept[self._followed :])
        self._read_containers(weights)

    def _read_containers(self, weights: Sequence[Tensor]) -> None:
        """Look through all containers; only when one holds other objects than at the last time."""
        inside = [pair for key, value in self._nests for pair in parts_of_value(value, key)]
        containers = [(key, value) for key, value in inside if not isinstance(value, Tensor)]
        self._containers = [ContainerCopy(value, key) for key, value in containers]
        self._views = [view for _, value in containers for view in views_of(value)]
        self._contents = chained(self._views)
        self._inner = self._copied([pair for pair in inside if isinstance(pair[1], Tensor)], weights)

    def _copied(self, found: list[tuple[Key, Tensor]], weights: Sequence[Tensor]) -> list[tuple[Key, Tensor]]:
        """Those whose values are copied: not what shares memory with a parameter or its gradient, nor what is huge."""
        found = [pair for pair in found if type(pair[1]) is Tensor and parts_of_tensor(pair[1])]
        if not found:
            return []
        limit = largest(weights)
        found = [pair for pair in found if pair[1].numel() <= limit]
        params = [param for param in (*parameters_of(self._modules), *weights) if param is not None]
        taken = {_memory(tensor) for param in params for tensor in (param, param.grad)} - {None}
        return [pair for pair in found if _memory(pair[1]) not in taken]


def _can_change(key: Key, value: object) -> bool:
    """Whether an attribute or a buffer is a tensor, or a container with something that can change in place."""
    if type(value) in NUMBERS_AND_NAMES or key[1] in BUILT_IN:
        return False
    if isinstance(value, Tensor):
        return not is_lazy(value)
    return is_container(value) and is_plain(value) and any(True for _ in parts_of_value(value, key))


def _replace_entries(place: Place, copy: Place) -> None:
    for name in [name for name in place if name not in copy]:
        del place[name]
    for name, value in copy.items():
        if name not in place or place[name] is not value:
            place[name] = value


def _replace_attributes(place: Place, copy: Place) -> None:
    """Put plain values back where there are plain values, or nothing, now."""
    registered = {*place["_buffers"], *place["_modules"], *place["_parameters"]}
    for name in dict.fromkeys([*copy, *place]):
        now, then = place.get(name), copy.get(name)
        if (
            name in BUILT_IN
            or (now is then and name in place and name in copy)
            or not (is_plain(now) and is_plain(then))
        ):
            continue
        if name not in copy:
            del place[name]
        elif name not in registered:  # a buffer, a module or a parameter that has been made meanwhile stays
            place[name] = then


def _take(copy: TensorCopy, found: list[tuple[Key, Tensor]]) -> None:
    if not found and copy.is_empty:
        return
    copy.take([key for key, _ in found], [tensor for _, tensor in found])


def _buffers_of(module: nn.Module) -> Place:
    return module._buffers  # pyright: ignore[reportPrivateUsage]


def _memory(tensor: object) -> int | None:
    """The address of the memory that a tensor is in; None if it has none of its own."""
    if not isinstance(tensor, Tensor) or is_lazy(tensor):
        return None
    try:
        return tensor.untyped_storage().data_ptr() or None
    except (NotImplementedError, RuntimeError):  # sparse tensors, and subclasses that wrap others
        return None


def differ(now: object, then: object) -> bool:
    """Whether two values that are not the same object are different values."""
    if isinstance(now, Tensor) and isinstance(then, Tensor):
        return not equal(now.detach(), then.detach())
    if isinstance(now, Tensor) or isinstance(then, Tensor):
        return True
    try:
        return bool(now != then)
    except RuntimeError:  # entries that are tensors
        return True
