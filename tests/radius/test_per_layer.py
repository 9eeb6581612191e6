"""LearnedRadius per group and per layer: one block, copies, files, errors."""

from __future__ import annotations

import copy
import math
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import letsam
from learned_radius import learned_radius
from letsam import ASAM, SAM, LearnedRadius, SharpnessAware, layerwise
from oracle import maths
from oracle.problems import BASES, batch, closure_on, flat, network, same_bits, weights_of

RHO = 0.1

VARIANTS: dict[str, type[SharpnessAware]] = {"SAM": SAM, "ASAM": ASAM}


def groups_of(model: nn.Module) -> list[dict[str, Any]]:
    first, *others = model.parameters()
    return [{"params": [first]}, {"params": others}]


# --- one block is the scalar form ---------------------------------------------------------------------------------

FORMS: dict[str, dict[str, Any]] = {
    "default": {},
    "finite difference": {"hypergradient": "finite_difference", "training_batch": "same"},
    "diagonal": {"hypergradient": "diagonal", "objective": "squared_gap"},
    "not normalized": {"normalize": False, "length_invariant": False},
    "no prior": {"prior": None, "burn_in": 0, "interval": 2},
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("base", ["momentum", "adamw"])
@pytest.mark.parametrize("per", ["group", "layer"])
def test_one_block_is_the_scalar_form_bit_for_bit(per: str, base: str, variant: str, form: str) -> None:
    ends = []
    for blocks in ("all", per):
        model = network()
        if per == "layer":  # one weight is trained
            for p in list(model.parameters())[1:]:
                p.requires_grad_(False)
        params = [p for p in model.parameters() if p.requires_grad]
        radius = learned_radius(RHO, per=blocks, **{"burn_in": 5} | FORMS[form])
        opt = VARIANTS[variant](BASES[base](params), rho=radius, max_grad_norm=0.5)
        for i in range(12):
            opt.step(closure_on(model, batch(i)), closure_on(model, batch(50 + i)))
        assert opt.rho.shape == (() if blocks == "all" else (1,))
        assert opt.metrics["rho"].shape == opt.metrics["hypergradient"].shape == opt.rho.shape
        ends.append([*weights_of(model), *(value.reshape(()) for value in (opt.rho, *opt.metrics.values()))])
    assert same_bits(*ends)
    assert ends[0][-1] != RHO


def test_many_radii_are_not_one() -> None:
    """Nor are they a fixed one or none; and each kind climbs by its own."""
    ends = []
    for rho in (0, RHO, *(LearnedRadius(RHO, per=per, interval=1) for per in ("all", "group", "layer"))):
        model = network()
        opt = SAM(torch.optim.SGD(groups_of(model), lr=0.1), rho=rho)
        for i in range(8):
            theta = flat(model.parameters())
            opt.step(closure_on(model, batch(i)), closure_on(model, batch(50 + i)))
        assert not torch.equal(theta, flat(model.parameters()))
        ends.append(flat(model.parameters()))
        if isinstance(rho, LearnedRadius):
            assert opt.rho.shape == {"all": (), "group": (2,), "layer": (4,)}[rho.per]
            assert len({round(value, 9) for value in opt.rho.reshape(-1).tolist()}) == opt.rho.numel()
    for i, left in enumerate(ends):
        assert all((left - right).norm() > 1e-6 for right in ends[i + 1 :])


def test_each_weight_climbs_by_its_radius() -> None:
    model = network()
    opt = SAM(torch.optim.SGD(groups_of(model), lr=0.1), rho=learned_radius(RHO, per="group", interval=1, lr=0.3))
    for i in range(5):
        seen: list[list[Tensor]] = []

        def closure(i: int = i, seen: list[list[Tensor]] = seen) -> Tensor:
            seen.append([p.detach().clone() for p in model.parameters()])
            return closure_on(model, batch(i))()

        opt.step(closure, closure_on(model, batch(50 + i)))
    g = maths.gradient(model, flat(seen[0]), batch(4))
    eps = (g / g.norm()).split([p.numel() for p in model.parameters()])
    radii = opt.metrics["rho"].tolist()
    assert abs(radii[0] / radii[1] - 1) > 0.05
    for before, after, e, rho in zip(*seen, eps, [radii[0], *(radii[1],) * 3], strict=True):
        torch.testing.assert_close((after - before).reshape(-1), rho * e, rtol=1e-10, atol=1e-15)


def test_without_evidence_all_radii_go_to_the_prior() -> None:
    """Layers that are never used and those of one entry have no evidence at all, whatever the loss."""
    torch.manual_seed(0)
    model = nn.ModuleDict({"used": nn.Linear(4, 1), "unused": nn.Linear(2, 2)}).double()
    rho = learned_radius(0.5, per="layer", follow_lr=False, prior=0.1, prior_rise=None)
    opt = SAM(torch.optim.SGD(model.parameters(), lr=1e-3), rho=rho)

    def closure(seed: int) -> Any:
        def closure() -> Tensor:
            opt.zero_grad()
            loss = (model["used"](batch(seed)[0]) - 3).square().mean()
            loss.backward()
            return loss

        return closure

    for i in range(600):
        opt.step(closure(i), closure(1000 + i))
    weight, *others = opt.rho.tolist()
    assert others == pytest.approx([0.1] * 3, rel=0.02)
    assert abs(weight - 0.1) > 0.01


def test_bounds_hold_for_each() -> None:
    model = network()
    opt = SAM(
        torch.optim.SGD(model.parameters(), lr=0.1),
        rho=learned_radius(RHO, per="layer", bounds=(0.09, 0.11), lr=0.5, interval=1, prior=None),
    )
    for i in range(6):
        opt.step(closure_on(model, batch(i)), closure_on(model, batch(50 + i)))
        assert opt.rho.min() >= 0.09
        assert opt.rho.max() <= 0.11
    assert all(min(abs(rho - 0.09), abs(rho - 0.11)) < 1e-12 for rho in opt.rho.tolist())


# --- a life: copies, files, new groups, frozen layers, steps that are not finite ----------------------------------


@pytest.mark.parametrize("training_batch", ["next", "same"])
@pytest.mark.parametrize("wrap", [lambda radius: radius, layerwise], ids=["plain", "layerwise"])
@pytest.mark.parametrize("per", ["group", "layer"])
def test_copies_and_files_go_on_bit_for_bit(per: str, wrap: Any, training_batch: str) -> None:
    def make(model: nn.Module) -> SharpnessAware:
        rho = wrap(learned_radius(RHO, per=per, interval=2, training_batch=training_batch))
        return SAM(BASES["adamw"](groups_of(model)), rho=rho)

    def go(model: nn.Module, opt: SharpnessAware, first: int, last: int) -> None:
        for t in range(first, last):
            opt.step(closure_on(model, batch(t)), closure_on(model, batch(50 + t)))

    model, fresh = network(), network(seed=5)
    opt, fresh_opt = make(model), make(fresh)
    go(model, opt, 0, 5)
    fresh.load_state_dict(model.state_dict())
    fresh_opt.load_state_dict(copy.deepcopy(opt.state_dict()))
    others = [copy.deepcopy((model, opt)), pickle.loads(pickle.dumps((model, opt))), (fresh, fresh_opt)]
    go(model, opt, 5, 11)
    for other, other_opt in others:
        go(other, other_opt, 5, 11)
        assert same_bits(weights_of(other), weights_of(model))
        assert same_bits(other_opt.state_dict(), opt.state_dict())
        assert same_bits(other_opt.metrics, opt.metrics)
    assert len(set(opt.rho.tolist())) == len(opt.rho)


def test_a_new_group_starts_at_the_start() -> None:
    for per, before, after in (("group", 2, 3), ("layer", 4, 6)):
        model = network()
        opt = SAM(torch.optim.SGD(groups_of(model), lr=0.1), rho=LearnedRadius(RHO, per=per, interval=1))
        for i in range(4):
            opt.step(closure_on(model, batch(i)), closure_on(model, batch(50 + i)))
        old = opt.rho.clone()
        head = nn.Linear(3, 3).double()
        opt.add_param_group({"params": head.parameters()})
        assert torch.equal(opt.rho[:before], old)
        assert opt.rho.tolist()[before:] == pytest.approx([RHO] * (after - before), rel=1e-12)
        fresh = SAM(torch.optim.SGD(copy.deepcopy(opt.param_groups), lr=0.1), rho=LearnedRadius(RHO, per=per))
        fresh.load_state_dict(opt.state_dict())
        wider = nn.Sequential(model, head)
        for i in range(4, 8):
            opt.step(closure_on(wider, batch(i)), closure_on(wider, batch(50 + i)))
        assert opt.rho.shape == opt.metrics["hypergradient"].shape == (after,)
        assert all(rho != RHO for rho in opt.rho.tolist())
        assert opt.metrics["skipped_steps"] == 0


def test_freezing_a_layer_moves_no_other_radius_to_another_place() -> None:
    """Gradual unfreezing: the radius of a frozen layer rests where it is but for the prior."""
    model = network()
    opt = SAM(
        torch.optim.SGD(model.parameters(), lr=0.1),
        rho=learned_radius(RHO, per="layer", prior=None, interval=1, burn_in=0),
    )
    for i in range(10):
        frozen = i in (4, 5, 6)
        model[0].weight.requires_grad_(not frozen)
        before = opt.rho.clone()
        opt.step(closure_on(model, batch(i)), closure_on(model, batch(50 + i)))
        if i in (5, 6):
            assert (opt.rho != before).tolist()[1:] == [True] * 3
    assert opt.rho.shape == (4,)
    assert opt.metrics["skipped_steps"] == 0


def test_a_step_that_is_not_finite_moves_no_radius() -> None:
    model = network()
    opt = SAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=LearnedRadius(RHO, per="layer", interval=1))
    for i in range(4):
        opt.step(closure_on(model, batch(i)), closure_on(model, batch(50 + i)))
    before, metrics = opt.rho.clone(), opt.metrics["hypergradient"]

    def broken() -> Tensor:
        loss = closure_on(model, batch(9))()
        next(model.parameters()).grad.fill_(math.inf)  # type: ignore[union-attr]
        return loss

    opt.step(broken, closure_on(model, batch(60)))
    assert torch.equal(opt.rho, before)
    assert torch.equal(opt.metrics["hypergradient"], metrics)
    assert opt.metrics["skipped_steps"] == 1


def test_what_the_adapters_log_is_a_number_each() -> None:
    from letsam.integrations.logged_metrics import logged_metrics

    model = network()
    opt = SAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=LearnedRadius(RHO, per="layer", interval=1))
    for i in range(3):
        opt.step(closure_on(model, batch(i)), closure_on(model, batch(50 + i)))
    values = logged_metrics(opt)
    assert all(value.ndim == 0 for value in values.values())
    assert values["rho"].item() == pytest.approx(opt.rho.mean().item(), rel=1e-12)


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match="`per` must be one of all, group, layer, got 'tensor'"):
        LearnedRadius(0.1, per="tensor")
    with pytest.raises(TypeError, match="`per` must be one of all, group, layer, got 1"):
        LearnedRadius(0.1, per=1)  # type: ignore[arg-type]
    opts = [
        SAM(torch.optim.SGD(network().parameters(), lr=0.1), rho=LearnedRadius(0.1, per=per))
        for per in ("all", "layer")
    ]
    with pytest.raises(ValueError, match="must hold a LearnedRadius per layer as its radius, got LearnedRadius"):
        opts[1].load_state_dict(opts[0].state_dict())
    with pytest.raises(ValueError, match="must hold a LearnedRadius as its radius, got LearnedRadius per layer"):
        opts[0].load_state_dict(opts[1].state_dict())


def test_the_papers_reading_per_layer() -> None:
    assert LearnedRadius.paper(0.1, per="layer").per == "layer"
    assert letsam.LearnedRadius(0.1).per == "all"
