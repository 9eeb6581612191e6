"""Descending beside the base optimizer: a term of the update that its moments do not see."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.optim import Optimizer

from ..tensors import Tensors, add_scaled_, scalar_dtype


def descend_decoupled(base: Optimizer, params: Tensors, targets: Tensors, beside: Tensors) -> None:
    """targets <- targets - lr * beside, with the learning rate of each weight's group.

    Args:
        base: the base optimizer, whose groups hold `params`.
        params: weights; those without a gradient have nothing in `beside`.
        targets: what is changed, one tensor for each of `params`: they themselves, or a derivative of theirs.
        beside: one tensor for each of `params` that has a gradient.
    """
    place = {p: i for i, group in enumerate(base.param_groups) for p in group["params"]}
    moved = [(p, target) for p, target in zip(params, targets, strict=True) if p.grad is not None]
    for i, group in enumerate(base.param_groups):
        chosen = [(target, b) for (p, target), b in zip(moved, beside, strict=True) if place[p] == i]
        if chosen:
            sign = 1.0 if group.get("maximize", False) else -1.0
            lr: float | Tensor = group.get("lr", 1.0)
            moving = [target for target, _ in chosen]
            one = torch.ones((), dtype=scalar_dtype(moving), device=moving[0].device)
            add_scaled_(moving, [b for _, b in chosen], one * (sign * lr))
