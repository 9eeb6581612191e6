"""Running statistics and other buffers move once in a step: exactly as in one plain training pass."""

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
from learned_radius import learned_radius
from letsam import ASAM, SAM, LearnedRadius, SharpnessAware
from oracle.problems import BASES, batch, closure_on, same_bits, weights_of

RADII: dict[str, Callable[[], Any]] = {
    "fixed": lambda: 0.2,
    "next": lambda: LearnedRadius(0.2, interval=1),
    "same": lambda: learned_radius(0.2, training_batch="same", interval=1),
    "paper": lambda: LearnedRadius.paper(0.2),
    "finite difference": lambda: learned_radius(0.2, hypergradient="finite_difference", interval=1),
    "finite difference, same": lambda: learned_radius(
        0.2, hypergradient="finite_difference", training_batch="same", interval=2
    ),
}

PASSES = {"fixed": 2, "next": 3, "same": 4, "paper": 4, "finite difference": 4, "finite difference, same": 5}


class Counter(nn.Module):
    """Puts a new tensor in the place of its buffer at every pass."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.calls = self.calls + 1
        return x


class Net(nn.Module):
    """Every sort of statistics: exponential and cumulative averages, a frozen layer, power iterations, a counter."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(4, 6),
            nn.BatchNorm1d(6),
            Counter(),
            nn.Tanh(),
            nn.utils.parametrizations.spectral_norm(nn.Linear(6, 6)),
            nn.BatchNorm1d(6, momentum=None),
            nn.Unflatten(1, (2, 3)),
            nn.InstanceNorm1d(2, track_running_stats=True),
            nn.Flatten(),
            nn.BatchNorm1d(6, track_running_stats=False),
            nn.BatchNorm1d(6),
            nn.Linear(6, 3),
        )
        self.frozen.register_buffer("running_mean", torch.full((6,), 0.5))
        self.double()
        self.train()

    @property
    def frozen(self) -> nn.BatchNorm1d:
        layer = self.layers[10]
        assert isinstance(layer, nn.BatchNorm1d)
        return layer

    def train(self, mode: bool = True) -> Net:
        super().train(mode)
        self.frozen.eval()
        return self

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


def net() -> Net:
    torch.manual_seed(0)
    return Net()


def buffers_of(model: nn.Module) -> dict[str, Tensor]:
    return {name: b.detach().clone() for name, b in model.named_buffers()}


def one_pass(model: nn.Module, data: Any) -> dict[str, Tensor]:
    """The buffers that one plain training pass at the model's weights leaves: the reference, without letsam."""
    twin = copy.deepcopy(model)
    twin(data[0])
    return buffers_of(twin)


def small() -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 3)).double()


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)


# --- once, in the first training pass -----------------------------------------------------------------------------


@pytest.mark.parametrize("base", ["momentum", "adamw"])
@pytest.mark.parametrize("radius", RADII)
@pytest.mark.parametrize("variant", [SAM, ASAM])
def test_buffers_move_once(variant: Callable[..., SharpnessAware], radius: str, base: str) -> None:
    model = net()
    opt = variant(BASES[base](model.parameters()), rho=RADII[radius](), model=model)
    start, log = buffers_of(model), []
    for i in range(4):
        log.clear()
        expected = one_pass(model, batch(i))
        opt.step(closure_on(model, batch(i), log), closure_on(model, batch(50 + i), log))
        assert same_bits(buffers_of(model), expected)

    assert len(log) == PASSES[radius]
    moved = {name.split(".")[1] for name, b in buffers_of(model).items() if not torch.equal(b, start[name])}
    assert moved == {"1", "2", "4", "5", "7"}, "the frozen layer's must stay, all others move"
    assert model.layers[1].num_batches_tracked == model.layers[5].num_batches_tracked == 4
    assert opt.metrics["skipped_steps"] == 0


def test_without_the_model_they_move_in_every_pass() -> None:
    model = net()
    opt = SAM(sgd(model), rho=LearnedRadius(0.2, interval=1))
    opt.step(closure_on(model, batch(0)), closure_on(model, batch(50)))
    assert model.layers[1].num_batches_tracked == 3


def test_the_weights_do_not_depend_on_the_statistics() -> None:
    """In training mode BatchNorm does not use them: with and without `model` the same steps."""
    ends = []
    for given in (False, True):
        model = small()
        opt = SAM(sgd(model), rho=LearnedRadius(0.2, interval=1), model=model if given else None)
        for i in range(4):
            opt.step(closure_on(model, batch(i)), closure_on(model, batch(50 + i)))
        ends.append((weights_of(model), opt.state_dict()))
    assert same_bits(*ends)


def test_by_hand() -> None:
    model = net()
    opt = SAM(sgd(model), rho=0.2, model=model)
    for i in range(3):
        expected = one_pass(model, batch(i))
        closure_on(model, batch(i))()
        opt.ascent_step()
        closure_on(model, batch(i))()
        opt.descent_step()
        assert same_bits(buffers_of(model), expected)


def test_by_hand_given_up() -> None:
    """A descent_step() that raises, or that never comes: weights and buffers as the first pass has left them."""
    model = net()
    opt = SAM(sgd(model), rho=0.2, model=model)
    weights, expected = weights_of(model), one_pass(model, batch(0))
    for _ in range(2):
        closure_on(model, batch(0))()
        opt.ascent_step()
        model(batch(1)[0])
        model.zero_grad()
        with pytest.raises(ValueError, match="must leave gradients"):
            opt.descent_step()
        assert same_bits((weights_of(model), buffers_of(model)), (weights, expected))
        expected = one_pass(model, batch(0))
    closure_on(model, batch(0))()
    opt.ascent_step()
    model(batch(1)[0])
    opt.load_state_dict(opt.state_dict())
    assert same_bits((weights_of(model), buffers_of(model)), (weights, expected))


# --- steps that are not completed ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("radius", "fail_at"), [(r, n + 1) for r, count in PASSES.items() for n in range(count)])
@pytest.mark.parametrize("how", ["raises", "nan"])
def test_a_step_that_fails_moves_nothing(how: str, radius: str, fail_at: int) -> None:
    model = net()
    opt = SAM(sgd(model), rho=RADII[radius](), model=model)
    opt.step(closure_on(model, batch(0)), closure_on(model, batch(50)))
    calls, failed = [0], [0]

    def failing(seed: int) -> Callable[[], Tensor]:
        def closure() -> Tensor:
            calls[0] += 1
            loss = closure_on(model, batch(seed))()
            if calls[0] == fail_at:
                failed[0] = seed
                if how == "raises":
                    raise KeyboardInterrupt
                return loss.detach() * math.nan
            return loss

        return closure

    weights, before, after = weights_of(model), buffers_of(model), one_pass(model, batch(1))
    if how == "raises":
        with pytest.raises(KeyboardInterrupt):
            opt.step(failing(1), failing(51))
    else:
        opt.step(failing(1), failing(51))
    counts = how == "nan" and failed == [51]  # a validation batch that is not finite skips the radius' update alone
    assert opt.metrics["skipped_steps"] == (how == "nan" and not counts)
    assert calls[0] >= fail_at
    assert same_bits(weights_of(model), weights) != counts
    assert same_bits(buffers_of(model), after if counts else before)

    expected = one_pass(model, batch(2))
    opt.step(closure_on(model, batch(2)), closure_on(model, batch(52)))
    assert same_bits(buffers_of(model), expected)


def test_a_base_optimizer_that_raises() -> None:
    class Failing(torch.optim.SGD):
        def step(self, closure: Any = None) -> None:
            raise MemoryError

    model = net()
    opt = SAM(Failing(model.parameters(), lr=0.1), rho=0.2, model=model)
    weights, before = weights_of(model), buffers_of(model)
    with pytest.raises(MemoryError):
        opt.step(closure_on(model, batch(0)))
    assert same_bits((weights_of(model), buffers_of(model)), (weights, before))


def test_an_overflow_does_not_reach_the_statistics() -> None:
    model = small()
    opt = SAM(sgd(model), rho=0.2, model=model)
    opt.step(closure_on(model, batch(0)))
    before = buffers_of(model)
    x, y = batch(1)
    opt.step(closure_on(model, (x * math.inf, y)))
    assert same_bits(buffers_of(model), before)
    assert opt.metrics["skipped_steps"] == 1


# --- frozen_statistics --------------------------------------------------------------------------------------------


def test_frozen_statistics() -> None:
    model = net()
    before = buffers_of(model)
    with letsam.frozen_statistics(model):
        model(batch(0)[0])
        inner = buffers_of(model)
        with letsam.frozen_statistics(model):
            model(batch(1)[0])
            assert not same_bits(buffers_of(model), inner)
        assert same_bits(buffers_of(model), inner)
        assert not same_bits(inner, before)
    assert same_bits(buffers_of(model), before)

    def fails() -> None:
        with letsam.frozen_statistics(model):
            model(batch(0)[0])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fails()
    assert same_bits(buffers_of(model), before)
    expected = one_pass(model, batch(2))
    model(batch(2)[0])
    assert same_bits(buffers_of(model), expected), "nothing must stay frozen"


def test_frozen_statistics_compute_alike_and_keep_gradients() -> None:
    model = small()
    outputs, gradients = [], []
    for mode in (True, False):
        model.train(mode)
        with letsam.frozen_statistics(model):
            closure_on(model, batch(0))()
            gradients.append([p.grad for p in model.parameters()])
            outputs.append(model(batch(0)[0]))
        outputs.append(copy.deepcopy(model)(batch(0)[0]))
    assert torch.equal(outputs[0], outputs[1])
    assert torch.equal(outputs[2], outputs[3])
    assert not torch.equal(outputs[0], outputs[2])
    for mode, expected in ((False, gradients[1]), (True, gradients[0])):
        model.train(mode)
        closure_on(model, batch(0))()
        assert same_bits([p.grad for p in model.parameters()], expected)


def test_lazy_layers_and_models_without_buffers() -> None:
    lazy = nn.Sequential(nn.LazyBatchNorm1d())
    with letsam.frozen_statistics(lazy):
        pass
    with letsam.frozen_statistics(nn.Linear(2, 2)):
        pass


def test_layers_that_join_later_are_followed() -> None:
    model = small()
    opt = SAM(sgd(model), rho=0.2, model=model)
    opt.step(closure_on(model, batch(0)))
    model.append(nn.BatchNorm1d(3).double())
    expected = one_pass(model, batch(1))
    opt.step(closure_on(model, batch(1)))
    assert same_bits(buffers_of(model), expected)
    model.float()
    single = (batch(2)[0].float(), batch(2)[1])
    expected = one_pass(model, single)
    opt.step(closure_on(model, single))
    assert same_bits(buffers_of(model), expected)


# --- the model and copies of the optimizer ------------------------------------------------------------------------


def test_state_dict_copies_and_pickles() -> None:
    model = small()
    opt = SAM(sgd(model), rho=0.2, model=model)
    opt.step(closure_on(model, batch(0)))
    assert list(opt.state_dict()["sharpness_aware"]) == [
        "radius",
        "perturbation",
        "steps",
        "rested",
        "without_radius",
        "skipped_steps",
        "peak_lr",
    ]
    assert opt.model is model

    assert copy.deepcopy(opt).model is None
    twin, twin_opt = copy.deepcopy((model, opt))
    assert twin_opt.model is twin
    for m, o in ((model, opt), (twin, twin_opt)):
        o.step(closure_on(m, batch(1)))
    assert same_bits((weights_of(twin), buffers_of(twin)), (weights_of(model), buffers_of(model)))
    assert buffers_of(twin)["1.num_batches_tracked"] == 2

    model.register_forward_hook(lambda *_: None)  # no pickle could hold this
    again = pickle.loads(pickle.dumps(opt))
    assert again.model is None
    assert same_bits(again.state_dict(), opt.state_dict())


@pytest.mark.parametrize("variant", [SAM, ASAM])
def test_errors_name_the_model(variant: Callable[..., SharpnessAware]) -> None:
    model = small()
    with pytest.raises(TypeError, match=r"`model` must be a torch\.nn\.Module, got 3"):
        variant(sgd(model), model=3)
    with pytest.raises(ValueError, match=r"`model` must hold the weights of the optimizer, got a Linear with none"):
        variant(sgd(model), model=nn.Linear(2, 2))
    opt = variant(sgd(model))
    with pytest.raises(TypeError, match="`model` must be"):
        opt.model = "resnet"  # pyright: ignore[reportAttributeAccessIssue]
    assert opt.model is None
    bad: Any = [model]
    with pytest.raises(TypeError, match="`model` must be"), letsam.frozen_statistics(bad):
        pass
