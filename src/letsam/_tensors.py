"""Arithmetic over lists of tensors, on the device: no value is ever read by the host.

The `foreach` functions take a whole list in one dispatched operator; in-place forms keep the memory at what is
held anyway. Scalars are 0-dim tensors of `scalar_dtype`, so that a bf16 model still has a float32 radius.
"""

# pyright: reportPrivateUsage=false, reportPrivateImportUsage=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
# (torch's foreach functions are private by name and carry no annotations; this file is the only one that calls them)

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

Tensors = Sequence[Tensor]


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
    norms = torch._foreach_norm(list(tensors), 2, dtype=scalar_dtype(tensors))
    return torch.linalg.vector_norm(torch.stack(norms))


def dot(left: Tensors, right: Tensors) -> Tensor:
    """The dot product of two lists of tensors of the same shapes (0-dim)."""
    dtype = scalar_dtype(left)
    products = [torch.sum(a * b, dtype=dtype) for a, b in zip(left, right, strict=True)]
    return torch.stack(products).sum()


def scale_(tensors: Tensors, factor: Tensor) -> None:
    """Multiply every tensor by one factor (0-dim), or each by its own (shape `(len(tensors),)`)."""
    if factor.ndim == 0:
        torch._foreach_mul_(list(tensors), factor)
    else:
        torch._foreach_mul_(list(tensors), list(factor.unbind()))


def add_(tensors: Tensors, others: Tensors) -> None:
    """tensors += others."""
    torch._foreach_add_(list(tensors), list(others))


def subtract_(tensors: Tensors, others: Tensors) -> None:
    """tensors -= others."""
    torch._foreach_sub_(list(tensors), list(others))


def multiply_(tensors: Tensors, others: Tensors) -> None:
    """tensors *= others, entry by entry."""
    torch._foreach_mul_(list(tensors), list(others))


def copy_(tensors: Tensors, others: Tensors) -> None:
    """tensors <- others, in place and bit for bit."""
    torch._foreach_copy_(list(tensors), list(others))


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
