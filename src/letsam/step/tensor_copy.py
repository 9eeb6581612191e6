"""The values of a list of tensors at one moment, in one block of memory for each device and dtype.

Copying them, putting them back and choosing between two copies are one operator per block. The memory is used again
for the next copy. Sparse tensors are followed by their indices and values, expanded ones by what they have of memory.
Nested and quantized tensors, those made in inference mode and subclasses of `Tensor` (except DTensors, of which each
process copies its part) are not copied.
"""

# pyright: reportPrivateUsage=false, reportPrivateImportUsage=false, reportUnknownMemberType=false
# (torch's foreach functions are private by name and have no annotations)

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter

import torch
from torch import Tensor, nn

from ..tensors.shards import is_dtensor, local
from .plain_values import Key, same

Kind = tuple[torch.device, torch.dtype]
Layout = tuple[torch.Size, torch.dtype, torch.device]


class TensorCopy:
    """Copies of tensors, which are known by keys so that two copies can be compared."""

    def __init__(self) -> None:
        self._keys: Sequence[Key] = ()
        self._tensors: list[Tensor] = []
        self._dense: list[Tensor] = []  # the strided ones among the tensors, and of each an alias with a shape of then
        self._aliases: list[Tensor] = []
        self._shapes: list[torch.Size] = []
        self._addresses: list[int] = []
        self._sparse: list[tuple[Tensor, Tensor]] = []  # sparse tensors, with their indices and values of then
        self._counts: list[int] = []  # of each tensor, how many parts it has
        self._parts: list[Tensor] = []  # of the tensors, in their memory: what is copied
        self._layout: list[Layout] = []
        self._blocks: dict[Kind, Tensor] = {}
        self._views: list[Tensor] = []
        self._pairs: list[tuple[list[Tensor], list[Tensor]]] = []  # for each block, its views and the parts

    @property
    def is_empty(self) -> bool:
        """Whether it follows no tensors."""
        return not self._tensors

    def take(self, keys: Sequence[Key], tensors: Sequence[Tensor]) -> None:
        """Copy the values of `tensors`; each has a key."""
        if not (same(tensors, self._tensors) and len(self._dense) == len(tensors) and self._in_place()):
            self._follow(tensors)
        self._keys = keys
        for views, parts in self._pairs:
            torch._foreach_copy_(views, parts)

    def release(self) -> None:
        """Forget the tensors. The memory of the copies is kept for tensors of the same layout."""
        self._keys = ()
        self._tensors, self._dense, self._aliases, self._sparse, self._parts, self._pairs = [], [], [], [], [], []
        self._shapes, self._addresses, self._counts = [], [], []

    def put_back(self) -> None:
        """Restore the shapes and values of the tensors."""
        pairs = self._pairs
        if not self._in_place():
            for tensor, alias in zip(self._dense, self._aliases, strict=True):
                if tensor.shape != alias.shape or tensor.data_ptr() != alias.data_ptr():
                    tensor.data = alias
            pairs = [_with_memory(*pair) for pair in pairs]
        for views, parts in pairs:
            if parts:
                torch._foreach_copy_(parts, views)
        for tensor, then in self._sparse:
            if not _values(tensor).is_set_to(_values(then)):  # an addition in place replaces the values
                tensor.copy_(then)

    def keep_where(self, flag: Tensor, other: TensorCopy) -> dict[Key, Tensor]:
        """Where `flag` (0-dim bool) is False, take the values of `other`; without reading the flag.

        Tensors on another device than the flag keep their own values, and so do those that `other` does not know or
        that have another shape there.

        Returns:
            New tensors, by key, for those that are other objects in `other`. They are not written, since they may be
            somebody else's, such as a batch that a module has stored.
        """
        if same(self._tensors, other._tensors) and self._layout == other._layout and self._keys == other._keys:
            for (device, dtype), block in self._blocks.items():
                if device == flag.device:
                    torch.where(flag, block, other._blocks[device, dtype], out=block)
            return {}
        fresh: dict[Key, Tensor] = {}
        mine, others = self._by_key(), other._by_key()
        for key, (tensor, views) in mine.items():
            if key not in others:
                continue
            before, values = others[key]
            if [_layout_of(v) for v in views] != [_layout_of(v) for v in values]:
                continue
            for view, value in zip(views, values, strict=True):
                if view.device == flag.device:
                    chosen = torch.where(flag, view, value)
                    if tensor is before or len(views) > 1 or view.shape != tensor.shape:
                        view.copy_(chosen)
                    else:
                        fresh[key] = chosen
        return fresh

    def changed(self) -> set[Key]:
        """Keys of the tensors whose shapes or values are others now. The host waits for the device."""
        found: set[Key] = set()
        for key, (tensor, then) in self._by_key().items():
            parts = parts_of_tensor(tensor)
            if len(parts) != len(then) or not all(map(equal, parts, then)):
                found.add(key)
        return found

    def _in_place(self) -> bool:
        """Whether the strided tensors have the shapes and the memory that they had."""
        return (
            list(map(_shape, self._dense)) == self._shapes
            and list(map(Tensor.data_ptr, self._dense)) == self._addresses
        )

    def _by_key(self) -> dict[Key, tuple[Tensor, list[Tensor]]]:
        """Each tensor with the copies of its parts."""
        found: dict[Key, tuple[Tensor, list[Tensor]]] = {}
        start = 0
        for key, tensor, count in zip(self._keys, self._tensors, self._counts, strict=True):
            found[key] = tensor, self._views[start : start + count]
            start += count
        return found

    def _follow(self, tensors: Sequence[Tensor]) -> None:
        self._tensors = list(tensors)
        split = [parts_of_tensor(tensor) for tensor in tensors]
        dense = [t for t, parts in zip(tensors, split, strict=True) if parts and type(t) in PLAIN and _strided(t)]
        self._dense, self._aliases = dense, [tensor.data for tensor in dense]
        self._shapes, self._addresses = list(map(_shape, dense)), list(map(Tensor.data_ptr, dense))
        self._sparse = [(t, t.detach()) for t in tensors if t.layout is torch.sparse_coo]
        self._counts = [len(parts) for parts in split]
        self._parts = [part for parts in split for part in parts]
        layout = list(map(_layout_of, self._parts))
        if layout != self._layout:
            self._allocate()
            self._layout = layout
        by_kind: dict[Kind, tuple[list[Tensor], list[Tensor]]] = {}
        for view, part in zip(self._views, self._parts, strict=True):
            views, parts = by_kind.setdefault((part.device, part.dtype), ([], []))
            views.append(view)
            parts.append(part)
        self._pairs = list(by_kind.values())

    def _allocate(self) -> None:
        members: dict[Kind, list[int]] = {}
        for i, tensor in enumerate(self._parts):
            members.setdefault((tensor.device, tensor.dtype), []).append(i)
        self._views = list(self._parts)  # each is replaced below
        self._blocks = {}
        for (device, dtype), indices in members.items():
            sizes = [self._parts[i].numel() for i in indices]
            self._blocks[device, dtype] = torch.empty(sum(sizes), dtype=dtype, device=device)
            for i, part in zip(indices, torch.split(self._blocks[device, dtype], sizes), strict=True):
                self._views[i] = part.view(self._parts[i].shape)


PLAIN = (Tensor, nn.Parameter)
_shape = attrgetter("shape")


def parts_of_tensor(tensor: Tensor) -> list[Tensor]:
    """Dense tensors that share this one's memory and together hold all its values; none if it is not copied.

    They have version counters of their own: writing the same values again does not invalidate a graph.
    """
    if is_dtensor(tensor):
        tensor = local(tensor)
    if type(tensor) not in PLAIN or tensor.is_quantized or tensor.is_inference():
        return []
    if tensor.layout is torch.strided:
        parts = [] if tensor.is_nested or _is_freed(tensor) else [tensor.data]
    elif tensor.layout is torch.sparse_coo:
        parts = [tensor._indices(), _values(tensor)]
    elif tensor.layout in (torch.sparse_csr, torch.sparse_bsr):
        parts = [tensor.crow_indices(), tensor.col_indices(), tensor.values()]
    elif tensor.layout in (torch.sparse_csc, torch.sparse_bsc):
        parts = [tensor.ccol_indices(), tensor.row_indices(), tensor.values()]
    else:
        parts = []
    return [_unexpanded(part) if 0 in part.stride() else part for part in parts]


def _is_freed(tensor: Tensor) -> bool:
    """Whether somebody has freed the memory of a tensor that still exists, as FSDP does with unsharded weights."""
    return tensor.numel() > 0 and tensor.untyped_storage().nbytes() == 0


def _with_memory(views: list[Tensor], parts: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    kept = [i for i, part in enumerate(parts) if not _is_freed(part)]
    return [views[i] for i in kept], [parts[i] for i in kept]


def equal(some: Tensor, others: Tensor) -> bool:
    """Whether two tensors have the same shape and values; NaN equals NaN. The host waits for the device."""
    alike = some.shape == others.shape and some.dtype == others.dtype
    return alike and bool(((some == others) | ((some != some) & (others != others))).all())


def _layout_of(tensor: Tensor) -> Layout:
    return tensor.shape, tensor.dtype, tensor.device


def _strided(tensor: Tensor) -> bool:
    return tensor.layout is torch.strided and not tensor.is_nested


def _unexpanded(tensor: Tensor) -> Tensor:
    return tensor[tuple(slice(None if step else 1) for step in tensor.stride())]


def _values(tensor: Tensor) -> Tensor:
    return tensor._values()
