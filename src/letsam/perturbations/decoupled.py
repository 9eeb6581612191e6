"""The decoupled term of an update: applied to the weights directly, not through the base optimizer's moments."""

from __future__ import annotations

import torch
from torch.optim import Optimizer

from ..checks import learning_rate
from ..tensors import Tensors, add_scaled_, scalar_dtype


def descend_decoupled(base: Optimizer, params: Tensors, targets: Tensors, terms: Tensors) -> None:
    """targets <- targets - lr * terms, with the learning rate lr of each weight's group (+ lr under `maximize`).

    Args:
        base: the base optimizer, whose groups hold `params`.
        params: the weights, with or without gradients.
        targets: the tensors to update, one per weight: the weights themselves or a derivative of them.
        terms: one tensor for each weight that has a gradient.

    Example:
        >>> weight = torch.nn.Parameter(torch.tensor([1.0]))
        >>> weight.grad = torch.zeros(1)
        >>> with torch.no_grad():
        ...     descend_decoupled(torch.optim.SGD([weight], lr=0.5), [weight], [weight], [torch.tensor([1.0])])
        >>> weight.detach()
        tensor([0.5000])
    """
    place = {p: i for i, group in enumerate(base.param_groups) for p in group["params"]}
    moved = [(p, target) for p, target in zip(params, targets, strict=True) if p.grad is not None]
    for i, group in enumerate(base.param_groups):
        chosen = [(target, b) for (p, target), b in zip(moved, terms, strict=True) if place[p] == i]
        if chosen:
            sign = 1.0 if group.get("maximize", False) else -1.0
            lr = learning_rate(group)
            moving = [target for target, _ in chosen]
            one = torch.ones((), dtype=scalar_dtype(moving), device=moving[0].device)
            add_scaled_(moving, [b for _, b in chosen], one * (sign * lr))
