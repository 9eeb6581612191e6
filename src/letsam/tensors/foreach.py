"""Arithmetic on lists of tensors, on the device; the host never waits for a value.

torch's `foreach` functions process a whole list in one dispatched operator. In-place forms need no further memory.
Scalars are 0-dim tensors of `scalar_dtype`, so that the radius of a bf16 model is float32.

Each process works on its local part of DTensors (FSDP2, tensor parallelism). Only norms and dot products communicate
(see `shards`).
"""

# pyright: reportPrivateUsage=false, reportPrivateImportUsage=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
# (torch's foreach functions are private by name and have no annotations; apart from `buffers` and this file, only
# `letsam.tangent` calls them)

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
FULL = (torch.float32, torch.float64)  # dtypes in which sums are accumulated
RANGE = (*FULL, torch.bfloat16)  # dtypes in which squared gradients do not overflow
DTYPE = attrgetter("dtype")
PIECE = 2**19  # entries cast at a time, so that they stay in the cache
PORTION = 2**16  # entries of small tensors concatenated at a time
SMALL = 2**13  # entries; below this size, launching an operator takes longer than copying the tensor
MANY = 32  # tensors; with fewer there is nothing to gain, and adding a tensor of zeros changes no bit of a norm
FUSED_DEVICES = ("cpu", "cuda")
FUSED_DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


def scalar_dtype(tensors: Tensors) -> torch.dtype:
    """The dtype of norms, dot products and the radius: float64 for float64 weights, else float32."""
    return torch.float64 if torch.float64 in map(DTYPE, tensors) else torch.float32


def lacks_float64(device: torch.device) -> bool:
    """Whether the device has no float64 at all, as Apple's GPUs."""
    return device.type == "mps"


def gradients_of(params: Tensors) -> list[Tensor]:
    """The gradients of the parameters that have one."""
    return [gradient for p in params if (gradient := p.grad) is not None]


def all_finite(numbers: Tensors) -> Tensor:
    """Whether 0-dim tensors are all finite (0-dim bool, on the device of the last one)."""
    device = numbers[-1].device
    return torch.linalg.vector_norm(torch.stack([n.to(device) for n in numbers]), torch.inf) < torch.inf


def finite_from(numbers: Tensors, first: int) -> tuple[Tensor, Tensor]:
    """Whether the first `first` of these 0-dim tensors are finite, and whether all are, in the time of one of both.

    Example:
        >>> finite_from([torch.tensor(1.0), torch.tensor(torch.inf)], 1)
        (tensor(True), tensor(False))
    """
    device = numbers[-1].device
    moved = [n.to(device) for n in numbers]
    rows = torch.stack([*moved[:first], *moved[:1] * (len(moved) - first), *moved]).view(2, -1)
    early, whole = (torch.linalg.vector_norm(rows, torch.inf, dim=1) < torch.inf).unbind()
    return early, whole


def norm(tensors: Tensors) -> Tensor:
    """The Euclidean norm of all entries together (0-dim).

    Example:
        >>> norm([torch.tensor([3.0]), torch.tensor([[0.0], [4.0]])])
        tensor(5.)
    """
    dtype, owners = scalar_dtype(tensors), owners_of(tensors)
    if owners is None:
        return length_of(_lengths(locals_of(tensors), dtype))
    lengths = torch._foreach_norm(locals_of(tensors), 2, dtype=dtype)
    return sum_over(owners, torch._foreach_mul(lengths, lengths)).sqrt()


def lengths(tensors: Tensors) -> list[Tensor]:
    """Norms (0-dim) that are all finite if and only if the total norm is; faster and less precise than `norm`."""
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
    """The dot product of two lists of tensors of the same shapes (0-dim); one operator per tensor, without copies."""
    dtype = scalar_dtype(left)
    pairs = zip(locals_of(left), locals_of(right), strict=True)
    products = [
        torch.dot(a.reshape(-1), b.reshape(-1)).to(dtype) if a.dtype in FULL else torch.sum(a * b, dtype=dtype)
        for a, b in pairs
    ]
    return sum_over(owners_of(left) or [()] * len(products), products)


def block_dot(left: Tensor, right: Tensor, dtype: torch.dtype) -> Tensor:
    """The dot product of two vectors, accumulated in `dtype`; may overwrite `left`."""
    if left.dtype in FULL:
        return torch.dot(left, right).to(dtype)
    # torch.dot would round the sum
    return sum_of([torch.sum(piece, dtype=dtype) for piece in _pieces(left.mul_(right))])


def block_norm(block: Tensor, dtype: torch.dtype) -> Tensor:
    """The norm of a vector, accumulated in `dtype`."""
    return length_of([torch.linalg.vector_norm(piece, dtype=dtype) for piece in _pieces(block)])


def _lengths(tensors: Tensors, dtype: torch.dtype | None) -> list[Tensor]:
    """Partial norms whose norm is the total norm; on the CPU, small tensors are concatenated and large ones split."""
    some, together = list(tensors), list[Tensor]()
    if len(some) >= MANY:
        small, some = _apart(tensors)
        # one portion at a time, so that only one is held in a second copy
        together = [torch.linalg.vector_norm(_flatten_dense_tensors(part), dtype=dtype) for part in small]
    if dtype is not None:
        some = [piece for tensor in some for piece in _pieces(tensor)]
    return [*torch._foreach_norm(some, 2, dtype=dtype), *together] if some else together


def _apart(tensors: Tensors) -> tuple[list[list[Tensor]], list[Tensor]]:
    """The small tensors on the CPU, in portions of little more than `PORTION` entries, and the other tensors."""
    portions: list[list[Tensor]] = []
    others: list[Tensor] = []
    remaining = 0
    for tensor in tensors:
        size = tensor.numel()
        if size >= SMALL or not tensor.is_cpu:
            others.append(tensor)
            continue
        if remaining <= 0:
            portions.append([])
            remaining = PORTION
        portions[-1].append(tensor)
        remaining -= size
    return portions, others


def _pieces(block: Tensor) -> tuple[Tensor, ...]:
    """The block, split into pieces if the CPU would first cast all of it to sum in a higher precision."""
    casts = block.is_cpu and block.dtype not in FULL
    return block.view(-1).split(PIECE) if casts and block.is_contiguous() else (block,)


def bounded(factor: Tensor, tensors: Tensors) -> Tensor:
    """The factor, clamped to the range in which operators multiply these tensors by it.

    Outside, it would be infinite there, and turn zeros into NaN: 1 / ||g|| of a vanishing gradient, for example. Only
    two cases need it. A float64 factor meets narrower tensors; or, on a GPU, any factor meets float16, whereas the CPU
    multiplies float16 in float32.

    Example:
        >>> bounded(torch.tensor(1e100, dtype=torch.float64), [torch.zeros(2)])
        tensor(3.4028e+38, dtype=torch.float64)
    """
    wide = factor.dtype == torch.float64
    if not wide and factor.is_cpu:
        return factor
    dtypes = set(map(DTYPE, tensors))
    if torch.float16 in dtypes and not factor.is_cpu:
        limit = torch.finfo(torch.float16).max
    elif wide and dtypes != {torch.float64}:
        limit = torch.finfo(torch.bfloat16 if torch.bfloat16 in dtypes else torch.float32).max
    else:
        return factor
    return factor.clamp(-limit, limit)


def scale_(tensors: Tensors, factor: Tensor | float) -> None:
    """Multiply all tensors by one factor (0-dim, or a number), or each by its own (shape `(len(tensors),)`)."""
    if not isinstance(factor, Tensor):
        torch._foreach_mul_(locals_of(tensors), factor)
        return
    factor = bounded(factor, tensors)
    torch._foreach_mul_(locals_of(tensors), list(factor.unbind()) if factor.ndim else factor)


def add_consuming_(tensors: Tensors, others: Tensors, factor: Tensor) -> None:
    """tensors += factor * others, with factors as for `scale_`; may overwrite `others`."""
    here, there = locals_of(tensors), locals_of(others)
    if not (factor.is_cpu and all(t.is_cpu for t in here)):
        scale_(others, factor)
        torch._foreach_add_(here, there)
        return
    factors = (
        bounded(factor, here).expand(len(here)).contiguous()
    )  # addcmul reads them on the host, which costs nothing on the CPU
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
    """tensors *= others, elementwise."""
    torch._foreach_mul_(locals_of(tensors), locals_of(others))


def add_scaled_(tensors: Tensors, others: Tensors, factor: Tensor, sign: float = 1.0) -> None:
    """tensors += sign * factor * others, with tensor factors as for `scale_`; makes no copy."""
    by_dtype = {dtype: cast_factor(factor, dtype) for dtype in {t.dtype for t in tensors}}
    each = {dtype: f.unbind() if f.ndim else (f,) * len(tensors) for dtype, f in by_dtype.items()}
    factors = [each[t.dtype][i] for i, t in enumerate(tensors)]
    torch._foreach_addcmul_(locals_of(tensors), locals_of(others), factors, value=sign)


def cast_factor(factor: Tensor, dtype: torch.dtype) -> Tensor:
    """The factor in a dtype, clamped to its range if that is much smaller."""
    if dtype == torch.float16 or (factor.dtype == torch.float64 and dtype != torch.float64):
        limit = torch.finfo(dtype).max
        factor = factor.clamp(-limit, limit)
    return factor.to(dtype)


def zero_(tensors: Tensors) -> None:
    """tensors <- 0."""
    if tensors:
        torch._foreach_zero_(locals_of(tensors))


def copy_(tensors: Tensors, others: Tensors) -> None:
    """tensors <- others, in place and bit for bit."""
    if tensors:
        torch._foreach_copy_(locals_of(tensors), locals_of(others))


class Pair(NamedTuple):
    """Tensors, and others of the same shapes and dtypes to copy into them; `alike` is the result of that function."""

    tensors: Tensors
    others: Tensors
    alike: Alike

    @classmethod
    def of(cls, tensors: Tensors, others: Tensors) -> Pair:
        """Make a pair, grouping the tensors by device and dtype."""
        return cls(tensors, others, alike(tensors, others))


def copy_unless_(flag: Tensor, *pairs: Pair) -> None:
    """tensors <- others, in place and bit for bit, unless the flag (0-dim bool, not read by the host) is True.

    If the flag is True, nothing is written. If it is False, `others` may be overwritten. Tensors on another device than
    the flag are left as they are: moving the flag would make the host wait.

    torch has no operator for a conditional copy, but the first step of its fused SGD with momentum amounts to one: it
    copies the gradients into the momentum buffers, and does nothing if `found_inf` is 1.

    Args:
        flag: whether to keep `tensors` (0-dim bool).
        *pairs: the tensors and the values to copy into them.

    Example:
        >>> kept, replaced = torch.zeros(2), torch.zeros(2)
        >>> copy_unless_(torch.tensor(True), Pair.of([kept], [torch.ones(2)]))
        >>> copy_unless_(torch.tensor(False), Pair.of([replaced], [torch.ones(2)]))
        >>> kept, replaced
        (tensor([0., 0.]), tensor([1., 1.]))
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
    """The indices of pairs that a fused operator can process, by device and dtype; the other pairs have dtype None.

    Fused operators traverse the memory linearly, so both tensors of a pair need the same strides. Buffers are dense.
    """
    found: Alike = {}
    for i, (one, other) in enumerate(zip(locals_of(tensors), locals_of(others), strict=True)):
        dtype, device = one.dtype, one.device
        fused = device.type in FUSED_DEVICES and dtype in FUSED_DTYPES
        fits = fused and one.stride() == other.stride() and other.dtype == dtype
        found.setdefault((device, dtype if fits else None), []).append(i)
    return found


def length_of(norms: Tensors) -> Tensor:
    """The norm of concatenated vectors, given the norm of each (0-dim)."""
    return norms[0] if len(norms) == 1 else torch.linalg.vector_norm(torch.stack(list(norms)))
