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

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from itertools import groupby
from operator import attrgetter, eq, methodcaller
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch._utils import _flatten_dense_tensors

from ._shards import Groups, Tensors, by_label, locals_of, owners_of, placed_like, sum_of, sum_over, sums_over, totals

Average = Callable[[Tensors], None]
Alike = dict[tuple[torch.device, torch.dtype | None], list[int]]
FULL = (torch.float32, torch.float64)  # precision that sums are made in
RANGE = (*FULL, torch.bfloat16)  # in which the squares of gradients do not overflow
DTYPE = attrgetter("dtype")
LAYOUT = (attrgetter("shape"), methodcaller("stride"), DTYPE, attrgetter("device"))
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
        return _length(_lengths(locals_of(tensors), dtype))
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


def dot(left: Buffers, right: Buffers) -> Tensor:
    """The dot product of what two buffers of the same shapes hold (0-dim); `left` holds anything afterwards."""
    dtype = scalar_dtype(left.blocks)
    products = [_dot(a, b, dtype) for a, b in zip(left.blocks, right.blocks, strict=True)]
    return sum_over(left.owners, products)


def dots(left: Buffers, right: Buffers, labels: Sequence[int], count: int) -> Tensor:
    """`dot` for the tensors of each label from 0 to below `count` (shape `(count,)`); 0 where there is none."""
    dtype = scalar_dtype(left.blocks)
    runs = zip(left.runs(labels), right.runs(labels), strict=True)
    return totals([(label, groups, _dot(a, b, dtype)) for (label, groups, a), (_, _, b) in runs], count)


def inner(left: Tensors, right: Tensors) -> Tensor:
    """The dot product of two lists of tensors of the same shapes (0-dim): an operator for each, and no copy."""
    dtype = scalar_dtype(left)
    pairs = zip(locals_of(left), locals_of(right), strict=True)
    products = [
        torch.dot(a.reshape(-1), b.reshape(-1)).to(dtype) if a.dtype in FULL else torch.sum(a * b, dtype=dtype)
        for a, b in pairs
    ]
    return sum_over(owners_of(left) or [()] * len(products), products)


def _dot(left: Tensor, right: Tensor, dtype: torch.dtype) -> Tensor:
    if left.dtype in FULL:
        return torch.dot(left, right).to(dtype)
    # torch.dot would round the sum
    return sum_of([torch.sum(piece, dtype=dtype) for piece in _pieces(left.mul_(right))])


def _norm(block: Tensor, dtype: torch.dtype) -> Tensor:
    return _length([torch.linalg.vector_norm(piece, dtype=dtype) for piece in _pieces(block)])


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


def spend_(tensors: Tensors, others: Tensors, factor: Tensor) -> None:
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
        return cls(tensors, others, _alike(tensors, others))


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


def _alike(tensors: Tensors, others: Tensors) -> Alike:
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


def _length(norms: Tensors) -> Tensor:
    return norms[0] if len(norms) == 1 else torch.linalg.vector_norm(torch.stack(list(norms)))


class Buffers:
    """Tensors in the shapes of a list of parameters, allocated once and used again at every step.

    They lie side by side in blocks, one for each dtype and device (for DTensors also for the processes that they are
    split over), so that a sum over all entries is one operator.

    Attributes:
        blocks: the memory, one dimension each; of DTensors the part in this process.
        owners: for each block the groups of processes that it is split over.
    """

    def __init__(self) -> None:
        self.blocks: list[Tensor] = []
        self.owners: list[Groups] = []
        self._tensors: list[Tensor] = []
        self._members: list[list[int]] = []  # of each block, by their places in the list
        self._layout: list[list[Any]] = [[] for _ in LAYOUT]  # of the tensors that they are made for
        self._alike: Alike = {}

    def like(self, tensors: Tensors) -> list[Tensor]:
        """Buffers that fit `tensors`; their content is whatever was last written."""
        if not self._fits(tensors):
            self._allocate(tensors)
            self._layout = [list(map(read, tensors)) for read in LAYOUT]
        return self._tensors

    def _fits(self, tensors: Tensors, part: slice = slice(None)) -> bool:
        """Whether the layout is the one known: read and dropped at once, as many small objects are slow to keep."""
        known = zip(LAYOUT[part], self._layout[part], strict=True)
        return len(tensors) == len(self._tensors) and all(all(map(eq, map(read, tensors), one)) for read, one in known)

    def copy_of(self, tensors: Tensors) -> list[Tensor]:
        """Buffers that hold a copy of `tensors`."""
        buffers = self.like(tensors)
        copy_(buffers, tensors)
        return buffers

    def taking(self, tensors: Tensors) -> Pair:
        """Buffers that fit `tensors`, and these to be copied into them, for `copy_unless_`."""
        return Pair(self.like(tensors), tensors, self._alike)

    def giving(self, tensors: Tensors) -> Pair:
        """The way back, whatever has become of the tensors' memory."""
        fits = self._fits(tensors, slice(1, 3))  # shapes and devices are what they were
        return Pair(tensors, self._tensors, self._alike) if fits else Pair.of(tensors, self._tensors)

    def gradients_of(self, params: Tensors) -> list[Tensor]:
        """Buffers that hold a copy of the gradients, 0 where there is none."""
        buffers = self.like(params)
        present = [(b, p.grad) for b, p in zip(buffers, params, strict=True) if p.grad is not None]
        copy_([b for b, _ in present], [g for _, g in present])
        zero_([b for b, p in zip(buffers, params, strict=True) if p.grad is None])
        return buffers

    def __reduce__(self) -> tuple[Any, ...]:
        """Copies and pickles are empty: a pickle of views would hold the block once for each of them."""
        return Buffers, ()

    def norm(self) -> Tensor:
        """The Euclidean norm of all entries together (0-dim)."""
        dtype = scalar_dtype(self.blocks)
        norms = [_norm(block, dtype) for block in self.blocks]
        if not any(self.owners):
            return _length(norms)
        return sum_over(self.owners, torch._foreach_mul(norms, norms)).sqrt()

    def norms(self, labels: Sequence[int], count: int) -> Tensor:
        """The norm for the tensors of each label from 0 to below `count` (shape `(count,)`); 0 where there is none."""
        dtype = scalar_dtype(self.blocks)
        found = [(label, groups, _norm(run, dtype)) for label, groups, run in self.runs(labels)]
        if any(self.owners):
            return totals([(label, groups, length.square()) for label, groups, length in found], count).sqrt()
        return torch.stack([_length(some) for some in by_label([(label, n) for label, _, n in found], count)])

    def runs(self, labels: Sequence[int]) -> Iterator[tuple[int, Groups, Tensor]]:
        """The blocks, cut where the label changes from one tensor to the next: label, owners, memory."""
        sizes = [part.numel() for part in locals_of(self._tensors)]
        for block, groups, members in zip(self.blocks, self.owners, self._members, strict=True):
            start = 0
            for label, run in groupby(members, lambda i: labels[i]):
                size = sum(sizes[i] for i in run)
                yield label, groups, block.narrow(0, start, size)
                start += size

    def _allocate(self, tensors: Tensors) -> None:
        owners = owners_of(tensors) or [()] * len(tensors)
        parts = locals_of(tensors)
        members: dict[tuple[torch.dtype, torch.device, Groups], list[int]] = {}
        for i, (part, groups) in enumerate(zip(parts, owners, strict=True)):
            members.setdefault((part.dtype, part.device, groups), []).append(i)
        self._tensors = list(parts)  # each is replaced below
        self.blocks, self.owners = [], [groups for _, _, groups in members]
        self._members = list(members.values())
        for (dtype, device, _), indices in members.items():
            sizes = [parts[i].numel() for i in indices]
            self.blocks.append(torch.empty(sum(sizes), dtype=dtype, device=device))
            for i, piece in zip(indices, self.blocks[-1].split(sizes), strict=True):
                # as autograd lays out gradients: in the order of the weight's own memory
                strides = torch.empty_like(parts[i], device="meta").stride()
                self._tensors[i] = placed_like(tensors[i], piece.as_strided(parts[i].shape, strides))
        self._alike = _alike(tensors, self._tensors)


class GradientSum:
    """The sum of the gradients that several passes leave, in one copy of the weights."""

    def __init__(self) -> None:
        self._buffers = Buffers()
        self._present: set[int] | None = None  # places of the weights that had a gradient; None before the first pass

    def clear(self) -> None:
        """Begin a new sum."""
        self._present = None

    def add(self, params: Tensors) -> None:
        """Take in the gradients of a pass."""
        places = {i for i, p in enumerate(params) if p.grad is not None}
        if self._present is None:
            self._buffers.gradients_of(params)
            self._present = places
            return
        add_([self._buffers.like(params)[i] for i in sorted(places)], gradients_of(params))
        self._present |= places

    def put(self, params: Tensors) -> None:
        """Make the sum the gradients of the weights."""
        places = sorted(self._present or ())
        for i in places:
            if params[i].grad is None:
                params[i].grad = torch.empty_like(params[i])
        copy_(gradients_of([params[i] for i in places]), [self._buffers.like(params)[i] for i in places])
