"""States of other shapes, and with numbers that cannot be: refused whole, before anything changes."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import letsam
from learned_radius import learned_radius
from letsam import SAM, LearnedRadius, SharpnessAware
from oracle.problems import batch, closure_on, network, same_bits, snapshot, weights_of

OWN = "sharpness_aware"


def run(opt: SharpnessAware, model: torch.nn.Module, first: int, last: int) -> None:
    for i in range(first, last):
        opt.step(closure_on(model, batch(i)), closure_on(model, batch(50 + i)))


RADII: dict[str, Callable[[], Any]] = {
    "fixed": lambda: 0.1,
    "linear": lambda: letsam.LinearRadius(0.2, 0.1, 9),
    "proportional": lambda: letsam.ProportionalRadius(0.2, 0.1),
    "budget": lambda: letsam.LossBudgetRadius(0.01),
    "replayed": lambda: letsam.ReplayedRadius([0.1, 0.3, 0.2], 12),
    "replayed per layer": lambda: letsam.ReplayedRadius([[0.1] * 4, [0.2] * 4], 12, per="layer"),
    "learned": lambda: learned_radius(0.1, interval=1),
    "per layer": lambda: learned_radius(0.1, interval=1, per="layer"),
    "paper": lambda: LearnedRadius.paper(0.1),
}
NUMBERS: dict[str, Any] = {
    "nan": lambda x: torch.full_like(x, math.nan),
    "inf": lambda x: torch.full_like(x, math.inf),
    "negative": lambda x: torch.full_like(x, -1.0),
    "two": lambda x: torch.ones(2),
    "matrix": lambda x: torch.ones(2, 2),
    "text": lambda x: "many",
    "none": lambda x: None,
    "complex": lambda x: torch.full_like(x, 1.0).to(torch.complex64),
}
PLACES = [
    *[(radius, ("radius", "rho"), how) for radius in RADII for how in NUMBERS],
    *[(radius, ("radius", "rho"), "zero") for radius in ("learned", "per layer", "paper")],
    *[("learned", ("radius", name), how) for name in ("nu", "exp_avg") for how in NUMBERS if how != "negative"],
    *[("learned", ("radius", name), how) for name in ("exp_avg_sq", "updates", "reach") for how in NUMBERS],
    *[("per layer", ("radius", "nu"), how) for how in ("two", "nan")],
    *[
        ("fixed", (name,), how)
        for name in ("skipped_steps", "peak_lr")
        for how in NUMBERS
        if (name, how) != ("peak_lr", "two")
    ],
    *[("learned", ("radius", "usable"), how) for how in ("two", "text", "none", "nan")],
]


@pytest.mark.parametrize(
    ("radius", "place", "how"), [p for p in PLACES if not (p[1] == ("peak_lr",) and p[2] == "matrix")]
)
def test_numbers_that_cannot_be(radius: str, place: tuple[str, ...], how: str) -> None:
    model = network()
    opt = SAM(torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9), rho=RADII[radius]())
    run(opt, model, 0, 4)
    state = copy.deepcopy(opt.state_dict())
    part = state[OWN]
    for key in place[:-1]:
        part = part[key]
    old = torch.as_tensor(part[place[-1]])
    part[place[-1]] = torch.zeros_like(old) if how == "zero" else NUMBERS[how](old.double())
    before = snapshot(model, opt)
    with pytest.raises(ValueError, match=rf"damaged.*`{place[-1]}` must"):
        opt.load_state_dict(state)
    assert same_bits(snapshot(model, opt), before)
    run(opt, model, 4, 6)


MEMORIES: dict[str, Callable[..., SharpnessAware]] = {
    name: getattr(letsam, name) for name in ("LookSAM", "FSAM", "VaSSO", "SSAMF", "SSAMD")
}


@pytest.mark.parametrize("damage", ["other shapes", "nan", "no such weight", "begun", "less"])
@pytest.mark.parametrize("name", MEMORIES)
def test_the_memory_of_other_weights(name: str, damage: str) -> None:
    model, wide = network(), torch.nn.Sequential(torch.nn.Linear(4, 9), torch.nn.Tanh(), torch.nn.Linear(9, 3)).double()
    opt, other = (MEMORIES[name](torch.optim.SGD(m.parameters(), lr=0.1), rho=0.1) for m in (model, wide))
    run(opt, model, 0, 3)
    run(other, wide, 0, 3)
    state = copy.deepcopy((other if damage == "other shapes" else opt).state_dict())
    memory = state[OWN]["perturbation"]["memory"]
    if damage == "nan":
        memory["values"][0].fill_(math.nan)
    elif damage == "no such weight":
        memory["values"][7], memory["begun"][7] = torch.ones(2), torch.ones(())
    elif damage == "begun":
        memory["begun"][0] = torch.ones(3)
    elif damage == "less":
        del memory["begun"][0]
    before = snapshot(model, opt)
    with pytest.raises(ValueError, match="damaged"):
        opt.load_state_dict(state)
    assert same_bits(snapshot(model, opt), before)
    run(opt, model, 3, 5)


@pytest.mark.parametrize("moments", [(math.nan, 1.0), (1.0, -1.0), (torch.ones(2), 1.0), (1.0,), "ab"])
def test_the_averages_of_aesam(moments: Any) -> None:
    model = network()
    opt = letsam.AESAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=0.1)
    run(opt, model, 0, 3)
    state = copy.deepcopy(opt.state_dict())
    state[OWN]["perturbation"]["moments"] = moments
    before = snapshot(model, opt)
    with pytest.raises(ValueError, match="damaged"):
        opt.load_state_dict(state)
    assert same_bits(snapshot(model, opt), before)


@pytest.mark.parametrize("base", ["momentum", "adam", "joint"])
def test_moments_of_weights_of_other_shapes(base: str) -> None:
    """torch compares the number of weights alone, and fails in the next step."""

    def made(model: torch.nn.Module) -> SharpnessAware:
        first, *rest = model.parameters()
        if base == "joint":
            return SAM([torch.optim.SGD([first], lr=0.1, momentum=0.9), torch.optim.Adam(rest)], rho=0.1)
        kind = {"momentum": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9), "adam": torch.optim.Adam}[base]
        return SAM(kind(model.parameters()), rho=0.1)

    model, wide = network(), torch.nn.Sequential(torch.nn.Linear(4, 9), torch.nn.Tanh(), torch.nn.Linear(9, 3)).double()
    opt, other = made(model), made(wide)
    run(opt, model, 0, 2)
    run(other, wide, 0, 2)
    before = snapshot(model, opt)
    with pytest.raises(
        ValueError, match=r"must be of weights of the same shapes, got .* of shape \(9, 4\) for .* \(6, 4\)"
    ):
        opt.load_state_dict(copy.deepcopy(other.state_dict()))
    assert same_bits(snapshot(model, opt), before)
    opt.load_state_dict(copy.deepcopy(opt.state_dict()))  # Adam's counter has no shape
    run(opt, model, 2, 3)


@pytest.mark.parametrize("per", ["group", "layer"])
def test_a_learning_rate_that_is_a_tensor_and_a_group_that_is_added(per: str) -> None:
    """The peak of the learning rate is one number, whatever the number of radii."""
    model, more = network(), torch.nn.Parameter(torch.ones(3, dtype=torch.float64))
    opt = SAM(torch.optim.SGD(model.parameters(), lr=torch.tensor(0.1)), rho=learned_radius(0.1, interval=1, per=per))

    def closure_of(data: Any) -> Callable[[], Tensor]:
        def closure() -> Tensor:
            opt.zero_grad()
            loss = torch.nn.functional.cross_entropy(model(data[0]) * more, data[1])
            loss.backward()
            return loss

        return closure

    for i in range(6):
        if i == 3:
            opt.add_param_group({"params": [more]})
        opt.step(closure_of(batch(i)), closure_of(batch(50 + i)))
        assert torch.as_tensor(opt.state_dict()[OWN]["peak_lr"]).shape == ()
    assert opt.rho.shape == ((2,) if per == "group" else (5,))
    state = copy.deepcopy(opt.state_dict())
    state[OWN]["peak_lr"] = torch.full((opt.rho.numel(),), 0.1)  # as earlier versions saved it
    opt.load_state_dict(state)
    opt.step(closure_of(batch(7)), closure_of(batch(57)))
    assert torch.as_tensor(opt.state_dict()[OWN]["peak_lr"]).tolist() == pytest.approx(0.1)


@pytest.mark.parametrize("odd", [math.inf, math.nan])
@pytest.mark.parametrize("tensor", [False, True])
def test_one_step_at_an_infinite_learning_rate_does_not_freeze_the_radius(odd: float, tensor: bool) -> None:
    model = network()
    lr: Any = torch.tensor(0.1) if tensor else 0.1
    opt = SAM(torch.optim.SGD(model.parameters(), lr=lr), rho=learned_radius(0.1, interval=1))
    twin_model = network()
    twin = SAM(torch.optim.SGD(twin_model.parameters(), lr=lr), rho=learned_radius(0.1, interval=1))
    run(opt, model, 0, 3)
    run(twin, twin_model, 0, 3)
    rho = opt.rho.clone()
    opt.param_groups[0]["lr"] = torch.tensor(odd) if tensor else odd
    run(opt, model, 3, 4)
    assert same_bits(opt.rho, rho)  # the rate of the radius is unknown in this step
    opt.param_groups[0]["lr"] = lr
    model.load_state_dict(twin_model.state_dict())  # that step has ruined the weights
    run(opt, model, 4, 7)
    run(twin, twin_model, 4, 7)
    assert float(opt.state_dict()[OWN]["peak_lr"]) == pytest.approx(0.1)
    assert not same_bits(opt.rho, rho)
    assert all(w.isfinite().all() for w in weights_of(model))
