"""DTensors (FSDP2, tensor parallelism): local parts, and sums over the processes that hold the other parts.

Sums communicate with one all-reduce for all values whose tensors are split over the same processes, and
`from_all_parts` with one all-gather for a tensor. The results are plain tensors, equal in all processes.
"""

# pyright: reportUnknownMemberType=false
# (torch.distributed carries few annotations)

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

Tensors = Sequence[Tensor]
Groups = tuple[Any, ...]  # process groups
ORDINARY = frozenset({Tensor, torch.nn.Parameter})
"""Types of tensors that are not split; nearly all tensors are of these, and this is asked many times a step."""


def is_dtensor(tensor: object) -> bool:
    """Whether a tensor is a DTensor, that is split or replicated over processes."""
    kind = _dtensor_type()
    return kind is not None and isinstance(tensor, kind)


def local(tensor: Tensor) -> Tensor:
    """The tensor, or the local part of a DTensor, which shares its memory. Call it under `torch.no_grad`."""
    return _as_any(tensor).to_local() if is_dtensor(tensor) else tensor


def locals_of(tensors: Tensors) -> list[Tensor]:
    """`local` of each tensor."""
    kind = _dtensor_among(tensors)
    return list(tensors) if kind is None else [_as_any(t).to_local() if isinstance(t, kind) else t for t in tensors]


def from_all_parts(tensor: Tensor) -> Tensor:
    """The tensor; of a DTensor, all of it, gathered from all processes. Call it under `torch.no_grad`."""
    return _as_any(tensor).full_tensor() if is_dtensor(tensor) else tensor


def part_of(whole_tensor: Tensor, like: Tensor) -> Tensor:
    """The part of a whole tensor, the same in all processes, that corresponds to `local(like)`; sends nothing."""
    if not is_dtensor(like):
        return whole_tensor
    place = _as_any(like)
    distribute: Any = sys.modules["torch.distributed.tensor"].distribute_tensor  # loaded, since there are DTensors
    return distribute(whole_tensor, place.device_mesh, place.placements, src_data_rank=None).to_local()


def foreign_shards(params: Tensors) -> str | None:
    """The library that has split weights over processes without DTensors, if these show it; else None.

    FSDP1 marks all weights that it manages. Those that it has split are flat: a `FlatParameter` is then smaller than
    all of its weights together, and with `use_orig_params=True` no weight has its shape. (With NO_SHARD they have.)
    """
    if any(hasattr(param, "ds_id") for param in params):
        return "DeepSpeed ZeRO-3"
    if any(getattr(param, "_is_sharded", False) is True for param in params):
        return "FairScale"
    marked = [_as_any(param) for param in params if getattr(param, "_fsdp_flattened", False)]
    flat = [param for param in marked if getattr(param, "_is_flat_param", False)]
    cut = any(param.size() != param._unpadded_unsharded_size for param in flat)
    if cut or (len(flat) < len(marked) and all(param.ndim < 2 for param in marked)):
        return "FullyShardedDataParallel (FSDP1)"
    return None


def complete_gradients(params: Tensors) -> None:
    """Redistribute the gradients of DTensors to the placements of their weights, so that local parts correspond.

    Tensor parallelism may leave gradients as partial sums, of which each process holds one term.
    """
    kind = _dtensor_among(params)
    if kind is None:
        return
    for param in params:
        weight, gradient = _as_any(param), _as_any(param.grad)
        if isinstance(gradient, kind) and gradient.placements != weight.placements:
            param.grad = gradient.redistribute(placements=weight.placements)


def _dtensor_type() -> type | None:
    """The class `DTensor`; None if its module has not been imported, so that no such tensor can exist."""
    return getattr(sys.modules.get("torch.distributed.tensor"), "DTensor", None)


def _dtensor_among(tensors: Tensors) -> type | None:
    """The class `DTensor` if any of the tensors is one, else None; checks each type of tensor once."""
    if ORDINARY.issuperset(map(type, tensors)):
        return None
    kind = _dtensor_type()
    return kind if kind is not None and any(issubclass(one, kind) for one in set(map(type, tensors))) else None


def _as_any(tensor: Any) -> Any:
    """For the type checker: DTensors have attributes that `Tensor` lacks."""
    return tensor


def owners_of(tensors: Tensors) -> list[Groups] | None:
    """For each tensor, the process groups it is split over; None if no tensor is split."""
    kind = _dtensor_among(tensors)
    if kind is None:
        return None
    owners = [_owners_of(tensor) if isinstance(tensor, kind) else () for tensor in tensors]
    return owners if any(owners) else None


def _owners_of(tensor: Any) -> Groups:
    mesh = tensor.device_mesh
    return tuple(mesh.get_group(i) for i, place in enumerate(tensor.placements) if not place.is_replicate())


def sum_over(owners: list[Groups], values: Tensors) -> Tensor:
    """The sum of the values (0-dim); values of split tensors are also summed over the processes."""
    shares: dict[Groups, list[Tensor]] = {}
    for groups, value in zip(owners, values, strict=True):
        shares.setdefault(groups, []).append(value)
    sums: list[Tensor] = []
    for groups, share in shares.items():
        total = sum_of(share)
        for group in groups:
            dist.all_reduce(total, group=group)
        sums.append(total)
    return sum_of(sums)


def sum_of(values: list[Tensor]) -> Tensor:
    """The sum of 0-dim tensors."""
    return values[0] if len(values) == 1 else torch.stack(values).sum()


def sums_over(owners: list[Groups], values: Tensors) -> list[Tensor]:
    """The values; those of split tensors are summed over the processes."""
    sums, places = list(values), dict[Groups, list[int]]()
    for place, groups in enumerate(owners):
        places.setdefault(groups, []).append(place)
    for groups, share in places.items():
        totals = torch.stack([values[place] for place in share])
        for group in groups:
            dist.all_reduce(totals, group=group)
        for place, total in zip(share, totals.unbind(), strict=True):
            sums[place] = total
    return sums


def totals(values: list[tuple[int, Groups, Tensor]], count: int) -> Tensor:
    """The sum of the values of each label, shape `(count,)`; values of split tensors are summed over the processes."""
    sums: list[Tensor] = []
    for groups in dict.fromkeys(groups for _, groups, _ in values):
        share = [(label, value) for label, owners, value in values if owners == groups]
        total = torch.stack([sum_of(some) for some in by_label(share, count)])
        for group in groups:
            dist.all_reduce(total, group=group)
        sums.append(total)
    return sums[0] if len(sums) == 1 else torch.stack(sums).sum(0)


def by_label(values: list[tuple[int, Tensor]], count: int) -> list[list[Tensor]]:
    """The values of each label; a single 0 for a label without values."""
    found: list[list[Tensor]] = [[] for _ in range(count)]
    for label, value in values:
        found[label].append(value)
    zero = values[0][1].new_zeros(())
    return [some or [zero] for some in found]


def placed_like(tensor: Any, part: Tensor) -> Tensor:
    """The local part as a tensor of the kind of `tensor`: itself, or a DTensor with the same placements."""
    kind = _dtensor_type()
    if kind is None or not isinstance(tensor, kind):
        return part
    return _as_any(kind).from_local(
        part, tensor.device_mesh, tensor.placements, run_check=False, shape=tensor.shape, stride=tensor.stride()
    )
