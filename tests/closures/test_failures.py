"""An exception of a closure keeps its type and says in a note which closure has raised it, in the step's every pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import letsam
from oracle.problems import batch, closure_on, same_bits, weights_of


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 3)).double()


def failing(closure: Callable[[], Tensor], calls: int) -> Callable[[], Tensor]:
    """Fails in the call of this number, counted from 1."""
    count = [0]

    def call() -> Tensor:
        count[0] += 1
        if count[0] == calls:
            raise KeyError("no such column")
        return closure()

    return call


@pytest.mark.parametrize(("training", "held_out", "name"), [(1, 9, "closure"), (2, 9, "closure"), (9, 1, "validation")])
def test_the_note_names_the_closure(training: int, held_out: int, name: str) -> None:
    model = net()
    opt = letsam.SAM(
        torch.optim.SGD(model.parameters(), lr=0.1), rho=letsam.LearnedRadius(0.1, interval=1), model=model
    )
    closures: Any = closure_on(model, batch(0)), closure_on(model, batch(1))
    opt.step(*closures)
    before = weights_of(model)
    with pytest.raises(KeyError, match="no such column") as raised:
        opt.step(failing(closures[0], training), failing(closures[1], held_out))
    expected = "validation_closure" if name == "validation" else "closure"
    assert raised.value.__notes__ == [f"This was raised in a step of the letsam optimizer, by `{expected}`."]
    assert same_bits(weights_of(model), before)


def test_a_held_out_batch_of_one_row_under_batchnorm() -> None:
    model = net()
    opt = letsam.SAM(
        torch.optim.SGD(model.parameters(), lr=0.1), rho=letsam.LearnedRadius(0.1, interval=1), model=model
    )
    opt.step(closure_on(model, batch(0)), closure_on(model, batch(1)))
    with pytest.raises(ValueError, match="more than 1 value per channel") as raised:
        opt.step(closure_on(model, batch(2)), closure_on(model, batch(3, size=1)))
    (note,) = raised.value.__notes__
    assert "by `validation_closure`: BatchNorm needs more than one row, use drop_last=True in the loader" in note
