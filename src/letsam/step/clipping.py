"""Clipping by the total norm, and its derivative."""

from __future__ import annotations

import torch
from torch import Tensor

from ..tensors import Tensors, norm


def clipping(gradients: Tensors, max_norm: float) -> tuple[Tensor, Tensor]:
    """What clips the gradients, as `torch.nn.utils.clip_grad_norm_` does: c = min(1, max_norm / (||g|| + 1e-6)).

    Returns:
        c, and the slope s of c in d(c g) = c dg + s g (g . dg), which is -c / (||g|| (||g|| + 1e-6)) or, where nothing
        is clipped, 0 (both 0-dim).
    """
    length = norm(gradients)
    factor = (max_norm / (length + 1e-6)).clamp(max=1.0)
    square = (length * (length + 1e-6)).clamp(min=torch.finfo(length.dtype).tiny)
    return factor, torch.where(factor < 1, -factor / square, 0.0)
