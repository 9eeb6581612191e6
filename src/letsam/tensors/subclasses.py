"""Tensors that are made of other tensors, such as the quantized optimizer states of torchao: the memory they have.

Such a tensor supports the few operators that its optimizer needs. Copying and choosing bit for bit is done with the
tensors that it is made of.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

from .shards import is_dtensor, local


def dense_parts(tensor: Tensor) -> list[Tensor]:
    """The plain tensors that share this one's memory: itself, or those that a tensor subclass is made of.

    Float8 tensors are viewed as integers, since few operators support them. DTensors of plain tensors stay as they are.
    """
    if type(tensor) is Tensor and tensor.dtype.itemsize > 1:
        return [tensor]
    inner: Any = local(tensor) if is_dtensor(tensor) else tensor
    if hasattr(inner, "__tensor_flatten__"):
        names, _ = inner.__tensor_flatten__()
        return [part for name in names for part in dense_parts(getattr(inner, name))]
    if inner.is_floating_point() and inner.dtype.itemsize == 1:
        return [inner.view(torch.uint8)]
    return [tensor]


def filled_like(tensor: Tensor, value: Any) -> Tensor:
    """A tensor of the same kind, shape and dtype, with `value` in all entries.

    A subclass rounds `value` as it does. 0 is exact, whether or not the subclass has a code for it: all that it would
    write is 0 then, also the scale.
    """
    inner: Any = local(tensor)
    if not hasattr(inner, "__tensor_flatten__"):
        coarse = inner.is_floating_point() and inner.dtype.itemsize == 1  # float8, in which nothing can be added
        return (torch.zeros_like(inner, dtype=torch.float32 if coarse else None) + value).to(inner.dtype)
    names, context = inner.__tensor_flatten__()
    parts = {name: getattr(inner, name).clone() for name in names}
    made: Any = cast(Any, type(inner)).__tensor_unflatten__(parts, context, inner.shape, inner.stride())
    made.copy_(torch.zeros(inner.shape, device=inner.device) + value)
    if not isinstance(value, Tensor) and value == 0:
        for part, before in zip(dense_parts(made), dense_parts(inner), strict=True):
            part.mul_((part == before).all())  # what a table of codes has is not written
    return made
