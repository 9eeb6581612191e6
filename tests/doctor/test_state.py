"""`letsam.check` finds modes and state that passes change, and puts all of it back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import letsam
from doctor.cases import codes, net, only, sgd
from letsam import SAM, LearnedRadius
from oracle.problems import batch, closure_on, loss_on, network, same_bits, weights_of
from step.stateful import KINDS, Stateful, counter, state_of, zeros

# --- modes --------------------------------------------------------------------------------------------------------


def evaluating(model: nn.Module, seed: int) -> Callable[[], Tensor]:
    return lambda: closure_on(model.eval(), batch(seed))()


@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize("name", ["closure", "validation_closure"])
def test_a_closure_that_leaves_another_mode(name: str, given: bool) -> None:
    model = nn.Sequential(nn.Linear(4, 6), nn.Dropout(0.2), nn.Linear(6, 3)).double()
    opt = SAM(sgd(model), LearnedRadius(0.1), model=model if given else None)
    closures: dict[str, Any] = {
        "closure": closure_on(model, batch(0)),
        "validation_closure": closure_on(model, batch(1)),
    }
    assert letsam.check(opt, **closures) == []
    closures[name] = evaluating(model, 2)
    found = only(opt, **closures)
    assert (found.code, found.severity) == ("modes-changed", "warning" if given else "error")
    assert f"`{name}` leaves" in found.message
    assert "`Sequential`, `0`, `1` and 1 more in another mode" in found.message
    assert all(module.training for module in model.modules())


def test_a_closure_that_puts_its_modes_back() -> None:
    model = net()
    model[1].eval()
    opt = SAM(sgd(model), LearnedRadius(0.1), model=model)

    def held_out() -> Tensor:
        modes = [(module, module.training) for module in model.modules()]
        loss = evaluating(model, 1)()
        for module, mode in modes:
            module.training = mode
        return loss

    assert letsam.check(opt, closure_on(model, batch(0)), held_out) == []


# --- state --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_state_leaves_no_trace_and_is_found(kind: str, given: bool) -> None:
    torch.manual_seed(0)
    model = KINDS[kind]()
    model(batch(5)[0])
    if hasattr(model, "teacher"):
        model.teacher.requires_grad_(False)
    opt = SAM(sgd(model.layer), LearnedRadius(0.1), model=model if given else None)
    before = state_of(model)
    found = codes(opt, closure_on(model, batch(0)), closure_on(model, batch(1)))
    assert same_bits(state_of(model), before)
    if given:
        assert found == []
    else:
        assert set(found) <= {"state-moves-in-each-pass", "buffers-move-in-each-pass"}
        assert found


def test_the_message_names_what_moves() -> None:
    model: Any = Stateful(counter, calls=0, beta=0.0, phase="")
    found = only(SAM(sgd(model)), closure_on(model, batch(0)))
    assert found.severity == "warning"
    assert found.message.startswith("`calls`, `beta`, `phase` change in every pass")
    assert "`model=model`" in found.message


# --- a model that is a part ---------------------------------------------------------------------------------------


class Teacher(nn.Module):
    """A network apart from the trained one, which moves in every pass and has statistics."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3).double().requires_grad_(False)
        self.norm = nn.BatchNorm1d(3).double().requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        self.layer.weight.data.mul_(0.9)
        return self.norm(self.layer(x))


def test_a_model_that_is_only_a_part() -> None:
    backbone = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6)).double()
    head: Any = nn.Sequential(nn.Linear(6, 3), nn.BatchNorm1d(3)).double()
    base = torch.optim.SGD([*backbone.parameters(), *head.parameters()], lr=0.1)
    opt = SAM(base, 0.1, model=backbone)
    whole = nn.Sequential(backbone, head)
    closure = closure_on(whole, batch(0))
    found = only(opt, closure)
    assert found.code == "buffers-move-in-each-pass"
    assert "1.running_mean`" in found.message
    assert "`model` does not contain them" in found.message
    assert head[1].num_batches_tracked == 0
    opt.model = whole
    assert letsam.check(opt, closure) == []


def test_a_model_around_the_one_that_is_given() -> None:
    class Around(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner = inner
            self.register_buffer("mean", zeros(4))
            self.calls = 0

        def forward(self, x: Tensor) -> Tensor:
            self.mean = 0.9 * self.mean + 0.1 * x.mean(0)
            self.calls += 1
            return self.inner(x - self.mean)

    inner = network()
    around: Any = Around(inner)
    opt = SAM(sgd(inner), 0.1, model=inner)
    closure = closure_on(around, batch(0))
    assert codes(opt, closure) == ["buffers-move-in-each-pass", "state-moves-in-each-pass"]
    assert around.calls == 0
    assert not around.mean.any()
    opt.model = around
    assert letsam.check(opt, closure) == []


@pytest.mark.parametrize("only_in_validation", [False, True])
@pytest.mark.parametrize("given", [False, True])
def test_a_network_apart(given: bool, only_in_validation: bool) -> None:
    model, teacher = network(), Teacher()
    opt = SAM(sgd(model), LearnedRadius(0.1), model=model if given else None)

    def on(seed: int, distils: bool) -> Callable[[], Tensor]:
        def closure() -> Tensor:
            opt.zero_grad()
            x = batch(seed)[0]
            loss = loss_on(model, batch(seed))
            if distils:
                loss = loss + (model(x) - teacher(x).detach()).square().mean()
            loss.backward()
            return loss

        return closure

    before = state_of(teacher)
    found = letsam.check(opt, on(0, not only_in_validation), on(1, True))
    assert same_bits(state_of(teacher), before)
    assert sorted(f.code for f in found) == ["buffers-move-in-each-pass", "state-moves-in-each-pass"]
    assert all("`Teacher." in f.message for f in found)
    opt.model = nn.ModuleList([model, teacher])
    assert letsam.check(opt, on(0, True), on(1, True)) == []


# --- what cannot be put back --------------------------------------------------------------------------------------


class Cache:
    def __init__(self) -> None:
        self.length = 0


def test_an_object_that_changes_the_loss() -> None:
    def change(net: Any, out: Tensor) -> Tensor:
        net.cache.length += 1
        return out * net.cache.length

    model: Any = Stateful(change, cache=Cache())
    opt = SAM(sgd(model.layer), 0.1, model=model)
    found = only(opt, closure_on(model, batch(0)))
    assert (found.code, found.severity) == ("not-deterministic", "error")
    assert "(it changes `cache`, which is not put back before the next pass" in found.message


def test_an_object_that_only_counts() -> None:
    def change(net: Any, out: Tensor) -> Tensor:
        net.meter.length += 1
        return out * 0

    model: Any = Stateful(change, meter=Cache(), state=zeros(3))
    assert letsam.check(SAM(sgd(model.layer), 0.1, model=model), closure_on(model, batch(0))) == []


@pytest.mark.parametrize("max_norm", [None, 0.1, 100.0])
def test_weights_that_a_pass_renormalizes(max_norm: float | None) -> None:
    """Only where it changes them."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(8, 4, max_norm=max_norm), nn.Flatten(), nn.Linear(8, 3))
    before = weights_of(model)
    opt = SAM(torch.optim.SGD(model.parameters(), lr=0.1), LearnedRadius(0.05), model=model)

    def closure_on(x: Tensor) -> Callable[[], Tensor]:
        def closure() -> Tensor:
            opt.zero_grad()
            loss = model(x).square().mean()
            loss.backward()
            return loss

        return closure

    found = codes(opt, closure_on(torch.tensor([[0, 1], [2, 3]])), closure_on(torch.tensor([[4, 5], [6, 7]])))
    assert found.count("weights-move-in-each-pass") == (2 if max_norm == 0.1 else 0)
    assert same_bits(weights_of(model), before)
