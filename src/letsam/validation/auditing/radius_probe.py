"""Is a validation set large enough for a learned radius? The noise of its slopes, from a short run."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from letsam.radius import LearnedRadius, LogAdam
from letsam.variants import SAM

PARTS, STEPS = 4, 90
BATCH, WIDTH = 64, 64
FEWEST = 4 * PARTS  # samples, four in each part


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

    The validation set is divided into 4 parts. The weights move in the same way for all of them, so their slopes differ
    by the choice of samples alone. The second half of the steps is used.

    Args:
        train: inputs and targets.
        validation: inputs and targets, at least 16 samples; a part of 4.
        loss: (outputs, targets) -> mean.
        model: makes the network.
        seed: of the weights, the order and the division.
    """
    stream = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(validation[0]), generator=stream)
    batches = [torch.randint(len(train[0]), (BATCH,), generator=stream) for _ in range(STEPS)]
    parts = order[: len(order) // PARTS * PARTS].chunk(PARTS)
    slopes = torch.stack(
        [_slopes(train, (validation[0][p], validation[1][p]), loss, model, batches, seed) for p in parts]
    )
    mean = slopes.mean(0)
    scale = mean.square().mean().sqrt()
    if not bool(scale > 0):
        return SlopeNoise(1.0, len(order))
    share = slopes.mean(1).std() / math.sqrt(PARTS) / scale
    return SlopeNoise(min(1.0, float(share)), len(order))


def _slopes(
    train: tuple[Tensor, Tensor],
    held_out: tuple[Tensor, Tensor],
    loss: Callable[[Tensor, Tensor], Tensor],
    model: Callable[[], nn.Module],
    batches: list[Tensor],
    seed: int,
) -> Tensor:
    """The slopes of the validation loss along the radius, one for each step."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = model()
        rule = LogAdam(lr=1e-12)  # the radius must not move, so that all parts see the same weights
        optimizer = SAM(
            torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9),
            rho=LearnedRadius(0.05, interval=1, rule=rule),
            model=network,
        )

        def closure_on(inputs: Tensor, targets: Tensor) -> Callable[[], Tensor]:
            def closure() -> Tensor:
                optimizer.zero_grad()
                value = loss(network(inputs), targets)
                value.backward()
                return value

            return closure

        found: list[Tensor] = []
        for batch in batches:
            optimizer.step(closure_on(train[0][batch], train[1][batch]), closure_on(*held_out))
            found.append(optimizer.metrics["hypergradient"].detach().reshape(()).clone())
    return torch.stack(found[STEPS // 2 :])  # the loss falls too fast in the first half


def perceptron(inputs: int, outputs: int) -> nn.Module:
    """The network of the run where none is given."""
    return nn.Sequential(nn.Linear(inputs, WIDTH), nn.ReLU(), nn.Linear(WIDTH, outputs))
