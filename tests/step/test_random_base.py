"""Random numbers that the base optimizer draws are its own: fresh in every step, as without letsam."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from learned_radius import learned_radius
from letsam import SAM, LearnedRadius
from oracle.problems import batch, closure_on, same_bits, weights_of
from step.cases import step_by_hand

RADII: dict[str, Callable[[], Any]] = {
    "fixed": lambda: 0.2,
    "next": lambda: LearnedRadius(0.2, interval=1),
    "same": lambda: learned_radius(0.2, training_batch="same", interval=1),
    "finite difference, same": lambda: learned_radius(
        0.2, hypergradient="finite_difference", training_batch="same", interval=2
    ),
}


NOISE: list[Tensor] = []


class Langevin(torch.optim.SGD):
    """theta <- theta - lr g + noise, which is kept in `NOISE`."""

    def __init__(self, params: Any) -> None:
        super().__init__(params, lr=0.1)

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        super().step()
        for group in self.param_groups:
            for p in group["params"]:
                NOISE.append(torch.randn_like(p))
                p.add_(NOISE[-1], alpha=0.01)


class Counting(Langevin):
    """The same with a counter, because of which it is not called in a step that is not finite."""

    def __init__(self, params: Any) -> None:
        super().__init__(params)
        self.steps = 0

    def step(self, closure: Any = None) -> None:
        super().step()
        self.steps += 1


def net() -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 3)).double()


def drawn_alone(model: nn.Module) -> tuple[list[Tensor], Tensor]:
    """What a plain pass and the base optimizer's step draw from here, and the generator's state after them."""
    start = torch.get_rng_state()
    model(batch(0)[0])
    noise = [torch.randn_like(p) for p in model.parameters()]
    end = torch.get_rng_state()
    torch.set_rng_state(start)
    return noise, end


@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize("radius", RADII)
def test_the_noise_is_that_of_the_base_alone(radius: str, given: bool) -> None:
    model = net()
    base = Langevin(model.parameters())
    opt = SAM(base, rho=RADII[radius](), model=model if given else None)
    for i in range(4):
        expected, end = drawn_alone(model)
        NOISE.clear()
        opt.step(closure_on(model, batch(i)), closure_on(model, batch(50 + i)))
        assert same_bits(NOISE, expected)
        assert torch.equal(torch.get_rng_state(), end)


def test_a_radius_of_zero_is_the_base_alone() -> None:
    model, twin = net(), net()
    opt, alone = SAM(Langevin(model.parameters()), rho=0), Langevin(twin.parameters())
    for m, step in ((model, opt.step), (twin, lambda closure: (alone.zero_grad(), closure(), alone.step()))):
        torch.manual_seed(3)
        for i in range(4):
            step(closure_on(m, batch(i)))
    assert same_bits(weights_of(model), weights_of(twin))


@pytest.mark.parametrize("base", [Langevin, Counting])
def test_a_skipped_step(base: type[Langevin]) -> None:
    """It draws what the base optimizer draws if it is called, which an optimizer with tensors alone is."""
    model = net()
    opt = SAM(base(model.parameters()), rho=0.2)
    clean = closure_on(model, batch(0))
    opt.step(clean)
    start = torch.get_rng_state()
    _, end = drawn_alone(model)
    model(batch(0)[0])
    after_one_pass = torch.get_rng_state()
    torch.set_rng_state(start)
    weights = weights_of(model)
    opt.step(lambda: clean() * math.nan)
    assert opt.metrics["skipped_steps"] == 1
    assert same_bits(weights_of(model), weights)
    assert torch.equal(torch.get_rng_state(), end if base is Langevin else after_one_pass)


def test_a_base_optimizer_that_raises_draws_nothing() -> None:
    class Failing(Langevin):
        def step(self, closure: Any = None) -> None:
            super().step()
            raise MemoryError

    model = net()
    opt = SAM(Failing(model.parameters()), rho=0.2)
    start = torch.get_rng_state()
    with pytest.raises(MemoryError):
        opt.step(closure_on(model, batch(0)))
    assert torch.equal(torch.get_rng_state(), start)


@pytest.mark.parametrize("radius", RADII)
def test_hooks_of_the_base_optimizer_keep_what_they_change(radius: str) -> None:
    """They see the state after the first pass, and what they draw or change on the model stays."""
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)).double()
    norm: Any = model[1]
    opt = SAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=RADII[radius](), model=model)
    seen: list[int] = []

    def hook(*_: Any) -> None:
        seen.append(int(norm.num_batches_tracked))
        norm.running_mean.fill_(len(seen))
        norm.momentum = 0.1 / len(seen)

    opt.base_optimizer.register_step_post_hook(hook)
    for i in range(3):
        opt.step(closure_on(model, batch(i)), closure_on(model, batch(50 + i)))
        assert seen[-1] == norm.num_batches_tracked == i + 1
        assert (norm.running_mean == i + 1).all()
        assert norm.momentum == 0.1 / (i + 1)


def test_by_hand_is_step() -> None:
    ends = []
    for by_hand in (False, True):
        model = net()
        opt = SAM(Langevin(model.parameters()), rho=0.2)
        torch.manual_seed(4)
        for i in range(3):
            closure = closure_on(model, batch(i))
            if by_hand:
                step_by_hand(model, opt, closure)
            else:
                opt.step(closure)
        ends.append((weights_of(model), torch.get_rng_state()))
    assert same_bits(*ends)
