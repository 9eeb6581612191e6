"""The range test of the learning rate."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from letsam.models import BaseOptimizer, LearningRates, range_test


class Quadratic(nn.Module):
    """``curvature / 2 * weight ** 2``, whose gradient descent diverges above a learning rate of 2 / curvature."""

    def __init__(self, curvature: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones((), dtype=torch.float64))
        self.curvature = curvature

    def forward(self, _: Tensor) -> Tensor:
        return self.curvature / 2 * self.weight**2


def batches(count: int = 60) -> Iterator[tuple[Tensor, Tensor]]:
    for _ in range(count):
        yield torch.zeros(1), torch.zeros(1)


def loss(outputs: Tensor, _: Tensor) -> Tensor:
    return outputs


def plain(parameters: object) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.05)  # type: ignore[arg-type]


def found_by(network: nn.Module, optimizer: Any, measured: Any = loss) -> LearningRates:
    return range_test(network, optimizer(network.parameters()), measured, batches())


@pytest.mark.parametrize("curvature", [1.0, 10.0])
def test_it_follows_the_rule_on_a_quadratic(curvature: float) -> None:
    found = found_by(Quadratic(curvature), plain)

    weight, mean, rates, losses = 1.0, 0.0, [], []
    for step in range(60):  # by hand
        value = curvature / 2 * weight**2
        mean = 0.8 * mean + 0.2 * value
        smooth = mean / (1 - 0.8 ** (step + 1))
        if losses and smooth - min(losses) > max(3 * (losses[0] - min(losses)), losses[0]):
            break
        rate = 0.05 * 10 ** (6 * step / 59 - 3)
        rates.append(rate)
        losses.append(smooth)
        weight -= rate * curvature * weight
    assert found.rates == pytest.approx(rates)
    assert found.losses == pytest.approx(losses)
    assert found.found == pytest.approx(0.1 * rates[losses.index(min(losses))], rel=1e-2)
    assert found.found < 2 / curvature  # it does not diverge
    assert len(rates) < 60  # the test ended early


def test_a_steeper_loss_gives_a_lower_learning_rate() -> None:
    rates = [found_by(Quadratic(c), plain).found for c in (0.1, 1.0, 10.0, 100.0)]
    assert rates == sorted(rates, reverse=True)
    assert len(set(rates)) == 4


def test_the_default_is_kept_where_nothing_decreases_the_loss() -> None:
    flat = nn.Linear(1, 1)
    constant = found_by(flat, plain, lambda outputs, _: outputs.sum() * 0 + 1)
    assert (constant.found, constant.default) == (0.05, 0.05)
    nothing = found_by(flat, plain, lambda outputs, _: outputs.sum() * torch.nan)
    assert (nothing.found, nothing.rates) == (0.05, ())


def test_groups_keep_their_ratio() -> None:
    seen: list[tuple[float, float]] = []

    class Watched(torch.optim.SGD):
        def step(self, closure: object = None) -> None:  # type: ignore[override]
            seen.append((self.param_groups[0]["lr"], self.param_groups[1]["lr"]))

    def factory(parameters: object) -> torch.optim.Optimizer:
        weight, bias = list(parameters)  # type: ignore[call-overload]
        return Watched([{"params": [weight]}, {"params": [bias], "lr": 0.001}], lr=0.1)

    found_by(nn.Linear(1, 1), factory, lambda outputs, _: outputs.sum() ** 2)
    assert seen[0] == pytest.approx((1e-4, 1e-6))
    assert all(first == pytest.approx(100 * second) for first, second in seen)


def test_noise_between_batches_does_not_end_it() -> None:
    """Losses that differ by half from batch to batch, before the learning rate is large enough to change anything."""
    noise = torch.rand(60, generator=torch.Generator().manual_seed(0)).tolist()
    data = [(torch.zeros(1), torch.tensor(0.75 + value / 2)) for value in noise]
    network = Quadratic(1.0)
    base = plain(network.parameters())
    found = range_test(network, base, lambda outputs, factor: outputs * factor, data)
    assert len(found.rates) > 40
    assert 0.05 < found.found < 2


def test_it_is_the_same_twice() -> None:
    def once() -> float:
        torch.manual_seed(3)
        network = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 2))
        data = [(torch.randn(8, 2), torch.randint(2, (8,))) for _ in range(60)]
        base = BaseOptimizer("adamw", 1e-3, 0.0)(network.parameters())
        return range_test(network, base, nn.functional.cross_entropy, data).found

    assert once() == once()
