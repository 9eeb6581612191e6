"""SharpnessAware is a torch optimizer: groups, state, schedulers, hooks, copies and files."""

from __future__ import annotations

import contextlib
import copy
import gc
import io
import pickle
import warnings
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch

from letsam import ASAM, SAM, LearnedRadius, SharpnessAware
from optimizer.cases import RADII
from oracle.problems import BASES, batch, closure_on, network, same_bits, weights_of


def momentum(model: torch.nn.Module, lr: float = 0.1) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)


def test_groups_and_state_are_the_base_optimizers() -> None:
    model = network()
    base = momentum(model)
    opt = SAM(base, rho=0.1)
    assert opt.param_groups is base.param_groups
    assert opt.state is base.state
    assert opt.defaults is base.defaults
    assert isinstance(opt, torch.optim.Optimizer)
    base.load_state_dict(base.state_dict())
    assert opt.param_groups is base.param_groups
    assert opt.state is base.state
    opt.load_state_dict(opt.state_dict())
    assert opt.param_groups is base.param_groups


@pytest.mark.parametrize("on_base", [False, True])
@pytest.mark.parametrize("by_hand", [False, True])
def test_lr_schedulers_warn_of_nothing_and_reach_the_step(on_base: bool, by_hand: bool) -> None:
    model = network()
    base = torch.optim.SGD(model.parameters(), lr=0.5)
    opt = SAM(base, rho=0.1)
    scheduler = torch.optim.lr_scheduler.StepLR(base if on_base else opt, 1, gamma=0.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for i in range(3):
            before = weights_of(model)
            closure = closure_on(model, batch(i))
            if by_hand:
                closure()
                opt.ascent_step()
                closure()
                opt.descent_step()
            else:
                opt.step(closure)
            scheduler.step()
            assert same_bits(weights_of(model), before) == (i > 0), "the learning rate is 0 after the first step"


@pytest.mark.parametrize("radius", ["fixed", "cosine", "linear", "proportional", "replayed"])
@pytest.mark.parametrize("variant", [SAM, ASAM])
@pytest.mark.parametrize("base", ["momentum", "adamw", "rmsprop"])
def test_two_calls_equal_one(base: str, variant: type[SharpnessAware], radius: str) -> None:
    def run(by_hand: bool) -> Any:
        model = network()
        opt = variant(BASES[base](model.parameters()), rho=RADII[radius]())
        for i in range(6):
            closure = closure_on(model, batch(i))
            if by_hand:
                closure()
                opt.ascent_step()
                assert all(p.grad is None for p in model.parameters())
                closure()
                opt.descent_step()
            else:
                opt.step(closure)
        return weights_of(model), opt.state_dict(), opt.metrics["rho"], opt.metrics["gradient_norm"]

    assert same_bits(run(True), run(False))


@pytest.mark.parametrize("variant", [SAM, ASAM])
def test_hooks_fire(variant: type[SharpnessAware]) -> None:
    model = network()
    base = momentum(model)
    opt = variant(base, rho=0.1)
    fired: list[str] = []
    opt.register_step_pre_hook(lambda *_: fired.append("before"))
    opt.register_step_post_hook(lambda *_: fired.append("after"))
    base.register_step_pre_hook(lambda *_: fired.append("base before"))
    base.register_step_post_hook(lambda *_: fired.append("base after"))
    opt.register_state_dict_pre_hook(lambda *_: fired.append("saving"))
    opt.register_state_dict_post_hook(lambda _, state: state | {"note": 1})
    opt.register_load_state_dict_pre_hook(lambda _, state: fired.append("loading"))
    opt.register_load_state_dict_post_hook(lambda _: fired.append("loaded"))
    opt.step(closure_on(model, batch(0)))
    assert fired == ["before", "base before", "base after", "after"]
    state = opt.state_dict()
    assert state.pop("note") == 1
    opt.load_state_dict(state)
    assert fired[4:] == ["saving", "loading", "loaded"]


@pytest.mark.parametrize("how", ["deepcopy", "pickle"])
@pytest.mark.parametrize("radius", ["fixed", "cosine", "secant-validation_loss-next", "diagonal-squared_gap-same"])
def test_copies_go_on_alike_and_apart(radius: str, how: str) -> None:
    model = network()
    named = model.named_parameters()
    opt = ASAM(torch.optim.SGD(named, lr=0.1, momentum=0.9), rho=RADII[radius](), scale="weights")
    for i in range(3):
        opt.step(closure_on(model, batch(i)), closure_on(model, batch(9)))
    if how == "deepcopy":
        twin, twin_opt = copy.deepcopy((model, opt))
    else:
        twin, twin_opt = pickle.loads(pickle.dumps((model, opt)))
    before = weights_of(twin)
    for i in range(3, 6):
        opt.step(closure_on(model, batch(i)), closure_on(model, batch(9)))
    assert same_bits(weights_of(twin), before)
    for i in range(3, 6):
        twin_opt.step(closure_on(twin, batch(i)), closure_on(twin, batch(9)))
    assert same_bits(weights_of(twin), weights_of(model))
    assert same_bits(twin_opt.state_dict(), opt.state_dict())


def test_add_param_group_and_frozen_weights() -> None:
    model = network()
    model[0].bias.requires_grad_(False)
    frozen = model[0].bias.clone()
    opt = SAM(torch.optim.SGD(model[0].parameters(), lr=0.1, momentum=0.9), rho=LearnedRadius(0.1, interval=1))
    for i in range(3):
        opt.step(closure_on(model, batch(i)), closure_on(model, batch(9)))
    head = model[2].weight.detach().clone()
    opt.add_param_group({"params": list(model[2].parameters()), "lr": 0.2})
    assert len(opt.base_optimizer.param_groups) == 2
    radii = []
    for i in range(3, 7):
        opt.step(closure_on(model, batch(i)), closure_on(model, batch(9)))
        radii.append(opt.rho.item())
    assert not torch.equal(model[2].weight, head)
    assert torch.equal(model[0].bias, frozen)
    assert len(set(radii)) == 4 - 1 + 1 - (radii[0] == radii[1]), radii
    assert radii[1] != radii[3]


@pytest.mark.parametrize("thawed", [False, True])
def test_freezing_while_training(thawed: bool) -> None:
    """The set of trainable weights changes between two steps: Z no longer fits and counts for nothing."""
    model = network()
    opt = SAM(momentum(model), rho=LearnedRadius(0.1, interval=1))
    model[0].weight.requires_grad_(not thawed)
    for i in range(3):
        opt.step(closure_on(model, batch(i)), closure_on(model, batch(9)))
    model[0].weight.requires_grad_(thawed)
    rho = opt.rho.clone()
    opt.step(closure_on(model, batch(3)), closure_on(model, batch(9)))
    assert opt.rho == rho
    opt.step(closure_on(model, batch(4)), closure_on(model, batch(9)))
    assert opt.rho != rho


def test_one_radius_object_for_many_optimizers() -> None:
    radius = LearnedRadius(0.1, interval=1)
    model, other = network(), network()
    opt, idle = SAM(momentum(model), rho=radius), SAM(momentum(other), rho=radius)
    for i in range(3):
        opt.step(closure_on(model, batch(i)), closure_on(model, batch(9)))
    assert opt.rho != idle.rho
    assert radius.rho == 0.1


def test_the_model_may_change_its_dtype_afterwards() -> None:
    model = network(dtype=torch.float32)
    opt = SAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=LearnedRadius(0.1, interval=1))
    assert opt.rho.dtype == torch.float32
    model.double()
    for i in range(3):
        opt.step(closure_on(model, batch(i)), closure_on(model, batch(9)))
    assert opt.rho.dtype == torch.float64
    assert opt.rho != 0.1


def test_state_dict_survives_a_file() -> None:
    model = network()
    opt = SAM(momentum(model), rho=0.1)
    opt.step(closure_on(model, batch(0)))
    file = io.BytesIO()
    torch.save(opt.state_dict(), file)
    file.seek(0)
    assert same_bits(torch.load(file, weights_only=True), opt.state_dict())


@pytest.mark.parametrize("loads", ["both", "model"])
def test_a_checkpoint_loaded_between_two_passes_by_hand_stands(loads: str) -> None:
    """The weights that were perturbed have got other values: there is nothing to go back to."""
    model = torch.nn.Sequential(network(), torch.nn.BatchNorm1d(3, dtype=torch.float64))
    opt = SAM(BASES["momentum"](model.parameters()), rho=0.5, model=model)
    inputs = batch(0)[0]

    def backward() -> None:
        opt.zero_grad()
        model(inputs).square().mean().backward()

    def by_hand() -> None:
        backward()
        opt.ascent_step()
        backward()
        opt.descent_step()

    by_hand()
    kept = copy.deepcopy({"model": model.state_dict(), "opt": opt.state_dict()})
    by_hand()
    backward()
    opt.ascent_step()  # and here the loop is interrupted
    model.load_state_dict(kept["model"])
    if loads == "both":
        opt.load_state_dict(kept["opt"])
        assert same_bits([*model.state_dict().values()], [*kept["model"].values()])
    before = weights_of(model)
    by_hand()
    after = weights_of(model)
    twin = torch.nn.Sequential(network(), torch.nn.BatchNorm1d(3, dtype=torch.float64))
    twin.load_state_dict(kept["model"])
    assert same_bits(before, weights_of(twin))
    assert not same_bits(before, after)


def test_a_state_loaded_between_two_passes_by_hand_takes_the_weights_back() -> None:
    model = network()
    opt = SAM(BASES["momentum"](model.parameters()), rho=0.5)
    kept, before = copy.deepcopy(opt.state_dict()), weights_of(model)
    closure_on(model, batch(0))()
    opt.ascent_step()
    assert not same_bits(weights_of(model), before)
    opt.load_state_dict(kept)
    assert same_bits(weights_of(model), before)


@pytest.mark.parametrize("radius", [lambda: 0.1, lambda: LearnedRadius(0.1, interval=1)], ids=["fixed", "learned"])
def test_an_optimizer_is_freed_with_its_last_reference(radius: Callable[[], Any]) -> None:
    """As torch's own are: the copies of the weights that it holds do not wait for the garbage collector."""
    model = network()
    opt = SAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=radius(), model=model)
    opt.step(closure_on(model, batch(0)), closure_on(model, batch(1)))
    seen = weakref.ref(opt)
    gc.disable()
    try:
        del opt
        assert seen() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("profiled", [False, True])
def test_zero_grad_clears_every_gradient_and_is_in_a_profile(profiled: bool) -> None:
    model = torch.nn.Linear(2, 2)
    model.bias.requires_grad_(False)
    opt = SAM(torch.optim.SGD(model.parameters(), lr=0.1))
    model.weight.grad, model.bias.grad = torch.ones(2, 2), torch.ones(2)
    with torch.profiler.profile() if profiled else contextlib.nullcontext() as recorded:
        opt.zero_grad()
    assert model.weight.grad is None
    assert model.bias.grad is None
    if recorded is not None:
        assert any("zero_grad" in event.key for event in recorded.key_averages())
