"""Is a validation set large enough for a learned radius? The noise of its slopes, from a short run."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from letsam.radius import LearnedRadius, LogAdam
from letsam.tangent.tangent import Tangent
from letsam.variants import SAM

STEPS = 90
BATCH, WIDTH = 64, 64
FEWEST = 16  # samples


@dataclass(frozen=True)
class SlopeNoise:
    """The noise of the slopes of a validation set.

    Args:
        share: the noise in the mean slope that is due to the choice of validation samples, relative to the root mean
            square of the slopes. The rule of a learned radius divides by the latter (Adam), so this is the part of its
            move that would be another one with other samples. The prior pulls with a weight of at most 0.7.
        samples: of the validation set.
    """

    share: float
    samples: int

    def needed(self, limit: float) -> int:
        """About how many samples bring the share to `limit`: the noise falls with the root of their number."""
        signal = max(1e-3, 1 - self.share**2)
        return math.ceil(self.samples * self.share**2 / signal * (1 - limit**2) / limit**2)


def slope_noise(
    train: tuple[Tensor, Tensor],
    validation: tuple[Tensor, Tensor],
    loss: Callable[[Tensor, Tensor], Tensor],
    model: Callable[[], nn.Module],
    seed: int = 0,
) -> SlopeNoise:
    """Measure the noise of the slopes in 90 steps of SAM with a radius of 0.05 that does not move.

    The slope of a validation set is the mean of those of its samples, each along the same Z. So the noise is the
    standard error of that mean, of slopes that are averaged over the second half of the steps.

    Args:
        train: inputs and targets.
        validation: inputs and targets, at least 16 samples.
        loss: (outputs, targets) -> mean.
        model: makes the network.
        seed: of the weights and the order.
    """
    stream = torch.Generator().manual_seed(seed)
    batches = [torch.randint(len(train[0]), (BATCH,), generator=stream) for _ in range(STEPS)]
    slopes = sample_slopes(train, validation, loss, model, batches, seed)
    scale = slopes.mean(1).square().mean().sqrt()
    count = len(validation[0])
    if not bool(scale > 0):
        return SlopeNoise(1.0, count)
    share = slopes.mean(0).std() / math.sqrt(count) / scale
    return SlopeNoise(min(1.0, float(share)), count)


def sample_slopes(
    train: tuple[Tensor, Tensor],
    validation: tuple[Tensor, Tensor],
    loss: Callable[[Tensor, Tensor], Tensor],
    model: Callable[[], nn.Module],
    batches: list[Tensor],
    seed: int,
) -> Tensor:
    """The slopes of the losses of the validation samples along the radius.

    Returns:
        Shape ``(steps, samples)``, of the second half of the steps: the loss falls too fast in the first.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = model()
        rule = LogAdam(lr=1e-12)  # the radius must not move, so that all sets would see the same weights
        optimizer = SAM(
            torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9),
            rho=LearnedRadius(0.05, interval=1, rule=rule),
            model=network,
        )
        found: list[Tensor] = []

        def closure_on(inputs: Tensor, targets: Tensor) -> Tensor:
            optimizer.zero_grad()
            value = loss(network(inputs), targets)
            value.backward()
            return value

        def on_validation() -> Tensor:
            tangent = cast("Tangent", optimizer.tangent)
            if tangent.held:  # of the step before, which has led to these weights
                found.append(_along(network, tangent.held, validation, loss))
            return closure_on(*validation)

        for batch in batches:
            optimizer.step(lambda chosen=batch: closure_on(train[0][chosen], train[1][chosen]), on_validation)
    return torch.stack(found[len(found) // 2 :])


def _along(
    network: nn.Module, direction: list[Tensor], data: tuple[Tensor, Tensor], loss: Callable[[Tensor, Tensor], Tensor]
) -> Tensor:
    """The derivative of each sample's loss along a direction of the weights."""
    names = [name for name, _ in network.named_parameters()]
    weights, along = (
        dict(zip(names, tensors, strict=True)) for tensors in ([p.detach() for p in network.parameters()], direction)
    )
    outputs, changes = torch.func.jvp(  # pyright: ignore[reportAssignmentType]
        lambda moved: torch.func.functional_call(network, moved, (data[0],)), (weights,), (along,)
    )
    slopes = torch.func.grad(loss)(outputs, data[1]) * len(outputs)  # the loss is a mean
    return (slopes * changes).flatten(1).sum(1)


def perceptron(inputs: int, outputs: int) -> nn.Module:
    """The network of the run where none is given."""
    return nn.Sequential(nn.Linear(inputs, WIDTH), nn.ReLU(), nn.Linear(WIDTH, outputs))
