"""Several optimizers as one: one perturbation and one radius over all weights, each weight with its own update."""

from __future__ import annotations

import copy
import importlib
import io
import pickle
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

import letsam
from learned_radius import learned_radius
from letsam.joint import JointOptimizer
from optimizer.test_synchronisation import Synchronisations
from oracle import maths
from oracle.problems import batch, closure_on, descend, network, same_bits, weights_of

RHO = 0.1
NOW, NEXT = batch(10), batch(11)


def matrices_and_rest(model: nn.Module) -> list[torch.optim.Optimizer]:
    """SGD with momentum for the matrices, AdamW for the biases."""
    return [
        torch.optim.SGD([p for p in model.parameters() if p.ndim == 2], lr=0.1, momentum=0.9),
        torch.optim.AdamW([p for p in model.parameters() if p.ndim == 1], lr=0.01),
    ]


def three(model: nn.Module) -> list[torch.optim.Optimizer]:
    """With a group of its own for each weight of the last one, and one without a rule."""
    first, second, third, fourth = model.parameters()
    return [
        torch.optim.RMSprop([first], lr=0.01, centered=True),
        torch.optim.Adagrad([second], lr=0.1, initial_accumulator_value=0.5),
        torch.optim.Adam([{"params": [third], "lr": 0.02}, {"params": [fourth], "lr": 0.01}], amsgrad=True),
    ]


MAKES = {"two": matrices_and_rest, "three": three}


def train(model: nn.Module, opt: letsam.SharpnessAware, first: int, last: int) -> None:
    for i in range(first, last):
        opt.step(closure_on(model, batch(i)), closure_on(model, batch(50 + i)))


def learner(model: nn.Module, make: Any = matrices_and_rest, **options: Any) -> letsam.SharpnessAware:
    return letsam.SAM(make(model), rho=letsam.LearnedRadius(RHO, interval=1, **options))


@pytest.mark.parametrize("make", MAKES.values(), ids=MAKES)
def test_one_perturbation_and_one_radius_over_all_weights(make: Any) -> None:
    """By hand: theta + rho g / ||g|| with ||g|| over all weights, then the step of each optimizer at theta."""
    model, reference = network(), network()
    opt, bases = letsam.SAM(make(model), rho=0.3), make(reference)
    for i in range(5):
        opt.step(closure_on(model, batch(i)))
        weights = weights_of(reference)
        closure_on(reference, batch(i))()
        params = list(reference.parameters())
        length = torch.cat([p.grad.reshape(-1) for p in params if p.grad is not None]).norm()
        with torch.no_grad():
            for p in params:
                assert p.grad is not None
                p += 0.3 * p.grad / length
        closure_on(reference, batch(i))()
        with torch.no_grad():
            for p, weight in zip(params, weights, strict=True):
                p.copy_(weight)
        for base in bases:
            base.step()
    torch.testing.assert_close(weights_of(model), weights_of(reference), rtol=1e-12, atol=1e-14)


def start_of(make: Any) -> maths.State:
    model = network()
    base = JointOptimizer(make(model))
    descend(model, base, 3)
    return maths.State(model, base)


def measured(start: maths.State, validation: Any) -> float:
    state = start.copy()
    assert isinstance(state.base, JointOptimizer)
    radius = learned_radius(RHO, hypergradient="finite_difference", length_invariant=False)
    opt = letsam.SAM(list(state.base.optimizers), rho=radius)
    for data in (NOW, NEXT):
        opt.step(closure_on(state.model, data), closure_on(state.model, validation))
    return opt.metrics["hypergradient"].item()


def test_the_hypergradient_has_each_optimizers_own_update() -> None:
    start = start_of(matrices_and_rest)
    direction = maths.sam_direction(start.theta, maths.gradient(start.model, start.theta, NOW))
    for seed in (20, 21, 22):
        step = maths.OneStep(start, direction, NOW, "validation_loss", NEXT, batch(seed))
        assert measured(start, step.validation) == pytest.approx(step.central_difference(RHO), rel=1e-5)


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="torch < 2.9 has no Muon")
def test_muon_and_adamw() -> None:
    """The one pair that most users have: they train, and what a checkpoint resumes goes on bit for bit."""

    def make(model: nn.Module) -> list[torch.optim.Optimizer]:
        sgd, adamw = matrices_and_rest(model)
        return [torch.optim.Muon(sgd.param_groups[0]["params"], lr=0.02), adamw]

    model = network()
    opt = learner(model, make)
    before = maths.loss(model, torch.cat([w.reshape(-1) for w in weights_of(model)]), batch(0)).item()
    train(model, opt, 0, 4)
    fresh = network()
    fresh.load_state_dict(model.state_dict())
    again = learner(fresh, make)
    again.load_state_dict(copy.deepcopy(opt.state_dict()))
    for m, o in ((model, opt), (fresh, again)):
        train(m, o, 4, 20)
    assert same_bits((weights_of(fresh), again.state_dict()), (weights_of(model), opt.state_dict()))
    assert maths.loss(model, torch.cat([w.reshape(-1) for w in weights_of(model)]), batch(0)).item() < before
    assert opt.rho != RHO


@pytest.mark.parametrize("make", MAKES.values(), ids=MAKES)
def test_copies_and_files_go_on_alike(make: Any) -> None:
    model = network()
    opt = learner(model, make)
    train(model, opt, 0, 3)
    file = io.BytesIO()
    torch.save(opt.state_dict(), file)
    file.seek(0)
    fresh = network()
    fresh.load_state_dict(model.state_dict())
    fresh_opt = learner(fresh, make)
    fresh_opt.load_state_dict(torch.load(file, weights_only=True))
    twins = [(model, opt), copy.deepcopy((model, opt)), pickle.loads(pickle.dumps((model, opt))), (fresh, fresh_opt)]
    for m, o in twins:
        train(m, o, 3, 6)
        assert same_bits((weights_of(m), o.state_dict()), (weights_of(model), opt.state_dict()))
    assert len({id(o.base_optimizer) for _, o in twins}) == 4


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
def test_a_distributed_checkpoint(tmp_path: Any) -> None:
    model = network()
    opt = learner(model, three)
    train(model, opt, 0, 3)
    dcp: Any = importlib.import_module("torch.distributed.checkpoint")
    dcp.save({"training": letsam.DistributedState(model, opt)}, checkpoint_id=tmp_path)
    fresh = network(seed=5)
    fresh_opt = learner(fresh, three)
    dcp.load({"training": letsam.DistributedState(fresh, fresh_opt)}, checkpoint_id=tmp_path)
    for m, o in ((model, opt), (fresh, fresh_opt)):
        train(m, o, 3, 6)
    assert same_bits(weights_of(fresh), weights_of(model))
    assert fresh_opt.rho == opt.rho


def test_a_step_that_is_not_finite_is_undone_in_every_optimizer() -> None:
    model, twin = network(), network()
    opts = [letsam.SAM(three(m), rho=0.1) for m in (model, twin)]

    def broken() -> Tensor:
        loss = closure_on(model, batch(9))()
        for p in model.parameters():
            p.grad = torch.full_like(p, torch.nan)
        return loss

    opts[0].step(broken)  # of all: also the state that it has made is that of the beginning
    for i in range(3):
        opts[0].step(closure_on(model, batch(i)))
        opts[1].step(closure_on(twin, batch(i)))
        opts[0].step(broken)
    assert opts[0].metrics["skipped_steps"] == 4
    assert same_bits(weights_of(model), weights_of(twin))
    assert same_bits(opts[0].state_dict()["state"], opts[1].state_dict()["state"])


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="torch < 2.9 has no Muon")
@pytest.mark.parametrize("training_batch", ["next", "same"])
def test_the_host_does_not_wait(training_batch: str) -> None:
    """With optimizers that do not make it wait themselves; from the first step on."""
    model = network(dtype=torch.float32)
    matrices, rest = (base.param_groups[0]["params"] for base in matrices_and_rest(model))
    bases = [torch.optim.Muon(matrices, lr=0.02), torch.optim.SGD(rest, lr=0.1, momentum=0.9)]
    opt = letsam.SAM(bases, rho=learned_radius(0.1, interval=1, training_batch=training_batch))
    closures = [closure_on(model, batch(i, dtype=torch.float32)) for i in range(4)]
    with Synchronisations() as counter:
        for i in range(4):
            opt.step(closures[i], closures[0])
    assert counter.seen == []
    assert counter.total > 100


def test_schedulers() -> None:
    """On the wrapper, all groups follow; on one of the optimizers, its own."""
    model = network()
    bases = matrices_and_rest(model)
    opt = letsam.SAM(bases, rho=letsam.ProportionalRadius(0.2, 0.1))
    whole = torch.optim.lr_scheduler.LinearLR(opt, 1.0, 0.5, total_iters=2)
    part = torch.optim.lr_scheduler.StepLR(bases[1], 1, gamma=0.1)
    for i in range(2):
        opt.step(closure_on(model, batch(i)))
        whole.step()
    assert [group["lr"] for group in opt.param_groups] == pytest.approx([0.05, 0.005])
    part.step()
    assert [group["lr"] for group in opt.param_groups] == pytest.approx([0.05, 0.0005])
    opt.step(closure_on(model, batch(2)))
    assert opt.rho.item() == pytest.approx(0.15)  # follows the learning rate of the first group
    assert letsam.check(opt, closure_on(model, batch(0)), scheduler=whole) == []


def test_a_cycle_of_momentum_is_refused_as_the_groups_have_no_common_one() -> None:
    opt = letsam.SAM(matrices_and_rest(network()), rho=0.1)
    with pytest.raises(ValueError, match="optimizer must support momentum or beta1"):
        torch.optim.lr_scheduler.OneCycleLR(opt, 0.1, total_steps=10)
    torch.optim.lr_scheduler.OneCycleLR(opt, 0.1, total_steps=10, cycle_momentum=False)


@pytest.mark.parametrize("owner", [0, 1, None])
def test_a_new_group(owner: int | None) -> None:
    """It belongs to the optimizer that it names, or to the last one; groups that were there keep their places."""
    model, head = network(), nn.Linear(3, 3).double()
    opt = learner(model, per="group")
    train(model, opt, 0, 2)
    group = {"params": [head.weight]} | ({} if owner is None else {"optimizer": owner})
    opt.add_param_group(group)
    assert "optimizer" not in opt.param_groups[2]
    assert [len(g["params"]) for g in opt.param_groups] == [2, 2, 1]
    assert opt.param_groups[2]["lr"] == (0.1 if owner == 0 else 0.01)
    assert opt.rho.shape == (3,)
    wider = nn.Sequential(model, head)
    train(wider, opt, 2, 5)
    assert opt.metrics["skipped_steps"] == 0

    same, again = copy.deepcopy(wider), learner(network())
    again = learner(same[0], per="group")
    again.add_param_group({**group, "params": [same[1].weight]})
    again.load_state_dict(copy.deepcopy(opt.state_dict()))
    for m, o in ((wider, opt), (same, again)):
        train(m, o, 5, 7)
    assert same_bits((weights_of(same), again.state_dict()), (weights_of(wider), opt.state_dict()))


def test_a_group_added_to_one_of_the_optimizers_joins() -> None:
    model, head = network(), nn.Linear(3, 3).double()
    bases = matrices_and_rest(model)
    opt = letsam.SAM(bases, rho=0.1)
    bases[0].add_param_group({"params": [head.weight], "lr": 0.3})
    assert [group["lr"] for group in opt.param_groups] == [0.1, 0.01, 0.3]
    before = head.weight.detach().clone()
    train(nn.Sequential(model, head), opt, 0, 2)
    assert not torch.equal(head.weight, before)


def test_groups_that_are_not_perturbed() -> None:
    model = network()
    bases = matrices_and_rest(model)
    bases[1].param_groups[0]["perturb"] = False
    opt = letsam.SAM(bases, rho=0.1)
    seen: list[list[Tensor]] = []

    def watched() -> Tensor:
        seen.append(weights_of(model))
        return closure_on(model, batch(0))()

    opt.step(watched)
    moved = [not torch.equal(*pair) for pair in zip(*seen, strict=True)]
    assert moved == [True, False, True, False]


def test_an_option_rho_of_one_optimizer_is_its_own() -> None:
    """Adadelta's rho is not a radius; that of a group of SGD is."""
    model = network()
    matrices, rest = (group.param_groups[0]["params"] for group in matrices_and_rest(model))
    bases = [torch.optim.Adadelta(rest, rho=0.9), torch.optim.SGD([{"params": matrices, "rho": 0.3}], lr=0.1)]
    opt = letsam.SAM(bases, rho=0.1)
    opt.step(closure_on(model, batch(0)))
    assert opt.rho.tolist() == pytest.approx([0.1, 0.3])


def test_refused() -> None:
    model = network()
    bases = matrices_and_rest(model)
    with pytest.raises(ValueError, match="`base_optimizer` must hold at least one optimizer, got an empty list"):
        letsam.SAM([], rho=0.1)
    with pytest.raises(TypeError, match=r"`base_optimizer` must be a torch.optim.Optimizer, got 3"):
        letsam.SAM([bases[0], 3], rho=0.1)  # pyright: ignore[reportArgumentType]
    with pytest.raises(TypeError, match="must step without a closure of its own, got SAM"):
        letsam.SAM([letsam.SAM(bases[0])], rho=0.1)
    with pytest.raises(TypeError, match="must step without a closure of its own, got LBFGS"):
        letsam.SAM([bases[0], torch.optim.LBFGS([nn.Parameter(torch.ones(1))])], rho=0.1)
    whole = torch.optim.SGD(model.parameters())
    with pytest.raises(
        ValueError, match=r"every weight in one optimizer alone, got a weight of shape \(6?3?,\) in two"
    ):
        letsam.SAM([whole, bases[1]], rho=0.1)

    opt = letsam.SAM(bases, rho=0.1)
    for owner in (2, -1, True, "adamw"):
        with pytest.raises(ValueError, match="must be the number of one of the 2 optimizers, counted from 0, got"):
            opt.add_param_group({"params": [nn.Parameter(torch.ones(1))], "optimizer": owner})
    with pytest.raises(ValueError, match="must hold weights that no other optimizer has"):
        opt.add_param_group({"params": [model[0].weight]})
    with pytest.raises(ValueError, match="`perturb` of a param group must be True or False"):
        opt.add_param_group({"params": [nn.Parameter(torch.ones(1))], "perturb": 1, "optimizer": 0})
    assert len(opt.param_groups) == 2


def test_states_of_other_optimizers() -> None:
    """All sizes are compared before the first optimizer loads anything."""
    model = network()
    opt = letsam.SAM(matrices_and_rest(model), rho=0.1)
    train(model, opt, 0, 2)
    before = copy.deepcopy(opt.state_dict())
    others = three(network()), matrices_and_rest(network())[::-1], [torch.optim.SGD(network().parameters())]
    for bases in others:
        with pytest.raises(ValueError, match=r"`state_dict` must (be that of the optimizers|have)|another optimizer's"):
            opt.load_state_dict(letsam.SAM(bases, rho=0.1).state_dict())
    state = copy.deepcopy(before)
    state["param_groups"].append(state["param_groups"][0])
    with pytest.raises(ValueError, match=r"`state_dict` must have param groups of \[2, 2\] weights, got \[2, 2, 2\]"):
        opt.load_state_dict(state)
    state["param_groups"] = before["param_groups"][::-1]
    with pytest.raises(ValueError, match=r"groups of the optimizers with numbers \[0, 1\], got \[1, 0\]"):
        opt.load_state_dict(state)
    plain = letsam.SAM(torch.optim.SGD(network().parameters()), rho=0.1).state_dict()
    with pytest.raises(ValueError, match=r"`state_dict` must have param groups of \[2, 2\] weights, got \[4\]"):
        opt.load_state_dict(plain)
    assert same_bits(opt.state_dict(), before)


class WithMemory(torch.optim.SGD):
    """An optimizer that saves more than the state of its weights, under keys and names of its own."""

    count = 0

    def step(self, closure: Any = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        super().step()
        self.count += 1
        cast("dict[Any, Any]", self.state)["common"] = {"sum": torch.tensor(float(self.count))}

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "count": self.count}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        state_dict = dict(state_dict)
        self.count = state_dict.pop("count")
        super().load_state_dict(state_dict)

    def train(self, mode: bool = True) -> str:
        self.mode = mode
        return "trains"

    def refresh(self) -> str:
        return "refreshed"


def with_memory(model: nn.Module) -> list[torch.optim.Optimizer]:
    first, second, third, fourth = model.parameters()
    return [
        torch.optim.SGD([first], lr=0.1, momentum=0.5),
        WithMemory([second, third], lr=0.1, momentum=0.9),
        WithMemory([fourth], lr=0.2),
    ]


def test_each_optimizer_saves_what_it_has() -> None:
    model = network()
    opt = letsam.SAM(with_memory(model), rho=0.1)
    train(model, opt, 0, 3)
    fresh = network()
    fresh.load_state_dict(model.state_dict())
    again = letsam.SAM(with_memory(fresh), rho=0.1)
    again.load_state_dict(copy.deepcopy(opt.state_dict()))
    bases: Any = again.base_optimizer
    assert [base.count for base in bases.optimizers[1:]] == [3, 3]
    assert bases.optimizers[2].state["common"] == {"sum": 3.0}
    for m, o in ((model, opt), (fresh, again)):
        train(m, o, 3, 5)
    assert same_bits((weights_of(fresh), again.state_dict()), (weights_of(model), opt.state_dict()))


def test_methods_of_the_optimizers_pass_through() -> None:
    opt: Any = letsam.SAM(with_memory(network()), rho=0.1)
    opt.train(False)
    assert [base.mode for base in opt.base_optimizer.optimizers[1:]] == [False, False]
    with pytest.raises(AttributeError, match="no attribute 'count': several of its `optimizers` have one"):
        _ = opt.base_optimizer.count
    with pytest.raises(AttributeError, match="no attribute 'eval', nor has one of its `optimizers`"):
        opt.base_optimizer.eval()
    two: Any = letsam.SAM(with_memory(network())[:2], rho=0.1)
    assert two.refresh() == "refreshed"
    assert two.count == 0
