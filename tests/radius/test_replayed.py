"""Recorded radii, replayed: interpolated, one or many, the burn-in limited."""

from __future__ import annotations

import copy
import io
import itertools
import pickle
from typing import Any

import pytest
import torch
from torch import nn

from letsam import (
    SAM,
    ReplayedRadius,
    SharpnessAware,
    layerwise,
)
from oracle.problems import batch, closure_on, flat, generator, network, same_bits, weights_of
from radius.cases import radii


def test_replayed_interpolates() -> None:
    assert radii(ReplayedRadius([0.1, 0.4, 0.2], steps=5), 7) == pytest.approx([0.1, 0.25, 0.4, 0.3, 0.2, 0.2, 0.2])
    assert radii(ReplayedRadius([0.1, 0.2, 0.3, 0.4], steps=4), 4) == pytest.approx([0.1, 0.2, 0.3, 0.4])
    assert radii(ReplayedRadius([0.1, 0.2, 0.3, 0.4], steps=2), 3) == pytest.approx([0.1, 0.4, 0.4])
    assert radii(ReplayedRadius([0.7], steps=3), 4) == [0.7] * 4
    assert radii(ReplayedRadius([0.7, 0.5], steps=1), 2) == pytest.approx([0.7, 0.5])


def test_the_burn_in_is_replayed_at_most_at_a_share_of_what_comes_after_it() -> None:
    recorded = [5.0, 0.05, 0.9, 0.9, 0.4, 0.8]
    replayed = [0.1 * 0.4, 0.05, 0.55 * 0.4, 0.775 * 0.4, 0.4, 0.8]
    assert radii(ReplayedRadius(recorded, steps=6, burn_in=4), 6) == pytest.approx(replayed)
    assert radii(ReplayedRadius(recorded, steps=11, burn_in=4), 11)[::2] == pytest.approx(replayed)
    assert radii(ReplayedRadius([5.0, 0.5], steps=2, burn_in=10), 2) == pytest.approx([0.1 * 0.5, 0.5])
    layers = ReplayedRadius([[5.0, 0.01], [0.4, 0.2]], steps=2, burn_in=1, per="layer")
    assert layers.value(0) == pytest.approx((0.1 * 0.4, 0.01))
    assert layers.value(1) == (0.4, 0.2)
    opt = SAM(torch.optim.SGD(network().parameters(), lr=0.1), rho=ReplayedRadius(recorded, steps=6, burn_in=4))
    other = SAM(torch.optim.SGD(network().parameters(), lr=0.1), rho=ReplayedRadius([0.3], steps=6))
    other.load_state_dict(opt.state_dict())
    assert [other.radius.value(step) for step in range(6)] == pytest.approx(replayed)


def test_replayed_stays_within_the_recorded_values() -> None:
    g = generator(2)
    for length, steps in itertools.product((1, 2, 5, 50), (1, 3, 49, 130)):
        values = (torch.rand(length, generator=g, dtype=torch.float64) + 1e-4).tolist()
        radius = ReplayedRadius(values, steps)
        for step in range(steps + 2):
            assert min(values) <= radius.value(step) <= max(values)
        constant = ReplayedRadius([values[0]] * length, steps)
        assert all(constant.value(step) == values[0] for step in range(steps))


# Many radii replayed

PER = [("layer", 4), ("group", 2)]


def two_groups(model: nn.Module) -> list[dict[str, Any]]:
    first, *others = model.parameters()
    return [{"params": [first]}, {"params": others}]


def rows(count: int, steps: int = 3) -> list[list[float]]:
    return [[0.1 * (i + 1) * (step + 1) for i in range(count)] for step in range(steps)]


def replaying(model: nn.Module, per: str, schedule: list[list[float]], base: Any = torch.optim.SGD) -> SharpnessAware:
    return SAM(base(two_groups(model), lr=0.1), rho=ReplayedRadius(schedule, steps=5, per=per))


@pytest.mark.parametrize(("per", "count"), PER)
def test_each_weight_climbs_by_the_radius_replayed_for_it(per: str, count: int) -> None:
    """Against the sum by hand at every step; radii in the order of the groups, interpolated each by itself."""
    model = network()
    opt = replaying(model, per, rows(count))
    for t in range(7):
        share = min(t / 4, 1.0) * 2 + 1  # of rows() the step that t is at
        expected = [0.1 * (i + 1) * share for i in range(count)]
        own = [expected[i if per == "layer" else min(i, 1)] for i in range(4)]
        closure_on(model, batch(t))()
        gradients = [p.grad.clone() for p in model.parameters() if p.grad is not None]
        length = torch.stack([g.norm() for g in gradients]).norm()
        weights = weights_of(model)
        opt.ascent_step()
        for p, w, g, rho in zip(model.parameters(), weights, gradients, own, strict=True):
            torch.testing.assert_close(p.detach(), w + rho * g / length, rtol=1e-12, atol=1e-14)
        closure_on(model, batch(t))()
        opt.descent_step()
        assert opt.rho.tolist() == pytest.approx(expected)
        assert same_bits(opt.metrics["rho"], opt.rho)
        assert opt.radius.value(t) == pytest.approx(expected)  # type: ignore[attr-defined]


@pytest.mark.parametrize("per", ["layer", "group"])
def test_one_radius_for_all_replayed_many_times(per: str) -> None:
    ends = []
    for kind in ("all", per):
        model = network()
        count = dict(PER)[per]
        values = [0.3, 0.1, 0.2]
        schedule: Any = values if kind == "all" else [[value] * count for value in values]
        opt = SAM(torch.optim.SGD(two_groups(model), lr=0.1), rho=ReplayedRadius(schedule, steps=5, per=kind))
        for t in range(5):
            opt.step(closure_on(model, batch(t)))
        ends.append(flat(model.parameters()))
    torch.testing.assert_close(ends[0], ends[1], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("wrap", [lambda radius: radius, layerwise], ids=["weights", "shares"])
@pytest.mark.parametrize(("per", "count"), PER)
def test_many_replayed_radii_are_copied_and_saved(per: str, count: int, wrap: Any) -> None:
    """A fresh object with another schedule takes that of the state."""

    def make(model: nn.Module, schedule: list[list[float]]) -> SharpnessAware:
        return SAM(torch.optim.AdamW(two_groups(model)), rho=wrap(ReplayedRadius(schedule, steps=9, per=per)))

    def go(model: nn.Module, opt: SharpnessAware, first: int, last: int) -> None:
        for t in range(first, last):
            opt.step(closure_on(model, batch(t)))

    model, fresh = network(), network(seed=5)
    opt, fresh_opt = make(model, rows(count)), make(fresh, [[0.7] * count])
    go(model, opt, 0, 4)
    fresh.load_state_dict(model.state_dict())
    file = io.BytesIO()
    torch.save(opt.state_dict(), file)
    file.seek(0)
    fresh_opt.load_state_dict(torch.load(file, weights_only=True))
    assert same_bits(fresh_opt.rho, opt.rho)
    others = [copy.deepcopy((model, opt)), pickle.loads(pickle.dumps((model, opt))), (fresh, fresh_opt)]
    go(model, opt, 4, 10)
    for other, other_opt in others:
        go(other, other_opt, 4, 10)
        assert same_bits(weights_of(other), weights_of(model))
        assert same_bits(other_opt.state_dict(), opt.state_dict())

    with pytest.raises(
        ValueError, match=rf"must hold a .*ReplayedRadius as its radius, got .*ReplayedRadius per {per}"
    ):
        SAM(torch.optim.AdamW(two_groups(network())), rho=wrap(ReplayedRadius([0.1], 1))).load_state_dict(
            opt.state_dict()
        )


def test_replayed_radii_in_bfloat16_are_float32() -> None:
    model = network(dtype=torch.bfloat16)
    opt = replaying(model, "layer", rows(4))
    for t in range(3):
        opt.step(closure_on(model, batch(t, dtype=torch.bfloat16)))
    assert opt.rho.dtype == torch.float32
    assert opt.rho.tolist() == pytest.approx([0.2, 0.4, 0.6, 0.8], rel=1e-6)


@pytest.mark.parametrize(
    ("schedule", "per", "error", "message"),
    [
        ([], "layer", ValueError, "^`schedule` must hold at least one radius, got none$"),
        ([[]], "layer", ValueError, "^`schedule` must hold at least one radius for each step, got 0 for step 0$"),
        ([[0.1, 0.2], [0.1]], "group", ValueError, "^`schedule` must hold 2 radii for each step, got 1 for step 1$"),
        ([[0.1, -0.1]], "group", ValueError, "^`schedule` must be >= 0, got -0.1$"),
        ([[0.1, "a"]], "group", TypeError, "^`schedule` must be a number, got 'a'$"),
        (
            [0.1, 0.2],
            "layer",
            TypeError,
            "^`schedule` must hold a list of radii for each step, .* each layer, got 0.1$",
        ),
        (
            [[0.1, 0.2]],
            "all",
            TypeError,
            r"^`schedule` must hold one number .* unless `per` is given, got \[0.1, 0.2\]$",
        ),
        (0.1, "all", TypeError, "^`schedule` must hold the radii of all steps, got 0.1$"),
        ([[0.1]], "weight", ValueError, "^`per` must be one of all, group, layer, got 'weight'$"),
    ],
)
def test_schedules_that_are_refused(schedule: Any, per: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        ReplayedRadius(schedule, steps=2, per=per)


def test_a_schedule_of_other_layers_is_refused() -> None:
    """When the optimizer is made, loaded, and when a group would join that the schedule knows nothing of."""
    model = network()
    with pytest.raises(ValueError, match=r"^`schedule` must have one radius for each layer, 4 in all, got 3(\n|$)"):
        replaying(model, "layer", rows(3))
    opt = replaying(model, "layer", rows(4))
    state = opt.state_dict()
    state["sharpness_aware"]["radius"]["schedule"] = ((0.1, 0.2, 0.3),)
    with pytest.raises(ValueError, match="must have 4 radii at each step, got 3"):
        opt.load_state_dict(state)

    late = nn.Parameter(torch.zeros(2, dtype=torch.float64))
    with pytest.raises(ValueError, match=r"^`schedule` must have one radius for each layer, 5 in all, got 4$"):
        opt.add_param_group({"params": [late]})
    assert len(opt.param_groups) == 2
    before = flat(model.parameters())
    opt.step(closure_on(model, batch(0)))
    assert not torch.equal(flat(model.parameters()), before)


def test_a_frozen_layer_keeps_its_place_in_the_schedule() -> None:
    model = network()
    next(model.parameters()).requires_grad_(False)
    opt = replaying(model, "layer", rows(4))
    before = weights_of(model)
    closure_on(model, batch(0))()
    gradients = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    length = torch.stack([g.norm() for g in gradients]).norm()
    opt.ascent_step()
    assert same_bits(weights_of(model)[0], before[0])
    for p, w, g, rho in zip(list(model.parameters())[1:], before[1:], gradients, (0.2, 0.3, 0.4), strict=True):
        torch.testing.assert_close(p.detach(), w + rho * g / length, rtol=1e-12, atol=1e-14)
