"""Arithmetic over lists of tensors, on the device: no value is ever read by the host.

The `foreach` functions take a whole list in one dispatched operator; in-place forms keep the memory at what is
held anyway. Scalars are 0-dim tensors of `scalar_dtype`, so that a bf16 model still has a float32 radius.

DTensors (FSDP2, tensor parallelism) are worked on where they lie, each process on its own part. Only norms and dot
products communicate: one all-reduce of a scalar for all tensors that are split over the same processes. They come out
as plain tensors, the same in every process.
"""

# pyright: reportPrivateUsage=false, reportPrivateImportUsage=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
# (torch's foreach functions are private by name and carry no annotations; this file is the only one that calls them)

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

Tensors = Sequence[Tensor]
Average = Callable[[Tensors], None]
Groups = tuple[Any, ...]  # of processes


def is_dtensor(tensor: object) -> bool:
    """Whether a tensor is split or replicated over processes."""
    kind = _dtensor_type()
    return kind is not None and isinstance(tensor, kind)


def local(tensor: Tensor) -> Tensor:
    """The tensor; of a DTensor the part in this process, in the same memory. To be called under `torch.no_grad`."""
    return _as_any(tensor).to_local() if is_dtensor(tensor) else tensor


def locals_of(tensors: Tensors) -> list[Tensor]:
    """`local` of each."""
    kind = _dtensor_type()
    return list(tensors) if kind is None else [_as_any(t).to_local() if isinstance(t, kind) else t for t in tensors]


def complete_gradients(params: Tensors) -> None:
    """Place the gradients of DTensors as their weights are, so that their parts belong together.

    Tensor parallelism may leave them as sums of which each process holds one term.
    """
    kind = _dtensor_type()
    if kind is None:
        return
    for param in params:
        weight, gradient = _as_any(param), _as_any(param.grad)
        if isinstance(gradient, kind) and gradient.placements != weight.placements:
            param.grad = gradient.redistribute(placements=weight.placements)


def scalar_dtype(tensors: Tensors) -> torch.dtype:
    """The dtype of norms, dot products and the radius: float64 for float64 weights, else float32."""
    return torch.float64 if any(t.dtype == torch.float64 for t in tensors) else torch.float32


def gradients_of(params: Tensors) -> list[Tensor]:
    """The gradients that are there."""
    return [p.grad for p in params if p.grad is not None]


def pass_is_finite(loss: Tensor, params: Tensors) -> Tensor:
    """Whether the loss and all gradients of a pass are finite (0-dim bool)."""
    return loss.isfinite() & norm(gradients_of(params)).isfinite()


def norm(tensors: Tensors) -> Tensor:
    """The Euclidean norm of all entries together (0-dim)."""
    norms = torch._foreach_norm(locals_of(tensors), 2, dtype=scalar_dtype(tensors))
    owners = _owners(tensors)
    if owners is None:
        return torch.linalg.vector_norm(torch.stack(norms))
    return _sum_over(owners, torch._foreach_mul(norms, norms)).sqrt()


def dot(left: Tensors, right: Tensors) -> Tensor:
    """The dot product of two lists of tensors of the same shapes (0-dim)."""
    dtype = scalar_dtype(left)
    products = [torch.sum(a * b, dtype=dtype) for a, b in zip(locals_of(left), locals_of(right), strict=True)]
    owners = _owners(left)
    return torch.stack(products).sum() if owners is None else _sum_over(owners, products)


def scale_(tensors: Tensors, factor: Tensor | float) -> None:
    """Multiply every tensor by one factor (0-dim, or a number), or each by its own (shape `(len(tensors),)`)."""
    if not isinstance(factor, Tensor) or factor.ndim == 0:
        torch._foreach_mul_(locals_of(tensors), factor)
    else:
        torch._foreach_mul_(locals_of(tensors), list(factor.unbind()))


def add_(tensors: Tensors, others: Tensors) -> None:
    """tensors += others."""
    torch._foreach_add_(locals_of(tensors), locals_of(others))


def subtract_(tensors: Tensors, others: Tensors) -> None:
    """tensors -= others."""
    torch._foreach_sub_(locals_of(tensors), locals_of(others))


def multiply_(tensors: Tensors, others: Tensors) -> None:
    """tensors *= others, entry by entry."""
    torch._foreach_mul_(locals_of(tensors), locals_of(others))


def add_scaled_(tensors: Tensors, others: Tensors, factor: Tensor) -> None:
    """tensors += factor * others, with one factor (0-dim) and no copy."""
    by_dtype = {t.dtype: factor.to(t.dtype) for t in tensors}
    torch._foreach_addcmul_(locals_of(tensors), locals_of(others), [by_dtype[t.dtype] for t in tensors])


def copy_(tensors: Tensors, others: Tensors) -> None:
    """tensors <- others, in place and bit for bit."""
    torch._foreach_copy_(locals_of(tensors), locals_of(others))


def _dtensor_type() -> type | None:
    """The class; None where nothing has imported it yet, so that there can be no such tensors."""
    return getattr(sys.modules.get("torch.distributed.tensor"), "DTensor", None)


def _as_any(tensor: Any) -> Any:
    """DTensors have attributes that `Tensor` has not."""
    return tensor


def _owners(tensors: Tensors) -> list[Groups] | None:
    """For each tensor the groups of processes it is split over; None where none is split."""
    kind = _dtensor_type()
    if kind is None:
        return None
    owners = [_owners_of(tensor) if isinstance(tensor, kind) else () for tensor in tensors]
    return owners if any(owners) else None


def _owners_of(tensor: Any) -> Groups:
    mesh = tensor.device_mesh
    return tuple(mesh.get_group(i) for i, place in enumerate(tensor.placements) if not place.is_replicate())


def _sum_over(owners: list[Groups], values: Tensors) -> Tensor:
    """The sum of the values, those of split tensors summed over the processes as well."""
    shares: dict[Groups, list[Tensor]] = {}
    for groups, value in zip(owners, values, strict=True):
        shares.setdefault(groups, []).append(value)
    sums: list[Tensor] = []
    for groups, share in shares.items():
        total = torch.stack(share).sum()
        for group in groups:
            dist.all_reduce(total, group=group)
        sums.append(total)
    return torch.stack(sums).sum()


class Buffers:
    """Tensors in the shapes of a list of parameters, allocated once and used again at every step."""

    def __init__(self) -> None:
        self._tensors: list[Tensor] = []

    def like(self, tensors: Tensors) -> list[Tensor]:
        """Buffers that fit `tensors`; their content is whatever was last written."""
        fits = len(self._tensors) == len(tensors) and all(
            b.shape == t.shape and b.dtype == t.dtype and b.device == t.device
            for b, t in zip(self._tensors, tensors, strict=True)
        )
        if not fits:
            self._tensors = [torch.empty_like(t, requires_grad=False) for t in tensors]
        return self._tensors

    def copy_of(self, tensors: Tensors) -> list[Tensor]:
        """Buffers that hold a copy of `tensors`."""
        buffers = self.like(tensors)
        copy_(buffers, tensors)
        return buffers
