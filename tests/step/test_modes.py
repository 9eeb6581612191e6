"""Training modes: every pass of a step runs in the modes with which the step began."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from learned_radius import learned_radius
from letsam import SAM, LearnedRadius
from oracle.problems import batch, closure_on, same_bits, weights_of

RADII: dict[str, Callable[[], Any]] = {
    "next": lambda: LearnedRadius(0.2, interval=1),
    "same": lambda: learned_radius(0.2, training_batch="same", interval=1),
    "finite difference, same": lambda: learned_radius(
        0.2, hypergradient="finite_difference", training_batch="same", interval=1
    ),
}


class Noting(nn.Dropout):
    """Dropout that notes the mode of each pass."""

    def __init__(self) -> None:
        super().__init__(0.5)
        self.seen: Any = Notes()

    def forward(self, input: Tensor) -> Tensor:
        self.seen.modes.append(self.training)
        return super().forward(input)


class Notes:
    def __init__(self) -> None:
        self.modes: list[bool] = []


def net() -> Any:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), Noting(), nn.Linear(8, 3)).double()


def modes_of(model: nn.Module) -> list[bool]:
    return [module.training for module in model.modules()]


@pytest.mark.parametrize("frozen_part", [False, True])
@pytest.mark.parametrize("radius", RADII)
def test_a_validation_closure_in_evaluation_mode(radius: str, frozen_part: bool) -> None:
    """Training passes stay in training mode, and what they leave is what plain training leaves."""
    model = net()
    if frozen_part:
        model[1].eval()
    start = modes_of(model)
    opt = SAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=RADII[radius](), model=model)
    log: list[str] = []
    for i in range(3):
        log.clear()
        model[2].seen.modes.clear()
        twin = copy.deepcopy(model)
        torch.manual_seed(i)
        twin(batch(i)[0])
        torch.manual_seed(i)
        held_out = closure_on(model, batch(50 + i), log, "validation")
        opt.step(closure_on(model, batch(i), log), lambda held_out=held_out: model.eval() and held_out())
        assert modes_of(model) == start
        assert model[2].seen.modes == [name == "training" for name in log]
        assert set(log) == {"training", "validation"}
        assert same_bits(dict(model.named_buffers()), dict(twin.named_buffers()))
    assert model[1].num_batches_tracked == (0 if frozen_part else 3)


def test_it_is_training_with_a_closure_that_puts_the_modes_back() -> None:
    ends = []
    for tidy in (False, True):
        model = net()
        opt = SAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=LearnedRadius(0.2, interval=1), model=model)

        def held_out(tidy: bool = tidy, model: Any = model) -> Tensor:
            model.eval()
            loss = closure_on(model, batch(50))()
            if tidy:
                model.train()
            return loss

        torch.manual_seed(1)
        for i in range(4):
            opt.step(closure_on(model, batch(i)), held_out)
        ends.append((weights_of(model), opt.state_dict()))
    assert same_bits(*ends)


def test_a_training_closure_that_changes_modes() -> None:
    """The second pass begins as the first; and so does the next step."""
    model = net()
    opt = SAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=0.2, model=model)
    clean = closure_on(model, batch(0))

    def closure() -> Tensor:
        loss = clean()
        model.eval()
        return loss

    for _ in range(3):
        opt.step(closure)
        assert all(modes_of(model))
    assert model[2].seen.modes == [True] * 6


def test_a_closure_that_raises() -> None:
    model = net()
    opt = SAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=0.2, model=model)

    def closure() -> Tensor:
        model.eval()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        opt.step(closure)
    assert all(modes_of(model))


def test_by_hand() -> None:
    model = net()
    opt = SAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=0.2, model=model)
    closure_on(model, batch(0))()
    opt.ascent_step()
    closure_on(model, batch(0))()
    model.eval()
    opt.descent_step()
    assert all(modes_of(model))
