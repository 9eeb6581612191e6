"""The slopes of single samples are those that a learned radius sees."""

from __future__ import annotations

import torch
from torch import nn

from letsam.radius import LearnedRadius, LogAdam
from letsam.validation.auditing.radius_probe import perceptron, sample_slopes, slope_noise
from letsam.variants import SAM


def test_slopes_of_samples_are_hypergradients_of_sets_of_one() -> None:
    stream = torch.Generator().manual_seed(0)
    inputs, targets = torch.randn(80, 4, generator=stream), torch.randint(0, 3, (80,), generator=stream)
    held = inputs[60:], targets[60:]
    batches = [torch.randint(60, (16,), generator=stream) for _ in range(8)]
    loss = nn.functional.cross_entropy
    slopes = sample_slopes((inputs, targets), held, loss, lambda: perceptron(4, 3), batches, 0)

    for place in (0, 7):
        torch.manual_seed(0)
        network = perceptron(4, 3)
        optimizer = SAM(
            torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9),
            rho=LearnedRadius(0.05, interval=1, rule=LogAdam(lr=1e-12)),
            model=network,
        )

        def closure(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            optimizer.zero_grad()  # noqa: B023
            value = loss(network(x), y)  # noqa: B023
            value.backward()
            return value

        seen = []
        one = held[0][place : place + 1], held[1][place : place + 1]
        for batch in batches:
            optimizer.step(lambda b=batch: closure(inputs[b], targets[b]), lambda o=one: closure(*o))
            seen.append(optimizer.metrics["hypergradient"].reshape(()).clone())
        expected = torch.stack(seen)[-len(slopes) :]
        assert expected.abs().max() > 0
        torch.testing.assert_close(slopes[:, place], expected, rtol=1e-3, atol=1e-7)


def test_the_noise_is_that_of_other_validation_sets() -> None:
    """The standard error from one set of 40 samples, and the spread of the slopes of 25 sets of 40."""
    stream = torch.Generator().manual_seed(1)
    inputs = torch.randn(1200, 5, generator=stream)
    targets = 0.3 * inputs[:, :1] + torch.randn(1200, 1, generator=stream)
    train = inputs[:200], targets[:200]
    batches = [torch.randint(200, (64,), generator=stream) for _ in range(30)]
    loss = nn.functional.mse_loss
    slopes = sample_slopes(train, (inputs[200:], targets[200:]), loss, lambda: perceptron(5, 1), batches, 0)
    of_sets = slopes.mean(0).reshape(25, 40).mean(1).std()
    stated = slopes.mean(0).std() / 40**0.5
    assert 0.7 < float(of_sets / stated) < 1.4


def test_a_set_of_equal_samples_has_no_noise() -> None:
    stream = torch.Generator().manual_seed(0)
    inputs = torch.randn(100, 3, generator=stream)
    train = inputs, inputs[:, :1].clone()
    same = inputs[:1].repeat(20, 1), inputs[:1, :1].repeat(20, 1)
    found = slope_noise(train, same, nn.functional.mse_loss, lambda: perceptron(3, 1))
    assert found.share < 1e-3
    assert found.needed(0.7) <= 1
