"""Equal dropout masks in all training passes of a step, and generators where a single pass would leave them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import letsam
from learned_radius import learned_radius
from letsam import ASAM, SAM, LearnedRadius, SharpnessAware
from letsam.step.randomness import devices_of, read_states, stream, write_states
from oracle.problems import BASES, batch, closure_on, same_bits, weights_of
from step.cases import failing_in, step_by_hand

RADII: dict[str, Callable[[], Any]] = {
    "fixed": lambda: 0.2,
    "next": lambda: LearnedRadius(0.2, interval=1),
    "same": lambda: learned_radius(0.2, training_batch="same", interval=1),
    "finite difference": lambda: learned_radius(0.2, hypergradient="finite_difference", interval=1),
    "finite difference, same": lambda: learned_radius(
        0.2, hypergradient="finite_difference", training_batch="same", interval=1
    ),
}
TRAINING_PASSES = {"fixed": 2, "next": 2, "same": 3, "finite difference": 3, "finite difference, same": 4}


class Masks(nn.Dropout):
    """Dropout that notes which entries it has kept."""

    def __init__(self) -> None:
        super().__init__(0.5)
        self.seen: list[Tensor] = []

    def forward(self, input: Tensor) -> Tensor:
        mask = super().forward(torch.ones_like(input))
        self.seen.append(mask.detach().clone())
        return input * mask


def net() -> nn.Sequential:
    g = torch.Generator().manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), Masks(), nn.Linear(16, 3)).double()
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=g, dtype=torch.float64))
    return model


def masks_of(model: nn.Sequential) -> list[Tensor]:
    layer = model[2]
    assert isinstance(layer, Masks)
    return layer.seen


def equal(masks: list[Tensor]) -> bool:
    return all(torch.equal(mask, masks[0]) for mask in masks)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(7)


@pytest.mark.parametrize("base", ["momentum", "adamw"])
@pytest.mark.parametrize("radius", RADII)
@pytest.mark.parametrize("variant", [SAM, ASAM])
def test_masks_and_generator(variant: Callable[..., SharpnessAware], radius: str, base: str) -> None:
    model = net()
    opt = variant(BASES[base](model.parameters()), rho=RADII[radius]())
    first_masks, held_out_masks = [], []
    for i in range(4):
        masks, log = masks_of(model), []
        masks.clear()
        start = torch.get_rng_state()
        loss = opt.step(closure_on(model, batch(i), log), closure_on(model, batch(50 + i), log, "validation"))
        end = torch.get_rng_state()

        training = [m for m, name in zip(masks, log, strict=True) if name == "training"]
        assert len(training) == TRAINING_PASSES[radius]
        assert equal(training)
        first_masks.append(training[0])
        held_out_masks += [m for m, name in zip(masks, log, strict=True) if name == "validation"]

        torch.set_rng_state(start)  # the reference: one plain pass from the same state
        one = nn.functional.dropout(torch.ones(12, 16, dtype=torch.float64), 0.5)
        assert torch.equal(one, training[0])
        assert torch.equal(torch.get_rng_state(), end)
        assert not torch.equal(start, end)
        assert loss.isfinite()

    every = first_masks + held_out_masks
    assert len(held_out_masks) == (0 if radius == "fixed" else 4)
    assert len({tuple(m.flatten().tolist()) for m in every}) == len(every), "no two draws of the run may be equal"


def test_the_returned_losses_are_of_one_function() -> None:
    """With equal masks and a radius of nearly 0 both passes return nearly the same loss; else they would not."""
    model = net()
    opt = SAM(BASES["sgd"](model.parameters()), rho=1e-9)
    losses: list[float] = []
    clean = closure_on(model, batch(0))
    opt.step(lambda: losses.append((loss := clean()).item()) or loss)
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    torch.manual_seed(1)
    assert clean().item() != pytest.approx(losses[0], rel=1e-3)


@pytest.mark.parametrize("training_batch", ["next", "same"])
def test_validation_draws_anew_where_training_draws_nothing(training_batch: str) -> None:
    """Closures that pick a batch at random: validation must not see the same one for ever, and not move the stream."""
    model = nn.Linear(4, 3).double()
    opt = SAM(BASES["sgd"](model.parameters()), rho=learned_radius(0.1, training_batch=training_batch, interval=1))
    drawn: list[int] = []

    def held_out() -> Tensor:
        drawn.append(int(torch.randint(10**9, ())))
        return closure_on(model, batch(drawn[-1] % 100))()

    start = torch.get_rng_state()
    for i in range(6):
        opt.step(closure_on(model, batch(i)), held_out)
    assert len(set(drawn)) == 6
    assert torch.equal(torch.get_rng_state(), start)


@pytest.mark.parametrize("radius", RADII)
def test_resuming(radius: str) -> None:
    """Weights, optimizer and generators are all that a run needs to go on bit for bit, validation's stream included."""
    model = net()
    opt = SAM(BASES["momentum"](model.parameters()), rho=RADII[radius]())

    def train(model: nn.Module, opt: SharpnessAware, first: int, last: int) -> None:
        for i in range(first, last):
            opt.step(closure_on(model, batch(i)), closure_on(model, batch(50 + i)))

    train(model, opt, 0, 3)
    fresh = net()
    fresh.load_state_dict(model.state_dict())
    fresh_opt = SAM(BASES["momentum"](fresh.parameters()), rho=RADII[radius]())
    fresh_opt.load_state_dict(copy.deepcopy(opt.state_dict()))
    random = torch.get_rng_state()
    train(model, opt, 3, 6)
    torch.manual_seed(99)
    torch.set_rng_state(random)
    train(fresh, fresh_opt, 3, 6)
    assert same_bits((weights_of(fresh), fresh_opt.state_dict()), (weights_of(model), opt.state_dict()))


@pytest.mark.parametrize("fail_at", [1, 2, 3, 4, 5])
def test_a_closure_that_raises_draws_nothing(fail_at: int) -> None:
    model = net()
    opt = SAM(BASES["momentum"](model.parameters()), rho=RADII["finite difference, same"]())
    failing = failing_in(model, fail_at)
    start = torch.get_rng_state()
    with pytest.raises(KeyboardInterrupt):
        opt.step(failing(0), failing(50))
    assert torch.equal(torch.get_rng_state(), start)


# --- loops by hand ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", [False, True])
def test_by_hand_is_step(given: bool) -> None:
    ends = []
    for by_hand in (False, True):
        torch.manual_seed(3)
        model = net().append(nn.BatchNorm1d(3).double())
        opt = SAM(BASES["momentum"](model.parameters()), rho=0.2, model=model if given else None)
        for i in range(3):
            closure = closure_on(model, batch(i))
            if by_hand:
                step_by_hand(model, opt, closure)
            else:
                opt.step(closure)
        ends.append((weights_of(model), dict(model.state_dict()), torch.get_rng_state()))
    assert same_bits(*ends)


def test_streams_follow_the_global_seed() -> None:
    cpu = torch.device("cpu")
    drawn = []
    for seed, number in ((1, 0), (1, 1), (2, 0), (1, 0)):
        torch.manual_seed(seed)
        write_states(stream([cpu], number))
        drawn.append(torch.rand(()).item())
    assert len(set(drawn)) == 3
    assert drawn[0] == drawn[3]


def test_replayed_randomness() -> None:
    model = net()
    start = torch.get_rng_state()
    first = torch.rand(3)
    after_one = torch.get_rng_state()
    torch.set_rng_state(start)
    replay = letsam.ReplayedRandomness(model)
    for _ in range(3):
        with replay:
            assert torch.equal(torch.rand(3), first)
        assert torch.equal(torch.get_rng_state(), after_one)

    def fails() -> None:
        with replay:
            torch.rand(100)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fails()
    assert torch.equal(torch.get_rng_state(), after_one)
    with pytest.raises(TypeError, match=r"`model` must be a torch\.nn\.Module, got 3"):
        letsam.ReplayedRandomness(3)  # pyright: ignore[reportArgumentType]


# --- other devices ------------------------------------------------------------------------------------------------


def test_the_generators_of_other_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each device of the weights has a generator, read and set through torch's module for it."""
    states = {"cuda:0": torch.tensor([1]), "cuda:1": torch.tensor([2])}
    module = SimpleNamespace(
        get_rng_state=lambda device: states[str(device)].clone(),
        set_rng_state=lambda state, device: states.update({str(device): state}),
    )
    monkeypatch.setattr(torch, "get_device_module", lambda device: module)
    cuda = [SimpleNamespace(device=torch.device(name)) for name in ("cuda:0", "cpu", "cuda:1", "meta")]
    devices = devices_of(cuda)  # pyright: ignore[reportArgumentType]
    assert sorted(map(str, devices)) == ["cpu", "cuda:0", "cuda:1"]
    saved = read_states(devices)
    states |= {"cuda:0": torch.tensor([3]), "cuda:1": torch.tensor([4])}
    drawn = torch.rand(2)
    write_states(saved)
    assert [states[name].item() for name in ("cuda:0", "cuda:1")] == [1, 2]
    assert torch.equal(torch.rand(2), drawn)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda() -> None:
    model = net().cuda()
    opt = SAM(BASES["momentum"](model.parameters()), rho=LearnedRadius(0.2, interval=1))
    x, y = (t.cuda() for t in batch(0))
    start = torch.cuda.get_rng_state()
    opt.step(closure_on(model, (x, y)), closure_on(model, (x, y)))
    held_out, first, second = masks_of(model)
    assert torch.equal(first, second)
    assert not torch.equal(first, held_out)
    end = torch.cuda.get_rng_state()
    torch.cuda.set_rng_state(start)
    model(x)
    assert torch.equal(torch.cuda.get_rng_state(), end)
