"""Buffers in the shapes of the weights, allocated once: for copies of weights and gradients, and sums of gradients."""

# pyright: reportPrivateUsage=false, reportPrivateImportUsage=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
# (torch's foreach functions are private by name and have no annotations)

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from operator import attrgetter, eq, methodcaller
from typing import Any

import torch
from torch import Tensor

from .foreach import (
    Alike,
    Pair,
    add_,
    alike,
    block_dot,
    block_norm,
    copy_,
    gradients_of,
    length_of,
    scalar_dtype,
    zero_,
)
from .shards import Groups, Tensors, by_label, locals_of, owners_of, placed_like, sum_over, totals

LAYOUT = (attrgetter("shape"), methodcaller("stride"), attrgetter("dtype"), attrgetter("device"))


class Buffers:
    """Tensors in the shapes of a list of parameters, allocated once and reused at every step.

    They are views of one contiguous block per dtype and device (for DTensors also per set of processes), so that a sum
    over all entries takes one operator.

    Attributes:
        blocks: the memory, 1-dim tensors; for DTensors the local part.
        owners: for each block, the process groups that it is split over.

    Example:
        >>> buffers = Buffers()
        >>> [copy.shape for copy in buffers.copy_of([torch.full((2, 2), 3.0), torch.zeros(5)])]
        [torch.Size([2, 2]), torch.Size([5])]
        >>> len(buffers.blocks), buffers.norm()
        (1, tensor(6.))
    """

    def __init__(self) -> None:
        self.blocks: list[Tensor] = []
        self.owners: list[Groups] = []
        self._tensors: list[Tensor] = []
        self._members: list[list[int]] = []  # for each block, the indices of its tensors
        self._layout: list[list[Any]] = [[] for _ in LAYOUT]  # of the tensors that the buffers were allocated for
        self._alike: Alike = {}

    def like(self, tensors: Tensors) -> list[Tensor]:
        """Buffers in the shapes of `tensors`, holding whatever was last written."""
        if not self._fits(tensors):
            self._allocate(tensors)
            self._layout = [list(map(read, tensors)) for read in LAYOUT]
        return self._tensors

    def _fits(self, tensors: Tensors, part: slice = slice(None)) -> bool:
        """Whether `tensors` have the stored layout. Compared lazily: building lists of many small objects is slow."""
        if len(tensors) != len(self._tensors):
            return False
        for read, one in zip(LAYOUT[part], self._layout[part], strict=True):
            if not all(map(eq, map(read, tensors), one)):
                return False
        return True

    def copy_of(self, tensors: Tensors) -> list[Tensor]:
        """Buffers that hold a copy of `tensors`."""
        buffers = self.like(tensors)
        copy_(buffers, tensors)
        return buffers

    def taking(self, tensors: Tensors) -> Pair:
        """The pair for `copy_unless_` that copies `tensors` into the buffers."""
        return Pair(self.like(tensors), tensors, self._alike)

    def giving(self, tensors: Tensors) -> Pair:
        """The pair for `copy_unless_` that copies the buffers into `tensors`, whose strides may have changed."""
        fits = self._fits(tensors, slice(1, 3))  # only strides and dtypes can have changed
        return Pair(tensors, self._tensors, self._alike) if fits else Pair.of(tensors, self._tensors)

    def gradients_of(self, params: Tensors) -> list[Tensor]:
        """Buffers that hold a copy of the gradients, 0 where there is none."""
        buffers = self.like(params)
        present = [(b, p.grad) for b, p in zip(buffers, params, strict=True) if p.grad is not None]
        copy_([b for b, _ in present], [g for _, g in present])
        zero_([b for b, p in zip(buffers, params, strict=True) if p.grad is None])
        return buffers

    def __reduce__(self) -> tuple[Any, ...]:
        """Copies and pickles are empty: a pickle of views would store the whole block once for each view."""
        return Buffers, ()

    def norm(self) -> Tensor:
        """The Euclidean norm of all entries together (0-dim)."""
        dtype = scalar_dtype(self.blocks)
        norms = [block_norm(block, dtype) for block in self.blocks]
        if not any(self.owners):
            return length_of(norms)
        return sum_over(self.owners, torch._foreach_mul(norms, norms)).sqrt()

    def norms(self, labels: Sequence[int], count: int) -> Tensor:
        """The norm over the tensors of each label 0, ..., `count` - 1, shape `(count,)`; 0 for a label without any."""
        dtype = scalar_dtype(self.blocks)
        found = [(label, groups, block_norm(run, dtype)) for label, groups, run in self.runs(labels)]
        if any(self.owners):
            return totals([(label, groups, length.square()) for label, groups, length in found], count).sqrt()
        return torch.stack([length_of(some) for some in by_label([(label, n) for label, _, n in found], count)])

    def runs(self, labels: Sequence[int]) -> Iterator[tuple[int, Groups, Tensor]]:
        """The blocks, split where the label changes between neighboring tensors: label, owners, memory."""
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
        self._tensors = list(parts)  # placeholders, replaced below
        self.blocks, self.owners = [], [groups for _, _, groups in members]
        self._members = list(members.values())
        for (dtype, device, _), indices in members.items():
            sizes = [parts[i].numel() for i in indices]
            self.blocks.append(torch.empty(sum(sizes), dtype=dtype, device=device))
            for i, piece in zip(indices, self.blocks[-1].split(sizes), strict=True):
                # the memory order of the weight, which autograd uses for gradients too
                strides = torch.empty_like(parts[i], device="meta").stride()
                self._tensors[i] = placed_like(tensors[i], piece.as_strided(parts[i].shape, strides))
        self._alike = alike(tensors, self._tensors)


class GradientSum:
    """Sums the gradients of several passes, in the memory of one copy of the weights.

    Example:
        >>> weight, total = torch.nn.Parameter(torch.zeros(2)), GradientSum()
        >>> for value in (1.0, 2.0):
        ...     weight.grad = torch.full((2,), value)
        ...     total.add([weight])
        >>> total.put([weight])
        >>> weight.grad
        tensor([3., 3.])
    """

    def __init__(self) -> None:
        self._buffers = Buffers()
        self._present: set[int] | None = None  # indices of the weights that had a gradient; None before the first pass

    def clear(self) -> None:
        """Start a new sum."""
        self._present = None

    def add(self, params: Tensors) -> None:
        """Add the gradients of a pass."""
        places = {i for i, p in enumerate(params) if p.grad is not None}
        if self._present is None:
            self._buffers.gradients_of(params)
            self._present = places
            return
        add_([self._buffers.like(params)[i] for i in sorted(places)], gradients_of(params))
        self._present |= places

    def put(self, params: Tensors) -> None:
        """Copy the sum into the gradients of the weights."""
        places = sorted(self._present or ())
        for i in places:
            if params[i].grad is None:
                params[i].grad = torch.empty_like(params[i])
        copy_(gradients_of([params[i] for i in places]), [self._buffers.like(params)[i] for i in places])


def dot(left: Buffers, right: Buffers) -> Tensor:
    """The dot product of two buffers of the same shapes (0-dim); may overwrite `left`."""
    dtype = scalar_dtype(left.blocks)
    products = [block_dot(a, b, dtype) for a, b in zip(left.blocks, right.blocks, strict=True)]
    return sum_over(left.owners, products)


def dots(left: Buffers, right: Buffers, labels: Sequence[int], count: int) -> Tensor:
    """`dot` over the tensors of each label 0, ..., `count` - 1, shape `(count,)`; 0 for a label without tensors."""
    dtype = scalar_dtype(left.blocks)
    runs = zip(left.runs(labels), right.runs(labels), strict=True)
    return totals([(label, groups, block_dot(a, b, dtype)) for (label, groups, a), (_, _, b) in runs], count)
