"""Which weights share a radius, and sums over each such block."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import compress
from typing import Any

import torch
from torch import Tensor

from ..tensors import Buffers, Tensors, dot, dots

PER = ("all", "group", "layer")


class Blocks:
    """All weights as one block, or one block per param group or per weight tensor.

    With `per="all"`, sums are 0-dim. Otherwise they have one value per block, 0 for blocks without a tensor in the sum.
    Blocks are numbered like the optimizer's groups or tensors, frozen ones included, so freezing a weight does not
    change the numbers.

    Args:
        per: "all", "group" or "layer".
    """

    def __init__(self, per: str) -> None:
        self.per = per
        self.count = 1
        self._of: list[int] = []  # the block of each trainable weight

    def place(self, param_groups: Sequence[dict[str, Any]]) -> None:
        """Store the block of every trainable weight."""
        params: list[tuple[int, Tensor]] = [(i, p) for i, group in enumerate(param_groups) for p in group["params"]]
        per_group = self.per == "group"
        self.count = len(param_groups if per_group else params)
        self._of = [i if per_group else place for place, (i, p) in enumerate(params) if p.requires_grad]

    def dot(self, left: Buffers, right: Buffers) -> Tensor:
        """The dot product of two buffers of all trainable weights, by block; `left` is overwritten."""
        return dot(left, right) if self.per == "all" else dots(left, right, self._of, self.count)

    def norm(self, buffers: Buffers) -> Tensor:
        """The Euclidean norm of a buffer of all trainable weights, by block."""
        return buffers.norm() if self.per == "all" else buffers.norms(self._of, self.count)

    def spread(self, values: Tensor, present: Sequence[bool] | None = None) -> Tensor:
        """One value per block to one value per trainable weight, or per weight that is `present`; 0-dim stays so."""
        if self.per == "all":
            return values
        each = values.unbind()
        return torch.stack([each[block] for block in (self._of if present is None else compress(self._of, present))])

    def single(self, tensors: Tensors, present: Sequence[bool]) -> list[Tensor]:
        """Of a list of tensors, those whose block has a single entry."""
        if self.per == "all":
            return []
        blocks = list(compress(self._of, present))
        sizes = [0] * self.count
        for block, tensor in zip(blocks, tensors, strict=True):
            sizes[block] += tensor.numel()
        return [tensor for block, tensor in zip(blocks, tensors, strict=True) if sizes[block] == 1]


def grown(values: Tensor, count: int, start: float) -> Tensor:
    """One value for each of `count` blocks: the given values first, then `start`.

    Example:
        >>> grown(torch.tensor(0.2), 3, 0.1)
        tensor([0.2000, 0.1000, 0.1000])
    """
    return torch.cat([values.reshape(-1), values.new_full((count - values.numel(),), start)])
