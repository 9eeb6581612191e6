"""Arithmetic over lists of tensors, on the device: no value is ever read by the host.

The `foreach` functions take a whole list in one dispatched operator; in-place forms keep the memory at what is
held anyway. Scalars are 0-dim tensors of `scalar_dtype`, so that a bf16 model still has a float32 radius.

DTensors (FSDP2, tensor parallelism) are worked on where they lie, each process on its own part. Only norms and dot
products communicate (see `_shards`).
"""

# pyright: reportPrivateUsage=false, reportPrivateImportUsage=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
# (torch's foreach functions are private by name and carry no annotations; beside this file only the update derivatives
# call them)

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from operator import attrgetter
from typing import NamedTuple

import torch
from torch import Tensor
from torch._utils import _flatten_dense_tensors

from .shards import Tensors, locals_of, owners_of, sum_of, sum_over, sums_over

Average = Callable[[Tensors], None]
Alike = dict[tuple[torch.device, torch.dtype | None], list[int]]
FULL = (torch.float32, torch.float64)  # precision that sums are made in
RANGE = (*FULL, torch.bfloat16)  # in which the squares of gradients do not overflow
DTYPE = attrgetter("dtype")
PIECE = 2**19  # entries that are cast together, so that they stay in the cache
PORTION = 2**16  # entries of small tensors that are copied together
SMALL = 2**13  # entries; an operator begins no sooner than it has copied as many
MANY = 32  # tensors; with fewer it does not matter, and a tensor of zeros more changes no bit of a norm
FUSED_DEVICES = ("cpu", "cuda")
FUSED_DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


def scalar_dtype(tensors: Tensors) -> torch.dtype:
    """The dtype of norms, dot products and the radius: float64 for float64 weights, else float32."""
    return torch.float64 if torch.float64 in map(DTYPE, tensors) else torch.float32


def gradients_of(params: Tensors) -> list[Tensor]:
    """The gradients that are there."""
    return [gradient for p in params if (gradient := p.grad) is not None]


def all_finite(numbers: Tensors) -> Tensor:
    """Whether 0-dim tensors are all finite (0-dim bool, on the device of the last one)."""
    device = numbers[-1].device
    return torch.linalg.vector_norm(torch.stack([n.to(device) for n in numbers]), torch.inf) < torch.inf


def norm(tensors: Tensors) -> Tensor:
    """The Euclidean norm of all entries together (0-dim)."""
    dtype, owners = scalar_dtype(tensors), owners_of(tensors)
    if owners is None:
        return length_of(_lengths(locals_of(tensors), dtype))
    lengths = torch._foreach_norm(locals_of(tensors), 2, dtype=dtype)
    return sum_over(owners, torch._foreach_mul(lengths, lengths)).sqrt()


def lengths(tensors: Tensors) -> list[Tensor]:
    """Some numbers (0-dim) that are all finite if and only if the norm is: without its precision where that costs."""
    if owners_of(tensors) is not None:
        return [norm(tensors)]
    coarse = all(dtype in RANGE for dtype in {t.dtype for t in tensors})
    return _lengths(locals_of(tensors), None if coarse else scalar_dtype(tensors))


def norms(tensors: Tensors) -> list[Tensor]:
    """The Euclidean norm of each tensor (0-dim)."""
    each = torch._foreach_norm(locals_of(tensors), 2, dtype=scalar_dtype(tensors))
    owners = owners_of(tensors)
    return list(each if owners is None else torch._foreach_sqrt(sums_over(owners, torch._foreach_mul(each, each))))


def inner(left: Tensors, right: Tensors) -> Tensor:
    """The dot product of two lists of tensors of the same shapes (0-dim): an operator for each, and no copy."""
    dtype = scalar_dtype(left)
    pairs = zip(locals_of(left), locals_of(right), strict=True)
    products = [
        torch.dot(a.reshape(-1), b.reshape(-1)).to(dtype) if a.dtype in FULL else torch.sum(a * b, dtype=dtype)
        for a, b in pairs
    ]
    return sum_over(owners_of(left) or [()] * len(products), products)


def block_dot(left: Tensor, right: Tensor, dtype: torch.dtype) -> Tensor:
    """The dot product of two vectors, summed in `dtype`; `left` holds anything afterwards."""
    if left.dtype in FULL:
        return torch.dot(left, right).to(dtype)
    # torch.dot would round the sum
    return sum_of([torch.sum(piece, dtype=dtype) for piece in _pieces(left.mul_(right))])


def block_norm(block: Tensor, dtype: torch.dtype) -> Tensor:
    """The norm of a vector, summed in `dtype`."""
    return length_of([torch.linalg.vector_norm(piece, dtype=dtype) for piece in _pieces(block)])


def _lengths(tensors: Tensors, dtype: torch.dtype | None) -> list[Tensor]:
    """Norms of which the norm is that of all; on the CPU of small tensors side by side, and of large ones in pieces."""
    some, together = list(tensors), list[Tensor]()
    if len(some) >= MANY:
        small, some = _apart(tensors)
        # one portion after the other, so that no more than one is held twice
        together = [torch.linalg.vector_norm(_flatten_dense_tensors(part), dtype=dtype) for part in small]
    if dtype is not None:
        some = [piece for tensor in some for piece in _pieces(tensor)]
    return [*torch._foreach_norm(some, 2, dtype=dtype), *together] if some else together


def _apart(tensors: Tensors) -> tuple[list[list[Tensor]], list[Tensor]]:
    """The small tensors on the CPU, in portions of not many more than `PORTION` entries; and the others."""
    portions: list[list[Tensor]] = []
    others: list[Tensor] = []
    room = 0
    for tensor in tensors:
        size = tensor.numel()
        if size >= SMALL or not tensor.is_cpu:
            others.append(tensor)
            continue
        if room <= 0:
            portions.append([])
            room = PORTION
        portions[-1].append(tensor)
        room -= size
    return portions, others


def _pieces(block: Tensor) -> tuple[Tensor, ...]:
    """The block; on the CPU, where a sum in a higher precision casts all of it first, in pieces."""
    casts = block.is_cpu and block.dtype not in FULL
    return block.view(-1).split(PIECE) if casts and block.is_contiguous() else (block,)


def scale_(tensors: Tensors, factor: Tensor | float) -> None:
    """Multiply every tensor by one factor (0-dim, or a number), or each by its own (shape `(len(tensors),)`)."""
    if not isinstance(factor, Tensor) or factor.ndim == 0:
        torch._foreach_mul_(locals_of(tensors), factor)
    else:
        torch._foreach_mul_(locals_of(tensors), list(factor.unbind()))


def add_consuming_(tensors: Tensors, others: Tensors, factor: Tensor) -> None:
    """tensors += factor * others, with factors as for `scale_`; `others` hold anything afterwards."""
    here, there = locals_of(tensors), locals_of(others)
    if not (factor.is_cpu and all(t.is_cpu for t in here)):
        scale_(others, factor)
        torch._foreach_add_(here, there)
        return
    factors = factor.expand(len(here)).contiguous()  # on the CPU, where there is nothing to wait for, they are read
    torch._foreach_addcmul_(here, there, [_one(t.dtype) for t in here], factors)


@cache
def _one(dtype: torch.dtype) -> Tensor:
    return torch.ones((), dtype=dtype, device="cpu")


def add_(tensors: Tensors, others: Tensors) -> None:
    """tensors += others."""
    torch._foreach_add_(locals_of(tensors), locals_of(others))


def subtract_(tensors: Tensors, others: Tensors) -> None:
    """tensors -= others."""
    torch._foreach_sub_(locals_of(tensors), locals_of(others))


def multiply_(tensors: Tensors, others: Tensors) -> None:
    """tensors *= others, entry by entry."""
    torch._foreach_mul_(locals_of(tensors), locals_of(others))


def add_scaled_(tensors: Tensors, others: Tensors, factor: Tensor, sign: float = 1.0) -> None:
    """tensors += sign * factor * others, with factors as tensors as for `scale_`, and no copy."""
    by_dtype = {dtype: factor.to(dtype) for dtype in {t.dtype for t in tensors}}
    each = {dtype: f.unbind() if f.ndim else (f,) * len(tensors) for dtype, f in by_dtype.items()}
    factors = [each[t.dtype][i] for i, t in enumerate(tensors)]
    torch._foreach_addcmul_(locals_of(tensors), locals_of(others), factors, value=sign)


def zero_(tensors: Tensors) -> None:
    """tensors <- 0."""
    if tensors:
        torch._foreach_zero_(locals_of(tensors))


def copy_(tensors: Tensors, others: Tensors) -> None:
    """tensors <- others, in place and bit for bit."""
    if tensors:
        torch._foreach_copy_(locals_of(tensors), locals_of(others))


class Pair(NamedTuple):
    """Tensors, and as many of the same shapes and dtypes to be copied into them."""

    tensors: Tensors
    others: Tensors
    alike: Alike

    @classmethod
    def of(cls, tensors: Tensors, others: Tensors) -> Pair:
        """Look at what they have in common."""
        return cls(tensors, others, alike(tensors, others))


def copy_unless_(flag: Tensor, *pairs: Pair) -> None:
    """tensors <- others, in place and bit for bit, unless the flag (0-dim bool, not read by the host) is True.

    Nothing is read or written where it is True, and `others` hold anything afterwards where it is False. Tensors on
    another device than the flag stay as they are: comparing them would make the host wait.

    There is no operator for it, but one that can be asked for nothing else. The first step of torch's fused SGD with
    momentum copies the gradients into the momentum buffers, and does nothing where its `found_inf` is 1.
    """
    fused: dict[torch.dtype, tuple[list[Tensor], list[Tensor]]] = {}
    for pair in pairs:
        tensors, others = locals_of(pair.tensors), locals_of(pair.others)
        for (device, dtype), places in pair.alike.items():
            if device != flag.device:
                continue
            whole = len(places) == len(tensors)
            nows, befores = (some if whole else [some[i] for i in places] for some in (tensors, others))
            if dtype is None:
                for now, before in zip(nows, befores, strict=True):
                    torch.where(flag, now, before, out=now)
            else:
                both = fused.setdefault(dtype, ([], []))
                both[0].extend(nows)
                both[1].extend(befores)
    keep = flag.float() if fused else flag
    for nows, befores in fused.values():
        torch._fused_sgd_(
            befores,
            befores,
            nows,
            lr=0.0,
            momentum=1.0,
            dampening=0.0,
            weight_decay=0.0,
            nesterov=False,
            maximize=False,
            is_first_step=True,
            found_inf=keep,
        )


def alike(tensors: Tensors, others: Tensors) -> Alike:
    """The places of pairs that a fused operator can work on, by device and dtype; under None those of the rest.

    Fused operators run over the memory from one end to the other; buffers have no gaps in theirs.
    """
    found: Alike = {}
    for i, (one, other) in enumerate(zip(locals_of(tensors), locals_of(others), strict=True)):
        dtype, device = one.dtype, one.device
        fused = device.type in FUSED_DEVICES and dtype in FUSED_DTYPES
        fits = fused and one.stride() == other.stride() and other.dtype == dtype
        found.setdefault((device, dtype if fits else None), []).append(i)
    return found


def length_of(norms: Tensors) -> Tensor:
    """The norm of vectors of which these are the norms."""
    return norms[0] if len(norms) == 1 else torch.linalg.vector_norm(torch.stack(list(norms)))
