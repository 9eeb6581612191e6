"""d theta' / d g: how the base optimizer's own update answers to its gradient, entry by entry.

Z = (d theta' / d g) H_rho eps_hat. For SGD the factor is -lr, for the adaptive optimizers it is the exact derivative of
their update, the second moment's own dependence on g included. It is computed after the base step, from the new state.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .._tensors import local, scale_

Group = dict[str, Any]


def apply_update_derivative(
    base: torch.optim.Optimizer,
    params: Sequence[Tensor],
    old: Sequence[Tensor],
    fresh: set[Tensor],
    held: Sequence[Tensor],
) -> None:
    """held <- (d theta' / d g) held, in place.

    SGD (momentum, dampening, Nesterov), Adam, AdamW and RMSprop (centered, momentum) have their own rule; any other
    base optimizer counts as theta' = theta - lr g.

    Args:
        base: the base optimizer, right after its step.
        params: weights whose gradient is still the one that the base optimizer descended with.
        old: their values before the base step.
        fresh: the weights whose state the base optimizer has made in this step.
        held: H_rho eps_hat, one per weight.
    """
    group_of = {p: place for place, group in enumerate(base.param_groups) for p in group["params"]}
    alike: dict[tuple[int, float], list[Tensor]] = {}
    for param, before, z in zip(params, old, held, strict=True):
        group = base.param_groups[group_of[param]]
        factor = _derivative(base, group, param, local(before), param in fresh)
        if isinstance(factor, Tensor):
            local(z).mul_(factor)
            factor = 1.0
        alike.setdefault((group_of[param], factor), []).append(z)
    for (place, factor), changes in alike.items():
        group = base.param_groups[place]
        sign = 1.0 if group.get("maximize", False) else -1.0
        scale_(changes, sign * factor * group.get("lr", 1.0))


def _derivative(
    base: torch.optim.Optimizer, group: Group, param: Tensor, before: Tensor, fresh: bool
) -> Tensor | float:
    """The derivative of the update direction u in theta' = theta - lr u with respect to the gradient."""
    if isinstance(base, torch.optim.SGD):
        return _sgd(group, fresh)
    if param.grad is None or not base.state.get(param):
        return 1.0
    gradient = local(param.grad)
    state = {name: local(value) for name, value in base.state[param].items()}
    if isinstance(base, (torch.optim.Adam, torch.optim.AdamW)):
        decoupled = isinstance(base, torch.optim.AdamW) or group.get("decoupled_weight_decay", False)
        return _adam(group, state, _regularised(group, gradient, before, decoupled))
    if isinstance(base, torch.optim.RMSprop):
        return _rmsprop(group, state, _regularised(group, gradient, before, decoupled=False))
    return 1.0


def _regularised(group: Group, gradient: Tensor, before: Tensor, decoupled: bool) -> Tensor:
    """The gradient as the moments saw it: sign-flipped for `maximize`, with the coupled weight decay."""
    gradient = -gradient if group.get("maximize", False) else gradient
    weight_decay = group["weight_decay"]
    return gradient if decoupled or weight_decay == 0 else gradient.add(before, alpha=weight_decay)


def _sgd(group: Group, fresh: bool) -> float:
    """buf' = mu buf + (1 - dampening) g; u = buf', or g + mu buf' with Nesterov. The first buf' is g itself."""
    if group["momentum"] == 0:
        return 1.0
    share = 1.0 if fresh else 1.0 - group["dampening"]
    return 1.0 + group["momentum"] * share if group["nesterov"] else share


def _adam(group: Group, state: dict[str, Tensor], gradient: Tensor) -> Tensor:
    """u = m^ / (sqrt(v^) + eps); du/dg = (1-b1)/bc1 / D - m^ (1-b2) g / (bc2 sqrt(v^)) / D^2, D = sqrt(v^) + eps."""
    beta1, beta2 = group["betas"]
    step = state["step"].double().to(gradient.device)
    correction1, correction2 = (1 - beta1**step).to(gradient.dtype), (1 - beta2**step).to(gradient.dtype)
    moment = state["exp_avg"] / correction1
    second = state["max_exp_avg_sq"] if group["amsgrad"] else state["exp_avg_sq"]
    root = (second / correction2).sqrt()
    denominator = root + group["eps"]
    slope = gradient * ((1 - beta2) / correction2) / _nonzero(root)
    if group["amsgrad"]:
        slope = slope * (state["exp_avg_sq"] >= second)  # the running maximum moves only where it is the newest
    return ((1 - beta1) / correction1 - moment * slope / denominator) / denominator


def _rmsprop(group: Group, state: dict[str, Tensor], gradient: Tensor) -> Tensor:
    """u = g / D (momentum adds to it), D = sqrt(v - m^2) + eps; du/dg = 1/D - g (1-alpha)(g - m) / (D - eps) / D^2."""
    average = state["square_avg"]
    centre: Tensor | float = 0.0
    if group["centered"]:
        centre = state["grad_avg"]
        average = average - centre**2
    root = average.sqrt()
    denominator = root + group["eps"]
    slope = (gradient - centre) * (1 - group["alpha"]) / _nonzero(root)
    return (1 - gradient * slope / denominator) / denominator


def _nonzero(root: Tensor) -> Tensor:
    return root.clamp(min=torch.finfo(root.dtype).tiny)
