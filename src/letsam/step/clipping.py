"""Clipping by the total norm, and its derivative."""

from __future__ import annotations

import torch
from torch import Tensor

from ..tensors import Tensors, norm


def clipping(gradients: Tensors, max_norm: float) -> tuple[Tensor, Tensor]:
    """The clipping factor of `torch.nn.utils.clip_grad_norm_`, c = min(1, max_norm / (||g|| + 1e-6)), and its slope.

    Args:
        gradients: g.
        max_norm: > 0.

    Returns:
        c, and the slope s in d(c g) = c dg + s g (g . dg): -c / (||g|| (||g|| + 1e-6)), or 0 if nothing is clipped
        (both 0-dim).

    Example:
        >>> factor, slope = clipping([torch.tensor([3.0, 4.0])], 1.0)
        >>> round(factor.item(), 4), round(slope.item(), 4)
        (0.2, -0.008)
    """
    length = norm(gradients)
    factor = (max_norm / (length + 1e-6)).clamp(max=1.0)
    square = (length * (length + 1e-6)).clamp(min=torch.finfo(length.dtype).tiny)
    return factor, torch.where(factor < 1, -factor / square, 0.0)
