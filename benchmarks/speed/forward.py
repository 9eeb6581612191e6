"""The validation pass without a backward: the loss and its derivative along Z, three ways.

`backward` is what a learned radius does: a whole pass, then the dot product of the gradient with Z. `jvp` is
forward-mode differentiation along Z; `difference` two forward passes, at the weights and at a small distance along
Z. The last two do not give the norm of the validation gradient.
"""

from __future__ import annotations

import functools
import statistics
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, jvp
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.speed.contenders import RHO, climb, norm
from benchmarks.speed.cost import Rows, in_rows, seconds
from benchmarks.speed.networks import Network, network
from letsam import SAM

ROUNDS = 7
TURNS = 3  # of a round
STEPS = 10  # of SAM before anything is measured
BATCHES = 3
REFERENCE = "backward"
Slope = Callable[[Network, list[Tensor]], tuple[Tensor, Tensor]]


def backward(network: Network, z: list[Tensor]) -> tuple[Tensor, Tensor]:
    """A pass, and the dot product."""
    loss = network.validate()
    gradients = [p.grad for p in network.params if p.grad is not None]
    products = torch._foreach_mul(gradients, z)
    return loss, torch.stack([product.sum() for product in products]).sum()


@torch.no_grad()
def forward_mode(network: Network, z: list[Tensor]) -> tuple[Tensor, Tensor]:
    """The derivative is carried along in the forward pass, through the buffers' copies, too."""
    model, (images, labels) = network.model, network.batches[1]
    weights = {name: p.detach() for name, p in model.named_parameters()}

    def loss(moved: dict[str, Tensor]) -> Tensor:
        buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
        return nn.functional.cross_entropy(functional_call(model, (moved, buffers), (images,)), labels)

    with sdpa_kernel(SDPBackend.MATH):  # flash attention on a CPU has no forward-mode derivative
        found: Any = jvp(loss, (weights,), (dict(zip(weights, z, strict=True)),))
    return found


@torch.no_grad()
def difference(network: Network, z: list[Tensor], step: float | None = None) -> tuple[Tensor, Tensor]:
    """Two forward passes; the step is in units of the weights' norm, by default the root of the rounding error."""
    params = network.params
    step = torch.finfo(z[0].dtype).eps ** 0.5 if step is None else step
    length = step * (norm(params) / norm(z)).item()
    saved = [p.clone() for p in params]
    loss = network.loss(1)
    torch._foreach_add_(params, z, alpha=length)
    slope = (network.loss(1) - loss) / length
    torch._foreach_copy_(params, saved)
    return loss, slope


WAYS: dict[str, Slope] = {REFERENCE: backward, "jvp": forward_mode, "difference": difference}


def measure(name: str) -> Rows:
    """For each way: milliseconds, the ratio to a backward, and the errors that the page explains."""
    single, z = prepared(name)
    steps = {way: functools.partial(slope, single, z) for way, slope in WAYS.items()}
    for step in steps.values():
        step()
    found = in_rows(seconds(steps, ROUNDS, TURNS), REFERENCE)
    double = network(name, torch.float64)
    double.model.load_state_dict({key: value.clone() for key, value in single.model.state_dict().items()})
    errors: dict[tuple[str, str], list[float]] = {}
    for seed in range(BATCHES):
        torch.manual_seed(seed)
        images, labels = torch.randn_like(single.batches[1][0]), torch.randint(10, single.batches[1][1].shape)
        single.batches[1], double.batches[1] = (images, labels), (images.double(), labels)
        z_double = [change.double() for change in z]
        exact = backward(double, z_double)[1]
        for dtype, one, changes in (("float32", single, z), ("float64", double, z_double)):
            for way, slope in WAYS.items():
                errors.setdefault((way, dtype), []).append(_error(slope(one, changes)[1], exact))
            tried = [difference(one, changes, 10.0**exponent)[1] for exponent in range(-8, -1)]
            errors.setdefault(("difference", f"best {dtype}"), []).append(min(_error(s, exact) for s in tried))
    for (way, kind), values in errors.items():
        found[way][kind] = statistics.median(values)
    return found


def prepared(name: str) -> tuple[Network, list[Tensor]]:
    """A network after some steps of SAM, and the Z of the next one, by the secant."""
    one = network(name)
    opt = SAM(torch.optim.SGD(one.params, lr=0.02, momentum=0.9), RHO, model=one.model)
    for _ in range(STEPS):
        opt.step(one.train)
    one.train()
    before = [p.grad.clone() for p in one.params if p.grad is not None]
    moved = climb(one.params, RHO)
    one.train()
    with torch.no_grad():
        torch._foreach_sub_(one.params, moved)
    after = [p.grad for p in one.params if p.grad is not None]
    return one, [-(g_rho - g) / RHO for g_rho, g in zip(after, before, strict=True)]


def _error(found: Tensor, exact: Tensor) -> float:
    return ((found.double() - exact) / exact).abs().item()
