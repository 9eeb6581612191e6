"""What of distributed training shows in one process: arguments, copies, and a checkpoint without a group."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp

import letsam
from letsam import ASAM, SAM, DistributedState, LearnedRadius, SharpnessAware
from letsam.perturbations import SAMPerturbation
from letsam.step.ranks import Ranks
from oracle.problems import BASES, network, same_bits, snapshot
from ranks.workers import CASES, train

pytestmark = pytest.mark.filterwarnings("ignore:torch.distributed is disabled")


@pytest.mark.parametrize("name", ["sam-squared_gap-next", "asam-finite_difference"])
def test_m_sharpness_changes_nothing(name: str) -> None:
    runs = []
    for options in ({}, {"m_sharpness": True}, {"process_group": None}):
        model = network()
        runs.append(train(model, CASES[name](model.parameters(), model=model, **options), None))
    assert same_bits(runs[1], runs[0])
    assert same_bits(runs[2], runs[0])


@pytest.mark.parametrize("make", [SAM, ASAM, lambda base, **o: SharpnessAware(base, SAMPerturbation(), 0.1, **o)])
@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"process_group": "all"}, TypeError, "`process_group` must be \"default\", a ProcessGroup or None, got 'all'"),
        ({"process_group": 2}, TypeError, '`process_group` must be "default", a ProcessGroup or None, got 2'),
        ({"m_sharpness": 1}, TypeError, "`m_sharpness` must be True or False, got 1"),
        ({"m_sharpness": True, "process_group": None}, ValueError, "`m_sharpness` needs .*, got process_group=None"),
    ],
)
def test_wrong_arguments(make: Any, options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make(BASES["sgd"](network().parameters()), **options)


@pytest.mark.parametrize("through", [copy.deepcopy, lambda opt: pickle.loads(pickle.dumps(opt))])
def test_copies_keep_m_sharpness(through: Any) -> None:
    opt = SAM(BASES["sgd"](network().parameters()), m_sharpness=True)
    twin = through(opt)
    assert twin._passes.ranks.m_sharpness is True
    assert twin._passes.ranks.process_group == "default"
    assert same_bits(twin.state_dict(), opt.state_dict())


def test_the_modules_are_searched_once_for_each_model() -> None:
    searched: list[torch.nn.Module] = []

    class Model(torch.nn.Linear):
        def modules(self) -> Any:
            searched.append(self)
            return super().modules()

    ranks, first, second = Ranks("default", False), Model(1, 1), Model(1, 1)
    for model in (first, first, second, second, None, None):
        assert ranks._ddp(model) is None
    assert searched == [first, second]


@pytest.mark.parametrize("base", ["sgd", "momentum", "adamw"])
@pytest.mark.parametrize("radius", [0.1, LearnedRadius(0.1, interval=2), LearnedRadius.paper(0.1)])
def test_a_checkpoint_at_every_step(base: str, radius: Any, tmp_path: Path) -> None:
    """From the fresh optimizer on, gradients there or not: writing changes nothing, reading goes on bit for bit."""

    def fresh(seed: int = 0) -> tuple[Any, Any]:
        model = network(seed)
        return model, SAM(BASES[base](model.parameters()), rho=radius)

    model, opt = fresh()
    plain, plain_opt = fresh()
    structures = set()
    for step in range(4):
        state = DistributedState(model, opt)
        if step == 2:
            opt.zero_grad()
        before, gradients = snapshot(model, opt), [p.grad for p in model.parameters()]
        dcp.save({"training": state}, checkpoint_id=tmp_path / str(step))
        assert same_bits(snapshot(model, opt), before)
        assert all(p.grad is g for p, g in zip(model.parameters(), gradients, strict=True))
        structures.add(repr(sorted(state.state_dict())))
        train(model, opt, None, step, step + 1)
        train(plain, plain_opt, None, step, step + 1)
    assert len(structures) == 1
    assert same_bits(snapshot(model, opt), snapshot(plain, plain_opt))
    for step in range(4):
        other, other_opt = fresh(seed=9)
        if step == 3:
            train(other, other_opt, None, 0, 2)  # not a fresh one
        dcp.load({"training": DistributedState(other, other_opt)}, checkpoint_id=tmp_path / str(step))
        train(other, other_opt, None, step, 4)
        assert same_bits(snapshot(other, other_opt), snapshot(model, opt)), step


def test_frozen_weights_have_no_Z() -> None:
    model = network()
    model[0].weight.requires_grad_(False)
    opt = SAM(BASES["momentum"](model.parameters()), rho=LearnedRadius(0.1, interval=1))
    train(model, opt, None, 0, 2)
    state = DistributedState(model, opt).state_dict()
    assert list(state["Z"]) == ["0.bias", "2.weight", "2.bias"]
    assert same_bits(list(state["Z"].values()), list(opt.tangent.state_dict()["Z"].values()))


def test_a_distributed_state_of_something_else() -> None:
    model = network()
    opt = SAM(BASES["sgd"](model.parameters()), rho=0.1)
    with pytest.raises(TypeError, match="`optimizer` must be a letsam optimizer, got SGD"):
        DistributedState(model, opt.base_optimizer)
    with pytest.raises(ValueError, match="`model` must hold the weights of the optimizer"):
        DistributedState(network(), opt)
    learned = SAM(BASES["sgd"](model.parameters()), rho=LearnedRadius(0.1))
    state = DistributedState(model, opt).state_dict()
    before = snapshot(model, learned)
    with pytest.raises(ValueError, match="must hold a LearnedRadius as its radius, got FixedRadius"):
        DistributedState(model, learned).load_state_dict(state)
    assert same_bits(snapshot(model, learned), before)
    assert letsam.DistributedState is DistributedState
