"""A fixed radius of its own for a param group: `rho` in the group, as a number."""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import letsam
from letsam import ASAM, SAM, LearnedRadius, LinearRadius, SharpnessAware
from oracle.problems import batch, closure_on, flat, loss_on, network, same_bits, snapshot, weights_of

RHO, OWN = 0.05, 0.3


def grouped(model: nn.Sequential, **own: Any) -> list[dict[str, Any]]:
    """The first layer and the rest as groups; the options are those of the rest."""
    return [{"params": model[0].parameters()}, {"params": model[1:].parameters(), **own}]


def sgd(model: nn.Sequential, **own: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(grouped(model, **own), lr=0.1, momentum=0.9)


def by_hand(radii: list[float], steps: int, scaled: bool = False, relative: bool = False) -> nn.Sequential:
    """SAM (scaled: ASAM) with a radius for each of the two layers, written out for plain torch."""
    model = network()
    base, params = sgd(model), list(model.parameters())
    each = [radii[0], radii[0], radii[1], radii[1]]
    for i in range(steps):
        gradients = torch.autograd.grad(loss_on(model, batch(i)), params)
        factors = [p.detach().abs() if scaled else torch.ones_like(p) for p in params]
        length = flat([g * t for g, t in zip(gradients, factors, strict=True)]).norm()
        size = flat(params).norm() if relative else 1.0
        before = weights_of(model)
        with torch.no_grad():
            for p, g, t, rho in zip(params, gradients, factors, each, strict=True):
                p += rho * size * t * t * g / length
        gradients = torch.autograd.grad(loss_on(model, batch(i)), params)
        with torch.no_grad():
            for p, old, g in zip(params, before, gradients, strict=True):
                p.copy_(old)
                p.grad = g
        base.step()
    return model


def trained(opt: SharpnessAware, model: nn.Module, steps: int, first: int = 0) -> None:
    for i in range(first, first + steps):
        opt.step(closure_on(model, batch(i)))


CASES: dict[str, tuple[Callable[[torch.optim.Optimizer], SharpnessAware], dict[str, bool]]] = {
    "SAM": (lambda base: SAM(base, RHO), {}),
    "ASAM": (lambda base: ASAM(base, RHO), {"scaled": True}),
    "relative": (lambda base: SAM(base, letsam.relative(RHO)), {"relative": True}),
}


@pytest.mark.parametrize("case", CASES)
def test_a_group_climbs_by_its_own_radius(case: str) -> None:
    make, options = CASES[case]
    model = network()
    opt = make(sgd(model, rho=OWN))
    trained(opt, model, 4)
    torch.testing.assert_close(flat(model.parameters()), flat(by_hand([RHO, OWN], 4, **options).parameters()))
    assert not torch.allclose(flat(model.parameters()), flat(by_hand([RHO, RHO], 4, **options).parameters()), 1e-5)
    assert opt.rho.tolist() == opt.metrics["rho"].tolist() == [RHO, OWN]


@pytest.mark.parametrize("name", letsam.variants.VARIANTS)
def test_equal_numbers_are_one_radius_for_every_variant(name: str) -> None:
    kind = letsam.variants.VARIANTS[name]
    ends = []
    for own in ({}, {"rho": OWN}):
        model = nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6), nn.Linear(6, 3)).double()
        model.load_state_dict({n: torch.linspace(-1, 1, p.numel()).view_as(p) for n, p in model.named_parameters()})
        opt = kind(sgd(model, **own), OWN, model=model)
        trained(opt, model, 4)
        ends.append(flat(model.parameters()))
    torch.testing.assert_close(*ends, rtol=1e-12, atol=1e-14)


def test_a_loop_by_hand_and_numbers_that_change() -> None:
    ends = []
    for manual in (False, True):
        model = network()
        opt = SAM(sgd(model, rho=OWN), RHO)
        for i in range(4):
            opt.param_groups[1]["rho"] = OWN / (1 + i)
            closure = closure_on(model, batch(i))
            if manual:
                closure()
                opt.ascent_step()
                closure()
                opt.descent_step()
            else:
                opt.step(closure)
            assert opt.rho.tolist() == [RHO, OWN / (1 + i)]
        ends.append(weights_of(model))
    assert same_bits(*ends)
    del opt.param_groups[1]["rho"]
    opt.step(closure_on(model, batch(9)))
    assert opt.rho == RHO


def test_files_copies_and_added_groups() -> None:
    model, twin = network(), network()
    opt = SAM(sgd(model, rho=OWN), RHO)
    trained(opt, model, 3)
    state = pickle.loads(pickle.dumps(opt.state_dict()))
    resumed = SAM(sgd(twin), 0.9)  # the file has the number of the group, and that of the others
    twin.load_state_dict(model.state_dict())
    resumed.load_state_dict(state)
    assert resumed.rho.tolist() == [RHO, OWN]
    for o, m in ((opt, model), (resumed, twin)):
        trained(o, m, 3, first=3)
    assert same_bits(snapshot(model, opt), snapshot(twin, resumed))
    assert copy.deepcopy(opt).rho.tolist() == [RHO, OWN]

    extra = nn.Parameter(torch.ones(2, dtype=torch.float64))
    opt.add_param_group({"params": [extra], "rho": 0.7})
    assert opt.rho.tolist() == [RHO, OWN, 0.7]
    plain = SAM(sgd(twin), RHO)
    plain.add_param_group({"params": [extra]})
    assert plain.rho.shape == ()


def test_a_group_without_radius_is_not_perturbed_and_all_without_take_one_pass() -> None:
    model, log = network(), list[str]()
    opt = SAM(sgd(model, rho=0), RHO)
    trained(opt, model, 3)
    torch.testing.assert_close(flat(model.parameters()), flat(by_hand([RHO, 0.0], 3).parameters()))
    opt = SAM(sgd(model, rho=0), 0)
    opt.step(closure_on(model, batch(0), log))
    assert log == ["training"]


def test_a_check_does_not_take_a_radius_of_0_for_one_that_vanishes() -> None:
    model = network()
    opt = SAM(torch.optim.SGD([{"params": model[0].parameters(), "rho": 0.0}, {"params": model[2].parameters()}]), RHO)
    assert letsam.check(opt, closure_on(model, batch(0))) == []
    opt.param_groups[1]["rho"] = 1e-30
    assert [finding.code for finding in letsam.check(opt, closure_on(model, batch(0)))] == ["radius-vanishes"]


def test_the_rho_of_adadelta_is_its_own() -> None:
    ends = []
    for rho in (0.9, 0.5):
        model = network()
        opt = SAM(torch.optim.Adadelta(grouped(model, rho=rho), lr=1.0), RHO)
        trained(opt, model, 2)
        assert opt.rho == RHO
        ends.append(flat(model.parameters()))
    assert not torch.equal(*ends)
    learned = SAM(torch.optim.Adadelta(network().parameters(), lr=1.0), LearnedRadius(0.1, per="group"))
    assert learned.rho.tolist() == pytest.approx([0.1])


BAD: list[tuple[Any, type[Exception]]] = [
    (-0.1, ValueError),
    (math.nan, ValueError),
    (math.inf, ValueError),
    ("0.1", TypeError),
    (True, TypeError),
    (None, TypeError),
    (torch.tensor(0.1), TypeError),
    (LinearRadius(0.1, 0.2, 10), TypeError),
    (LearnedRadius(0.1), TypeError),
]


@pytest.mark.parametrize(("value", "error"), BAD, ids=lambda value: str(value)[:12])
def test_anything_but_a_number_is_refused(value: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"`rho` of a param group must be (a number|> 0), got"):
        SAM(sgd(network(), rho=value), RHO)
    model = network()
    opt = SAM(sgd(model), RHO)
    with pytest.raises(error, match="`rho` of a param group"):
        opt.add_param_group({"params": [nn.Parameter(torch.ones(2))], "rho": value})
    assert len(opt.param_groups) == 2
    before = snapshot(model, opt)
    saved = copy.deepcopy(opt.state_dict())
    saved["param_groups"][0]["rho"] = value
    with pytest.raises(error, match="`rho` of a param group"):
        opt.load_state_dict(saved)
    assert same_bits(snapshot(model, opt), before)
    opt.param_groups[0]["rho"] = value
    with pytest.raises(error, match="`rho` of a param group"):
        opt.step(closure_on(model, batch(0)))
    assert same_bits(weights_of(model), before[0])


@pytest.mark.parametrize(
    "radius", [LinearRadius(0.1, 0.2, 10), LearnedRadius(0.1), letsam.layerwise(LearnedRadius(0.1, per="group"))]
)
def test_radii_that_change_name_the_way(radius: Any) -> None:
    message = r'`rho` of a param group needs a fixed radius.*got 0\.3 in a group.*LearnedRadius\(\.\.\., per="group"\)'
    with pytest.raises(ValueError, match=message):
        SAM(sgd(network(), rho=OWN), radius)
    model = network()
    opt = SAM(sgd(model), radius)
    with pytest.raises(ValueError, match=message):
        opt.add_param_group({"params": [nn.Parameter(torch.ones(2))], "rho": OWN})
    opt.param_groups[1]["rho"] = OWN
    before = weights_of(model)
    with pytest.raises(ValueError, match=message):
        opt.step(closure_on(model, batch(0)), closure_on(model, batch(1)))
    assert same_bits(weights_of(model), before)


def test_a_radius_of_ones_own_may_read_the_numbers() -> None:
    class Read(letsam.Radius):
        takes_group_rho = True

        def attach(self, param_groups: list[dict[str, Any]], ascends: Any) -> None:
            self.seen = [group.get("rho") for group in param_groups]

        def at(self, ascent: Any) -> Tensor:
            return self.rho

    opt = SAM(sgd(network(), rho="large"), Read(0.1))
    assert opt.radius.seen == [None, "large"]  # pyright: ignore
