"""Everything that a forward pass changes on the modules counts once a step, as in one plain training pass."""

from __future__ import annotations

import copy
import math
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import letsam
from learned_radius import learned_radius
from letsam import SAM, LearnedRadius
from letsam.step.module_state import ModuleState
from oracle.problems import batch, closure_on, same_bits, weights_of
from step.cases import failing_in
from step.stateful import KINDS, Stateful, a_teacher, after_one_pass, counter, state_of, teacher, zeros

RADII: dict[str, Callable[[], Any]] = {
    "fixed": lambda: 0.2,
    "next": lambda: LearnedRadius(0.2, interval=1),
    "finite difference, same": lambda: learned_radius(
        0.2, hypergradient="finite_difference", training_batch="same", interval=2
    ),
}


def sgd(model: Any) -> torch.optim.Optimizer:
    trained = model.layer if isinstance(model, Stateful) else model
    return torch.optim.SGD(trained.parameters(), lr=0.1, momentum=0.9)


@pytest.mark.parametrize("radius", RADII)
@pytest.mark.parametrize("kind", KINDS)
def test_it_counts_once(kind: str, radius: str) -> None:
    torch.manual_seed(0)
    model = KINDS[kind]()
    opt = SAM(sgd(model), rho=RADII[radius](), model=model)
    for i in range(4):
        before, expected = state_of(model), after_one_pass(model, batch(i)[0])
        opt.step(closure_on(model, batch(i)), closure_on(model, batch(50 + i)))
        assert same_bits(state_of(model), expected)
        assert not same_bits(before, expected)


@pytest.mark.parametrize("kind", KINDS)
def test_a_radius_of_zero_is_the_base_optimizer(kind: str) -> None:
    ends = []
    for wrapped in (True, False):
        torch.manual_seed(0)
        model = KINDS[kind]()
        base = sgd(model)
        opt = SAM(base, rho=0, model=model)
        for i in range(4):
            if wrapped:
                opt.step(closure_on(model, batch(i)))
            else:
                closure_on(model, batch(i))()
                base.step()
        ends.append((weights_of(model), state_of(model)))
    assert same_bits(*ends)


@pytest.mark.parametrize("fail_at", [1, 2, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_a_closure_that_raises_changes_nothing(kind: str, fail_at: int) -> None:
    torch.manual_seed(0)
    model = KINDS[kind]()
    opt = SAM(sgd(model), rho=LearnedRadius(0.2, interval=1), model=model)
    for i in range(2):
        opt.step(closure_on(model, batch(i)), closure_on(model, batch(50 + i)))
    failing = failing_in(model, fail_at)
    before = weights_of(model), state_of(model)
    with pytest.raises(KeyboardInterrupt):
        opt.step(failing(2), failing(52))
    assert same_bits((weights_of(model), state_of(model)), before)


def test_a_validation_closure_leaves_no_trace() -> None:
    """The training closure does not touch the state here, so that only validation could."""
    model: Any = Stateful(lambda net, out: out * 0, state=zeros(3), calls=0, teacher=a_teacher())
    opt = SAM(sgd(model), rho=LearnedRadius(0.2, interval=1), model=model)

    def held_out() -> Tensor:
        model.calls += 1
        model.state.add_(1)
        model.late = [1]
        model.register_buffer("later", zeros(2))
        with torch.no_grad():
            model.teacher.weight.mul_(2)
        return closure_on(model, batch(9))()

    before = state_of(model)
    for i in range(3):
        opt.step(closure_on(model, batch(i)), held_out)
    assert same_bits(state_of(model), before)


@pytest.mark.parametrize("kind", ["hidden", "hidden in place", "hidden pair", "queue", "teacher", "growing cache"])
def test_a_skipped_step(kind: str) -> None:
    """Tensors are as before the step; the host does not know that it is skipped: numbers and shapes are as after it."""
    torch.manual_seed(0)
    model = KINDS[kind]()
    opt = SAM(sgd(model), rho=0.2, model=model)
    opt.step(closure_on(model, batch(0)))
    x, y = batch(1)
    before, after = state_of(model), after_one_pass(model, x * math.inf)
    opt.step(closure_on(model, (x * math.inf, y)))
    assert opt.metrics["skipped_steps"] == 1
    found = state_of(model)
    if kind == "growing cache":
        assert found[".length"] == len(found[".memory"]) == 2
    elif kind == "queue":
        assert same_bits(found, before | {".pointer": after[".pointer"]})
    else:
        assert same_bits(found, before)
    assert not same_bits(found, after) or kind == "growing cache"


def test_a_skipped_step_does_not_write_into_the_batch() -> None:
    """A module that stores its inputs refers to the memory of the batch."""

    def change(net: Any, out: Tensor) -> Tensor:
        net.outputs = [net.last]
        return out * 0

    model: Any = Stateful(change, last=zeros(12, 4), outputs=[])
    model.register_forward_pre_hook(lambda net, args: setattr(net, "last", args[0]))
    opt = SAM(sgd(model), rho=0.2, model=model)
    (x, y), (bad, _) = batch(0), batch(1)
    bad[0] = math.inf
    copies = x.clone(), bad.clone()
    opt.step(closure_on(model, (x, y)))
    assert same_bits(model.last, x)
    opt.step(closure_on(model, (bad, y)))
    assert opt.metrics["skipped_steps"] == 1
    assert same_bits((x, bad), copies)
    assert same_bits((model.last, model.outputs[0]), (x, x))


def test_by_hand() -> None:
    model: Any = Stateful(counter, calls=0, beta=0.0, phase="")
    opt = SAM(sgd(model), rho=0.2, model=model)
    for i in range(3):
        expected = after_one_pass(model, batch(i)[0])
        closure_on(model, batch(i))()
        opt.ascent_step()
        closure_on(model, batch(i))()
        opt.descent_step()
        assert same_bits(state_of(model), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_frozen_statistics(kind: str) -> None:
    model = KINDS[kind]()
    if hasattr(model, "teacher"):
        model.teacher.requires_grad_(False)
    model(batch(0)[0])
    before = state_of(model)
    with letsam.frozen_statistics(model):
        model(batch(1)[0])
        assert not same_bits(state_of(model), before)
    assert same_bits(state_of(model), before)


def test_micro_batches_that_climb_apart() -> None:
    """One after the other, each from the state that the one before has left: as plain accumulation does."""
    model: Any = Stateful(counter, calls=0, beta=0.0, phase="")
    opt = letsam.SubBatchSAM(sgd(model), rho=0.2, model=model)
    for i in range(2):
        closure = letsam.accumulated(
            lambda data: nn.functional.cross_entropy(model(data[0]), data[1]), [batch(2 * i), batch(2 * i + 1)], opt
        )
        opt.step(closure)
        assert model.calls == 2 * (i + 1)


# --- frozen parameters --------------------------------------------------------------------------------------------


class Adapted(nn.Module):
    """A small trained layer on a frozen network that is larger, a part of which moves."""

    def __init__(self, by_data: bool = False) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3, dtype=torch.float64)
        self.frozen = nn.Linear(2000, 1000, dtype=torch.float64).requires_grad_(False)
        self.teacher = nn.Linear(4, 3, dtype=torch.float64).requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            self.teacher.weight.mul_(0.9).add_(self.layer.weight, alpha=0.1)
        return self.layer(x) + self.teacher(x)


def test_of_a_large_frozen_network_only_what_moves_is_copied() -> None:
    model: Any = Adapted()
    opt = SAM(torch.optim.SGD(model.layer.parameters(), lr=0.1), rho=LearnedRadius(0.2, interval=1), model=model)
    opt.step(closure_on(model, batch(0)), closure_on(model, batch(50)))
    version = model.frozen.weight._version
    for i in range(1, 4):
        expected = after_one_pass(model, batch(i)[0])
        opt.step(closure_on(model, batch(i)), closure_on(model, batch(50 + i)))
        assert same_bits(state_of(model), expected)
    assert model.frozen.weight._version == version
    replay = opt._passes.replay
    assert sum(block.numel() for block in replay._start.state._buffers._blocks.values()) == 12


def test_a_frozen_network_can_be_used_by_a_graph_of_before_the_step() -> None:
    """Writing the values that it has must not make the graph stale."""
    model: Any = Stateful(teacher, teacher=a_teacher())
    model.change = lambda net, out: out * 0
    opt = SAM(sgd(model), rho=0.2, model=model)
    inputs = torch.ones(2, 4, dtype=torch.float64, requires_grad=True)
    loss = model.teacher(inputs).square().sum()
    opt.step(closure_on(model, batch(0)))
    loss.backward()
    assert inputs.grad is not None


def test_what_a_step_has_replaced_is_freed() -> None:
    """Not kept until the next step: a module may store activations."""

    def change(net: Any, out: Tensor) -> Tensor:
        net.last, net.both = out.clone(), [out.clone()]
        return out * 0

    model: Any = Stateful(change, last=None, both=[])
    opt = SAM(sgd(model), rho=0.2, model=model)
    for i in range(3):
        old = [weakref.ref(tensor) for tensor in (model.last, *model.both) if tensor is not None]
        opt.step(closure_on(model, batch(i)))
        assert [ref() for ref in old] == [None] * len(old)
        assert len(old) == 2 * (i > 0)


# --- what is left alone -------------------------------------------------------------------------------------------


class Resource:
    def __init__(self) -> None:
        self.uses = 0


def test_objects_that_are_not_values_are_left_alone() -> None:
    def change(net: Any, out: Tensor) -> Tensor:
        net.resource.uses += 1
        if net.engine is None:
            net.engine = Resource()
        net.engine.uses += 1
        net.compiled.setdefault(out.shape, Resource())
        return out * 0

    model: Any = Stateful(change, resource=Resource(), engine=None, compiled={})
    resource = model.resource
    opt = SAM(sgd(model), rho=0.2, model=model)
    for i in range(3):
        opt.step(closure_on(model, batch(i)))
    assert model.resource is resource
    assert resource.uses == model.engine.uses == 6
    assert len(model.compiled) == 1


def test_weights_that_are_attributes_too() -> None:
    """A list of the weights, an alias and a view of them are not state: the perturbed weights must stay perturbed."""
    model: Any = Stateful(lambda net, out: out * 0)
    model.tied = [model.layer.weight]
    model.alias = model.layer.weight.data
    model.row = model.layer.weight.detach()[0]
    model.by_name = {"bias": model.layer.bias.detach()}
    twin: Any = Stateful(lambda net, out: out * 0)
    twin.load_state_dict(model.state_dict())
    opts = SAM(sgd(model), rho=0.2, model=model), SAM(sgd(twin), rho=0.2)
    for i in range(3):
        for opt, m in zip(opts, (model, twin), strict=True):
            opt.step(closure_on(m, batch(i)))
    assert same_bits(weights_of(model), weights_of(twin))
    assert torch.equal(model.row, model.layer.weight[0])


def test_gradients_that_are_attributes_too() -> None:
    """The base optimizer must get the gradient of the perturbed weights, not that of the first pass."""
    ends = []
    for given in (True, False):
        torch.manual_seed(0)
        model: Any = Stateful(lambda net, out: out * 0)
        model.layer.weight.grad = model.kept = torch.zeros_like(model.layer.weight)
        opt = SAM(sgd(model), rho=0.2, model=model if given else None)
        opt.zero_grad = lambda set_to_none=True: None

        def closure(model: Any = model) -> Tensor:
            model.layer.weight.grad.zero_()
            model.layer.bias.grad = None
            loss = nn.functional.cross_entropy(model(batch(0)[0]), batch(0)[1])
            loss.backward()
            model.last = model.layer.bias.grad
            return loss

        for _ in range(3):
            opt.step(closure)
        ends.append(weights_of(model))
    assert same_bits(*ends)


def test_lazy_modules_are_made_in_the_first_pass() -> None:
    def make() -> Any:
        torch.manual_seed(0)
        parts = (nn.Linear(4, 6), nn.LazyBatchNorm1d(affine=False), nn.Unflatten(1, (2, 3)))
        return nn.Sequential(*parts, nn.LazyInstanceNorm1d(track_running_stats=True), nn.Flatten(), nn.Linear(6, 3))

    model, plain = make(), make()
    data = batch(0, dtype=torch.float32)
    opt = SAM(torch.optim.SGD([*model[0].parameters(), *model[5].parameters()], lr=0.1), rho=0.2, model=model)
    opt.step(closure_on(model, data))
    plain(data[0])
    assert same_bits(dict(model.named_buffers()), dict(plain.named_buffers()))
    assert model[1].num_features == 6
    assert model[3].num_features == 2
    for i in range(1, 3):
        data = batch(i, dtype=torch.float32)
        twin = copy.deepcopy(model)
        opt.step(closure_on(model, data))
        twin(data[0])
        assert same_bits(dict(model.named_buffers()), dict(twin.named_buffers()))


def test_modules_without_any_state_have_not_changed() -> None:
    """Such as the empty containers that adapters (peft) put beside each layer."""
    state = ModuleState()
    for module in (nn.ModuleDict(), nn.BatchNorm1d(2), nn.ModuleDict()):
        state.take([module])
        assert list(state.changes()) == []
        state.put_back()
