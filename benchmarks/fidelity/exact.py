"""d upper / d rho without an approximation: one step written out as a function of rho, differentiated by autograd.

Nothing of `letsam` is used here. With eps_hat = g_0 / ||g_0|| (which does not depend on rho),

    g(rho)      = grad L_tr(theta + rho eps_hat)                    a double backward keeps its graph
    theta'(rho) = theta - lr (momentum * buffer + weight_decay * theta + g(rho))
    upper(rho)  = L_vl(theta'(rho)),  or  (L_vl - L_tr)^2 / 2 there

With `keeps_length` the step descends with g(rho) ||g(rho_0)|| / ||g(rho)||, whose length does not depend on rho.
`length_invariant` expresses the same by a projection.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call

Batch = tuple[Tensor, Tensor]
Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Moment:
    """A training run just before a step."""

    model: nn.Module  # the weights theta, in float64
    base: torch.optim.SGD  # with its momentum buffers; one group, neither Nesterov nor dampening
    loss: Loss  # (outputs, targets) -> mean
    batch: Batch  # of the step
    next_batch: Batch  # of the step after it
    validation: Batch  # held-out batch of the upper level


def closure_on(opt: torch.optim.Optimizer, model: nn.Module, loss: Loss, batch: Batch) -> Callable[[], Tensor]:
    """As an optimizer computes it."""

    def closure() -> Tensor:
        opt.zero_grad()
        value = loss(model(batch[0]), batch[1])
        value.backward()
        return value

    return closure


def hypergradient(moment: Moment, rho: float, objective: str, training_batch: str, *, keeps_length: bool) -> float:
    """d upper / d rho, to rounding; the arguments are those of `upper`."""
    radius = torch.tensor(rho, dtype=torch.float64, requires_grad=True)
    value = upper(moment, radius, objective, training_batch, keeps_length=keeps_length)
    return torch.autograd.grad(value, radius)[0].item()


def upper(moment: Moment, rho: Tensor, objective: str, training_batch: str, *, keeps_length: bool) -> Tensor:
    """The upper-level objective after the step, a differentiable function of the radius or of one for each tensor.

    The objective is "validation_loss" or "squared_gap", the latter on the "next" training batch or on the "same".
    """
    after = _step(moment, rho, keeps_length=keeps_length)
    held_out = _loss(moment, after, moment.validation)
    if objective == "validation_loss":
        return held_out
    training = moment.next_batch if training_batch == "next" else moment.batch
    return (held_out - _loss(moment, after, training)).square() / 2


def _step(moment: Moment, rho: Tensor, *, keeps_length: bool) -> dict[str, Tensor]:
    (group,) = moment.base.param_groups
    assert not any(group[option] for option in ("nesterov", "dampening", "maximize"))
    weights = {name: p.detach().clone().requires_grad_() for name, p in moment.model.named_parameters()}
    ascent = torch.autograd.grad(_loss(moment, weights, moment.batch), list(weights.values()))
    length, radii = _norm(ascent), rho.expand(len(ascent))
    perturbed = {n: w + r * g / length for (n, w), r, g in zip(weights.items(), radii, ascent, strict=True)}
    loss = _loss(moment, perturbed, moment.batch)
    descent = torch.autograd.grad(loss, list(perturbed.values()), create_graph=True)
    if keeps_length:
        now = _norm(descent)
        descent = [g * (now.detach() / now) for g in descent]
    after: dict[str, Tensor] = {}
    for (name, param), gradient in zip(moment.model.named_parameters(), descent, strict=True):
        direction = gradient + group["weight_decay"] * weights[name]
        buffer = moment.base.state.get(param, {}).get("momentum_buffer")
        if buffer is not None:
            direction = direction + group["momentum"] * buffer
        after[name] = weights[name] - group["lr"] * direction
    return after


def _loss(moment: Moment, weights: dict[str, Tensor], batch: Batch) -> Tensor:
    return moment.loss(functional_call(moment.model, weights, (batch[0],)), batch[1])


def _norm(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([t.reshape(-1) for t in tensors]).norm()
