"""Steps in which the base optimizer steps alone: not `active`, or with a radius of 0 by schedule; bit for bit."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import letsam
from learned_radius import learned_radius
from letsam import SAM, LearnedRadius, LinearRadius, LossBudgetRadius, ReplayedRadius, SharpnessAware
from letsam.radius import ScheduledRadius
from oracle.problems import BASES, batch, closure_on, same_bits, snapshot, weights_of

VARIANTS = letsam.variants.VARIANTS


class Late(ScheduledRadius):
    """0 until step 3, then `start`."""

    def weight(self, fraction: float) -> float:
        return float(fraction >= 0.5)


def net() -> nn.Sequential:
    generator = torch.Generator().manual_seed(1)
    model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Dropout(0.2), nn.Linear(6, 3)).double()
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=generator, dtype=torch.float64))
    return model


def trained(
    model: nn.Module, opt: torch.optim.Optimizer, steps: int, log: list[str] | None = None, first: int = 0
) -> list[Any]:
    torch.manual_seed(first)
    losses = []
    for i in range(first, first + steps):
        closure = closure_on(model, batch(i), log)
        if isinstance(opt, SharpnessAware):
            losses.append(opt.step(closure, closure_on(model, batch(50 + i), log, "validation")))
        else:
            losses.append(closure().detach())
            opt.step()
    return [losses, torch.get_rng_state()]


RESTS: dict[str, Callable[..., dict[str, Any]]] = {
    "range": lambda: {"rho": 0.2, "active": range(5, 9)},
    "function": lambda: {"rho": 0.2, "active": lambda step: step >= 5},
    "learned": lambda: {"rho": learned_radius(0.2, interval=1), "active": range(5, 9)},
    "learned, same batch": lambda: {"rho": LearnedRadius.paper(0.2), "active": range(5, 9)},
    "budget": lambda: {"rho": LossBudgetRadius(0.1), "active": range(5, 9)},
    "schedule": lambda: {"rho": Late(0.2, 0.0, 10)},
    "replayed": lambda: {"rho": ReplayedRadius([0.0] * 6 + [0.1] * 3, 9)},
    "replayed per layer": lambda: {"rho": ReplayedRadius([[0.0] * 6] * 6 + [[0.0] * 5 + [0.1]] * 3, 9, per="layer")},
    "budget of 0": lambda: {"rho": LossBudgetRadius(0.1, steps=1), "active": range(1, 9)},
    "0": lambda: {"rho": 0.0},
}


@pytest.mark.parametrize("rest", RESTS)
@pytest.mark.parametrize("name", VARIANTS)
def test_a_resting_step_is_the_base_optimizers_in_one_pass(name: str, rest: str) -> None:
    model, plain = net(), net()
    opt, base = VARIANTS[name](BASES["momentum"](model.parameters()), model=model, **RESTS[rest]()), None
    if rest == "budget of 0":  # the budget is annealed to 0 from step 1 on
        opt.active = None
        opt._parts.steps = 1
    base = BASES["momentum"](plain.parameters())
    log: list[str] = []
    assert same_bits(trained(model, opt, 5, log), trained(plain, base, 5))
    assert log == ["training"] * 5
    assert same_bits(model.state_dict(), plain.state_dict())
    assert same_bits(opt.base_optimizer.state_dict()["state"], base.state_dict()["state"])
    assert not opt.metrics["rho"].any()
    assert opt.metrics["skipped_steps"] == 0


@pytest.mark.parametrize("radius", ["fixed", "linear", "learned", "per layer"])
@pytest.mark.parametrize("name", VARIANTS)
def test_active_steps_are_those_of_a_run_without_the_others(name: str, radius: str) -> None:
    """Radius and perturbation count active steps only: a late start is a start at these weights."""
    radii = {
        "fixed": lambda: 0.2,
        "linear": lambda: LinearRadius(0.1, 0.3, 4),
        "learned": lambda: LearnedRadius(0.2),
        "per layer": lambda: LearnedRadius(0.2, per="layer", interval=1),
    }
    model = net()
    opt = VARIANTS[name](BASES["momentum"](model.parameters()), radii[radius](), model=model, active=range(3, 99))
    trained(model, opt, 3)
    twin = net()
    base = BASES["momentum"](twin.parameters())
    trained(twin, base, 3)
    late = VARIANTS[name](base, radii[radius](), model=twin)
    assert same_bits(trained(model, opt, 6, first=3), trained(twin, late, 6, first=3))
    assert same_bits(model.state_dict(), twin.state_dict())
    assert same_bits(opt.rho, late.rho)
    if radius != "fixed":
        assert bool((opt.rho != 0.2).any())


@pytest.mark.parametrize("name", VARIANTS)
def test_a_perturbation_begins_with_the_first_radius_above_0(name: str) -> None:
    """Its masks, its every-k-th steps and its averages, as if the steps before had not been its own."""
    model, twin = net(), net()
    options = {"interval": 4} if name in ("ssamf", "ssamd") else {}
    schedule = ReplayedRadius([0.0] * 5 + [0.2] * 5, 10)
    opt = VARIANTS[name](BASES["momentum"](model.parameters()), schedule, model=model, **options)
    late = VARIANTS[name](BASES["momentum"](twin.parameters()), 0.2, model=twin, active=range(5, 99), **options)
    assert same_bits(trained(model, opt, 10), trained(twin, late, 10))
    assert same_bits(model.state_dict(), twin.state_dict())
    assert (opt._parts.rested, opt._parts.without_radius) == (0, 5)
    saved = opt.state_dict()
    opt._parts.without_radius = 0
    opt.load_state_dict(saved)
    assert opt._parts.without_radius == 5


def test_a_learned_radius_rests_and_goes_on() -> None:
    model = net()
    opt = SAM(BASES["momentum"](model.parameters()), learned_radius(0.2, interval=1), model=model, active=range(4))
    trained(model, opt, 4)
    rho, radius = opt.rho.clone(), opt.radius.state_dict()
    assert rho != 0.2
    trained(model, opt, 3, first=4)
    assert opt.rho == rho
    assert same_bits(opt.radius.state_dict(), radius)
    assert opt.state_dict()["sharpness_aware"]["radius"].get("Z") is None, "the weights have moved on"
    opt.active = None
    log: list[str] = []
    trained(model, opt, 3, log, first=7)
    assert opt.rho != rho
    assert log == ["validation", "training", "training"] * 3


def test_resting_steps_resume_bit_for_bit() -> None:
    def made(model: nn.Module) -> SharpnessAware:
        rho = learned_radius(0.2, interval=1)
        return SAM(BASES["adamw"](model.parameters()), rho, model=model, active=range(2, 90, 3))

    model = net()
    opt = made(model)
    trained(model, opt, 6)
    twin = copy.deepcopy(model)
    resumed = made(twin)
    resumed.load_state_dict(pickle.loads(pickle.dumps(opt.state_dict())))
    for m, o in ((model, opt), (twin, resumed)):
        trained(m, o, 6, first=6)
    assert same_bits(snapshot(model, opt), snapshot(twin, resumed))
    assert pickle.loads(pickle.dumps(opt)).active == range(2, 90, 3)


def test_a_state_of_an_earlier_version_has_no_resting_steps() -> None:
    model = net()
    opt = SAM(BASES["momentum"](model.parameters()), LinearRadius(0.1, 0.3, 4), model=model)
    trained(model, opt, 2)
    state = opt.state_dict()
    del state["sharpness_aware"]["rested"], state["sharpness_aware"]["without_radius"]
    opt.load_state_dict(state)
    trained(model, opt, 1)
    assert opt.rho.item() == pytest.approx(0.2)


def test_in_a_loop_by_hand() -> None:
    model, plain = net()[:2], net()[:2]
    opt = letsam.LookSAM(BASES["momentum"](model.parameters()), 0.2, model=model, active=range(5, 9))
    base = BASES["momentum"](plain.parameters())
    for i in range(5):
        for half in (opt.ascent_step, opt.descent_step):
            model(batch(i)[0]).square().mean().backward()
            half()
        opt.zero_grad()
        for _ in range(2):
            plain.zero_grad()
            plain(batch(i)[0]).square().mean().backward()
        base.step()
    assert same_bits(weights_of(model), weights_of(plain))


def test_a_step_that_is_not_finite_is_skipped_while_it_rests() -> None:
    model = net()
    opt = SAM(BASES["momentum"](model.parameters()), 0.2, model=model, active=range(5, 9))
    before = weights_of(model)
    data = batch(0)[0] * torch.inf, batch(0)[1]
    opt.step(closure_on(model, data))
    assert same_bits(weights_of(model), before)
    assert opt.metrics["skipped_steps"] == 1


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (5, TypeError, "`active` must be a range of steps, a function of the step or None, got 5"),
        ("late", TypeError, "`active` must be a range of steps, .*, got 'late'"),
        (range(0), ValueError, r"`active` must hold at least one step \(from 0\), got range\(0, 0\)"),
        (range(-5, -1), ValueError, r"`active` must hold at least one step \(from 0\), got range\(-5, -1\)"),
    ],
)
def test_what_active_must_be(value: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        SAM(BASES["momentum"](net().parameters()), 0.2, active=value)
    opt = SAM(BASES["momentum"](net().parameters()), 0.2)
    with pytest.raises(error, match=message):
        opt.active = value
    assert opt.active is None


@pytest.mark.parametrize("returned", [None, 1, torch.tensor(True)])
def test_the_function_returns_true_or_false(returned: Any) -> None:
    model = net()
    opt = SAM(BASES["momentum"](model.parameters()), 0.2, active=lambda step: returned)
    before = snapshot(model, opt)
    with pytest.raises(TypeError, match="`active` must be True or False, got"):
        opt.step(closure_on(model, batch(0)))
    assert same_bits(snapshot(model, opt), before)


def test_a_radius_of_ones_own_may_rest() -> None:
    class Odd(letsam.Radius):
        def wants(self, step: int) -> Any:
            return letsam.radius.Wants(climbs=step % 2 == 1)

        def at(self, ascent: Any) -> Tensor:
            return self.rho * (ascent.step % 2)

    model, log = net(), list[str]()
    opt = SAM(BASES["momentum"](model.parameters()), Odd(0.1), model=model)
    trained(model, opt, 4, log)
    assert log == ["training"] * 6
