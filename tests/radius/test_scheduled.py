"""Schedules: their values, and that no step, warm-up included, is outside the interval."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from letsam import (
    ASAM,
    SAM,
    CosineRadius,
    LinearRadius,
    ProportionalRadius,
)
from letsam.radius import Ascent
from oracle.problems import batch, closure_on, generator, network
from radius.cases import radii


def ascent(step: int = 0, lr: float = 0.1, peak_lr: float = 0.1) -> Ascent:
    return Ascent(step, lr, peak_lr, None, torch.ones(()), [])


def test_linear_and_cosine_values() -> None:
    linear = [0.3 - 0.02 * min(t, 10) for t in range(13)]
    cosine = [0.1 + 0.1 * (1 + math.cos(math.pi * min(t, 10) / 10)) for t in range(13)]
    assert radii(LinearRadius(0.3, 0.1, 10), 13) == pytest.approx(linear, rel=1e-12)
    assert radii(CosineRadius(0.3, 0.1, 10), 13) == pytest.approx(cosine, rel=1e-12)
    assert radii(LinearRadius(0.1, 0.3, 4), 6) == pytest.approx([0.1, 0.15, 0.2, 0.25, 0.3, 0.3], rel=1e-12)


@pytest.mark.parametrize("kind", [LinearRadius, CosineRadius])
def test_scheduled_radii_never_leave_their_interval(kind: type[LinearRadius] | type[CosineRadius]) -> None:
    """Not by one rounding either, for many end points, at every step and far after the end."""
    g = generator(0)
    for _ in range(300):
        start, end = (torch.rand(2, generator=g, dtype=torch.float64) * 3 + 1e-4).tolist()
        radius = kind(start, end, steps=7)
        for step in (*range(9), 10**6):
            value = radius.at(ascent(step)).item()
            assert min(start, end) <= value <= max(start, end), (start, end, step)
        assert value == end


SCHEDULERS: dict[str, Callable[[Any], Any]] = {
    "warm-up from 0": lambda o: torch.optim.lr_scheduler.LambdaLR(o, lambda t: min(t / 5, 1.0)),
    "above the initial": lambda o: torch.optim.lr_scheduler.LambdaLR(o, lambda t: 1.0 + t),
    "up and down": lambda o: torch.optim.lr_scheduler.LambdaLR(o, lambda t: 3.0 * math.sin(t) ** 2),
    "one cycle": lambda o: torch.optim.lr_scheduler.OneCycleLR(o, max_lr=1.0, total_steps=21),
    "cosine to 0": lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 10),
    "linear warm-up": lambda o: torch.optim.lr_scheduler.LinearLR(o, 0.01, 1.0, 10),
    "constant": lambda o: torch.optim.lr_scheduler.ConstantLR(o, 1.0, 1),
}


@pytest.mark.parametrize("name", SCHEDULERS)
def test_proportional_stays_within_its_interval(name: str) -> None:
    used = radii(ProportionalRadius(0.3, minimum=0.05), 20, SCHEDULERS[name])
    assert all(0.05 <= value <= 0.3 for value in used), used


def test_proportional_follows_the_learning_rate() -> None:
    used = radii(ProportionalRadius(0.3, minimum=0.05), 10, SCHEDULERS["cosine to 0"])
    expected = [0.05 + 0.25 * (1 + math.cos(math.pi * t / 10)) / 2 for t in range(10)]
    assert used == pytest.approx(expected, rel=1e-9)
    warm_up = radii(ProportionalRadius(0.3, minimum=0.05), 8, SCHEDULERS["warm-up from 0"])
    assert warm_up == pytest.approx([0.05 + 0.25 * min(t / 5, 1) for t in range(8)], rel=1e-9)


def test_proportional_never_leaves_its_interval_by_rounding() -> None:
    g = generator(1)
    for _ in range(500):
        low, span, lr = (torch.rand(3, generator=g, dtype=torch.float64) + 1e-4).tolist()
        radius = ProportionalRadius(low + span, minimum=low)
        for share in (0.0, 0.3, 1.0):
            value = radius.at(ascent(lr=lr * share, peak_lr=lr)).item()
            assert low <= value <= low + span
    assert ProportionalRadius(0.3, minimum=0.05).at(ascent(lr=0.0, peak_lr=0.0)).item() <= 0.3


def test_nor_by_a_rounding_of_float32() -> None:
    g = generator(3)
    for _ in range(1000):
        low, span, share = torch.rand(3, generator=g, dtype=torch.float64).tolist()
        low, high = low + 1e-4, low + span + 2e-4
        for radius in (ProportionalRadius(high, minimum=low), LinearRadius(high, low, 3), CosineRadius(low, high, 3)):
            radius.to(torch.device("cpu"), torch.float32)
            bottom, top = torch.tensor([low, high], dtype=torch.float32)
            for lr in (share, 1.0):
                assert bottom <= radius.at(ascent(step=2, lr=lr, peak_lr=1.0)) <= top


@pytest.mark.parametrize("lr", [0.1, 0.0])
def test_a_learning_rate_that_is_a_tensor(lr: float) -> None:
    model = network()
    base = torch.optim.SGD(model.parameters(), lr=torch.tensor(lr, dtype=torch.float64))
    opt = SAM(base, rho=ProportionalRadius(0.3, minimum=0.05))
    used = []
    for i in range(3):
        opt.step(closure_on(model, batch(i)))
        used.append(opt.metrics["rho"].item())
        base.param_groups[0]["lr"] = base.param_groups[0]["lr"] / 2
    if lr:
        assert used == pytest.approx([0.3, 0.175, 0.1125], rel=1e-6)
    assert all(0.05 <= value <= 0.3 for value in used)


def test_a_scheduled_radius_is_not_a_fixed_one() -> None:
    """ASAM with a schedule and ASAM with its first value part ways."""
    ends = []
    for rho in (0.5, CosineRadius(0.5, 0.1, 5)):
        model = network()
        opt = ASAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=rho)
        for i in range(5):
            opt.step(closure_on(model, batch(i)))
        ends.append(model[0].weight.detach().clone())
    assert not torch.allclose(ends[0], ends[1], rtol=1e-4)


def test_a_bf16_model_has_a_float32_radius() -> None:
    model = network(dtype=torch.bfloat16)
    opt = SAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=0.05)
    opt.step(closure_on(model, batch(0, dtype=torch.bfloat16)))
    assert opt.rho.dtype == torch.float32
    assert opt.rho.item() == pytest.approx(0.05, rel=1e-7)
