"""d theta' / d g: the derivative of the base optimizer's update with respect to its gradient, entry by entry.

Z = (d theta' / d g) H_rho eps_hat. For SGD the factor is -lr. For the adaptive optimizers it is the exact derivative of
the update, including the dependence of the second moment on g. It is computed after the base step, from the new state.
The adaptive rules need two temporary tensors in the shape of a weight. They process the weights in portions, so that
this memory is small compared with all weights, and each portion takes a few `foreach` operators.
"""

# pyright: reportPrivateUsage=false, reportPrivateImportUsage=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
# (torch's foreach functions)

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from ..checks import learning_rate
from ..joint import owners_of_groups
from ..tensors import copy_, lacks_float64, scale_
from ..tensors.shards import locals_of
from .registered_rules import WeightUpdate, change_of, counts_as, registered_rule

Group = dict[str, Any]
PORTION = 2**22  # largest number of entries that are processed together; a larger weight is a portion of its own


def apply_update_derivative(
    base: torch.optim.Optimizer,
    params: Sequence[Tensor],
    old: Sequence[Tensor],
    fresh: set[Tensor],
    held: Sequence[Tensor],
) -> None:
    """held <- (d theta' / d g) held, in place.

    SGD (momentum, dampening, Nesterov), Adam, AdamW and RMSprop (centered, momentum) have their own rules here, others
    are registered (`registered_rules`). A rule is that of one class: a subclass may have another update. For any other
    base optimizer, theta' = theta - lr g is assumed.

    Args:
        base: the base optimizer, right after its step.
        params: the weights; their gradients are still those that the base optimizer descended with.
        old: their values before the base step.
        fresh: the weights whose state the base optimizer has created in this step.
        held: H_rho eps_hat, one tensor per weight.

    Example:
        >>> weight = torch.nn.Parameter(torch.ones(2))
        >>> held = [torch.tensor([1.0, 2.0])]
        >>> apply_update_derivative(torch.optim.SGD([weight], lr=0.1), [weight], [weight], set(), held)
        >>> held
        [tensor([-0.1000, -0.2000])]
    """
    groups, owners = base.param_groups, owners_of_groups(base)
    kinds = [counts_as(owner) for owner in owners]
    rules = [registered_rule(kind) for kind in kinds]
    place_of = {p: place for place, group in enumerate(groups) for p in group["params"]}
    alike: dict[tuple[int, float], list[Tensor]] = {}
    adaptive: dict[tuple[int, torch.dtype, torch.device], list[int]] = {}
    for i, (param, z) in enumerate(zip(params, held, strict=True)):
        place = place_of[param]
        kind, rule, factor = kinds[place], rules[place], 1.0
        if rule is not None:
            if param.grad is not None:
                state = owners[place].state.get(param, {})
                update = WeightUpdate(old[i], param.grad, state, groups[place], param in fresh)
                copy_([z], [change_of(rule, z, update, kind)])
            continue
        if kind is torch.optim.SGD:
            factor = _sgd(groups[place], param in fresh)
        elif kind in ADAPTIVE and param.grad is not None and owners[place].state.get(param):
            adaptive.setdefault((place, param.dtype, param.device), []).append(i)
        alike.setdefault((place, factor), []).append(z)
    for (place, _, _), indices in adaptive.items():
        group, kind = groups[place], kinds[place]
        for part in _portions(indices, params):
            some = [params[i] for i in part]
            gradients = _regularised(kind, group, some, [old[i] for i in part])
            ADAPTIVE[kind](group, _States(owners[place], some), gradients, locals_of([held[i] for i in part]))
    for (place, factor), changes in alike.items():
        group = groups[place]
        sign = 1.0 if group.get("maximize", False) else -1.0
        scale_(changes, sign * factor * learning_rate(group))


def _portions(indices: list[int], params: Sequence[Tensor]) -> Iterator[list[int]]:
    """The indices, in portions of at most `PORTION` entries or one weight."""
    part: list[int] = []
    size = 0
    for i in indices:
        if part and size + params[i].numel() > PORTION:
            yield part
            part, size = [], 0
        part.append(i)
        size += params[i].numel()
    yield part


class _States:
    """The state tensors of some weights, by name."""

    def __init__(self, base: torch.optim.Optimizer, params: list[Tensor]) -> None:
        self._states = [base.state[param] for param in params]

    def __getitem__(self, name: str) -> list[Tensor]:
        return locals_of([state[name] for state in self._states])


def _regularised(kind: type, group: Group, params: list[Tensor], old: list[Tensor]) -> list[Tensor]:
    """The gradients that the moments were updated with: negated for `maximize`, with coupled weight decay."""
    gradients = locals_of([p.grad for p in params if p.grad is not None])
    if group.get("maximize", False):
        gradients = torch._foreach_neg(gradients)
    decoupled = kind is torch.optim.AdamW or group.get("decoupled_weight_decay", False)
    if not decoupled and group["weight_decay"] != 0:
        gradients = torch._foreach_add(gradients, locals_of(old), alpha=group["weight_decay"])
    return list(gradients)


def _sgd(group: Group, fresh: bool) -> float:
    """du/dg with buf' = mu buf + (1 - dampening) g and u = buf', or g + mu buf' with Nesterov; the first buf' is g."""
    if group["momentum"] == 0:
        return 1.0
    share = 1.0 if fresh else 1.0 - group["dampening"]
    return 1.0 + group["momentum"] * share if group["nesterov"] else share


def _adam(group: Group, state: _States, gradients: list[Tensor], held: list[Tensor]) -> None:
    """u = m^ / D, D = sqrt(v^) + eps, m^ = m / c1, v^ = v / c2.

    du/dg = ((1 - b1) - m (1 - b2) g / (c2 sqrt(v^) D)) / (c1 D)
    """
    beta1, beta2 = group["betas"]
    steps = torch.stack(state["step"])
    correction1, correction2 = (_correction(beta, steps, held[0].device) for beta in (beta1, beta2))
    second = state["max_exp_avg_sq"] if group["amsgrad"] else state["exp_avg_sq"]
    root = torch._foreach_sqrt(second)
    torch._foreach_mul_(root, _each(correction2.rsqrt(), held))
    torch._foreach_clamp_min_(root, torch.finfo(root[0].dtype).tiny)
    slope = torch._foreach_div(gradients, root)
    torch._foreach_mul_(slope, state["exp_avg"])
    if group["amsgrad"]:  # the running maximum depends on g only where it is the newest value: 1 there, 0 elsewhere
        newest = torch._foreach_sub(state["exp_avg_sq"], second)
        torch._foreach_sign_(newest)
        torch._foreach_add_(newest, 1.0)
        torch._foreach_mul_(slope, newest)
    torch._foreach_add_(root, group["eps"])
    torch._foreach_div_(slope, root)
    torch._foreach_mul_(slope, _each((beta2 - 1) / correction2, held))
    torch._foreach_add_(slope, 1 - beta1)
    torch._foreach_mul_(held, slope)
    torch._foreach_div_(held, root)
    torch._foreach_mul_(held, _each(1 / correction1, held))


def _correction(beta: float | Tensor, steps: Tensor, device: torch.device) -> Tensor:
    """1 - beta^steps, which float32 rounds too coarsely in the first steps unless it is written as expm1."""
    if lacks_float64(device):
        if isinstance(beta, Tensor):
            log = beta.to(device, torch.float32).log()
        else:
            log = math.log(beta) if beta > 0 else -math.inf
        return -torch.expm1(steps.to(device, torch.float32) * log)
    return 1 - beta ** steps.double().to(device)


def _rmsprop(group: Group, state: _States, gradients: list[Tensor], held: list[Tensor]) -> None:
    """u = g / D (momentum adds to it), D = r + eps, r = sqrt(v - m^2); du/dg = (1 - (1-a) g (g - m) / (r D)) / D."""
    if group["centered"]:
        centre = state["grad_avg"]
        root = torch._foreach_mul(centre, centre)
        torch._foreach_neg_(root)
        torch._foreach_add_(root, state["square_avg"])
        torch._foreach_sqrt_(root)
        slope = torch._foreach_sub(gradients, centre)
    else:
        root = torch._foreach_sqrt(state["square_avg"])
        slope = torch._foreach_add(gradients, 0.0)
    torch._foreach_clamp_min_(root, torch.finfo(root[0].dtype).tiny)
    torch._foreach_div_(slope, root)
    torch._foreach_mul_(slope, gradients)
    torch._foreach_add_(root, group["eps"])
    torch._foreach_div_(slope, root)
    torch._foreach_mul_(slope, group["alpha"] - 1)
    torch._foreach_add_(slope, 1.0)
    torch._foreach_mul_(held, slope)
    torch._foreach_div_(held, root)


def _each(values: Tensor, tensors: list[Tensor]) -> list[Tensor]:
    """One number per tensor, in the dtype of the tensors."""
    return list(values.to(tensors[0].dtype).unbind())


ADAPTIVE: dict[type, Callable[[Group, _States, list[Tensor], list[Tensor]], None]] = {
    torch.optim.Adam: _adam,
    torch.optim.AdamW: _adam,
    torch.optim.RMSprop: _rmsprop,
}
