"""A learned onset: when a growing gap makes the ascents begin."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch

import letsam
from letsam import GapOnset


def seen(onset: GapOnset, slope: float, steps: int = 800, noise: float = 0.1, factor: float = 1.0) -> GapOnset:
    """The onset after gaps that grow by `slope` a step from step 100 on."""
    generator = torch.Generator().manual_seed(0)
    for step in range(0, steps, 4):
        gap = slope * max(0, step - 100) + noise * float(torch.randn((), generator=generator))
        onset.observe(step, factor * 1.0, factor * (1.0 + gap))
    return onset


def test_a_growing_gap_begins_the_ascents() -> None:
    onset = seen(GapOnset(800), 0.002)
    assert onset.onset is not None
    assert 100 < onset.onset < 300
    assert not onset(onset.onset - 1)
    assert onset(onset.onset)


def test_noise_alone_does_not_and_the_latest_step_does() -> None:
    onset = seen(GapOnset(800), 0.0)
    assert onset.onset is None
    assert [onset(step) for step in (0, 799, 800, 5000)] == [False, False, True, True]


def test_more_errors_wait_longer() -> None:
    early, late = seen(GapOnset(800, errors=2.0), 0.002), seen(GapOnset(800, errors=6.0), 0.002)
    assert early.onset is not None
    assert late.onset is not None
    assert early.onset < late.onset


def test_the_scale_of_the_loss_does_not_matter() -> None:
    assert seen(GapOnset(800), 0.002).onset == seen(GapOnset(800), 0.002, factor=1e6).onset


def test_losses_that_are_not_finite_are_left_out() -> None:
    plain, broken = GapOnset(800), GapOnset(800)
    for step in range(0, 80, 4):
        plain.observe(step, 1.0, 1.1)
        broken.observe(step, 1.0, 1.1)
        broken.observe(step, 1.0, math.inf)
        broken.observe(step, math.nan, 1.0)
    assert plain.state_dict() == broken.state_dict()


def test_a_saved_onset_goes_on_as_if_nothing_had_happened() -> None:
    whole, half = GapOnset(800), GapOnset(800)
    seen(whole, 0.002)
    state = seen(GapOnset(800), 0.002, steps=100).state_dict()
    half.load_state_dict(copy.deepcopy(state))
    generator = torch.Generator().manual_seed(0)
    for step in range(0, 800, 4):
        gap = 0.002 * max(0, step - 100) + 0.1 * float(torch.randn((), generator=generator))
        if step >= 100:
            half.observe(step, 1.0, 1.0 + gap)
    assert half.state_dict() == whole.state_dict()


@pytest.mark.parametrize(
    ("changed", "error"),
    [({"average": "a"}, "average"), ({"onset": -1}, "onset"), ({"count": 0.5}, "count"), (None, "without onset")],
)
def test_a_damaged_state_is_refused_and_changes_nothing(changed: dict[str, Any] | None, error: str) -> None:
    onset = seen(GapOnset(800), 0.002)
    before = onset.state_dict()
    with pytest.raises((ValueError, TypeError), match=error):
        onset.load_state_dict({} if changed is None else before | changed)
    assert onset.state_dict() == before


@pytest.mark.parametrize("options", [{"latest": 0}, {"latest": 1.5}, {"latest": 10, "errors": 0.0}])
def test_arguments_are_checked(options: dict[str, Any]) -> None:
    with pytest.raises((ValueError, TypeError), match=r"`(latest|errors)` must be"):
        GapOnset(**options)


def test_a_loss_of_many_numbers_is_refused() -> None:
    with pytest.raises(ValueError, match=r"`validation_loss` must be one number, got a tensor of shape \(2,\)"):
        GapOnset(10).observe(0, torch.tensor(1.0), torch.ones(2))


@pytest.mark.parametrize("learned", [False, True])
def test_an_optimizer_takes_one_pass_before_the_onset_and_climbs_after_it(learned: bool) -> None:
    torch.manual_seed(0)
    model, inputs = torch.nn.Linear(8, 3), torch.randn(30, 8)
    targets = torch.randint(3, (30,))
    passes = 0

    def closure() -> torch.Tensor:
        nonlocal passes
        passes += 1
        opt.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(inputs[:20]), targets[:20])
        loss.backward()
        return loss

    def held_out() -> torch.Tensor:
        opt.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(inputs[20:]), targets[20:])
        loss.backward()
        return loss

    onset, counts = GapOnset(latest=60), list[int]()
    rho = letsam.LearnedRadius(0.05) if learned else 0.05
    opt = letsam.SAM(torch.optim.SGD(model.parameters(), lr=0.5), rho, validation_closure=held_out, active=onset)
    for step in range(70):
        passes = 0
        loss = opt.step(closure)
        counts.append(passes)
        if not onset(step) and step % 2 == 0:
            with torch.no_grad():
                onset.observe(step, loss, torch.nn.functional.cross_entropy(model(inputs[20:]), targets[20:]))
    assert onset.onset is not None
    assert onset.onset < 60  # random labels: the gap grows at once
    assert counts == [1] * onset.onset + [2] * (70 - onset.onset)
    if learned:
        assert float(opt.rho) != 0.05
