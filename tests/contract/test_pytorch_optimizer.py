"""The same problem with `pytorch_optimizer`, for each variant that it has too; a difference is a paper's equation."""

from __future__ import annotations

import copy
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import letsam
from oracle import maths
from oracle.by_hand import ByHand
from oracle.problems import batch, closure_on, flat, network

theirs = pytest.importorskip("pytorch_optimizer.optimizer.sam")

RHO = 0.2
BASE: dict[str, Any] = {"lr": 0.1, "momentum": 0.9}
SGD = torch.optim.SGD


def one_tensor() -> nn.Module:
    return nn.Linear(4, 3, bias=False).double()


def gsam(model: nn.Module) -> Any:
    schedule = SimpleNamespace(step=lambda: RHO)
    return theirs.GSAM(model.parameters(), SGD(model.parameters(), **BASE), model, schedule, alpha=0.4)


THEIRS: dict[str, Callable[[nn.Module], Any]] = {
    "SAM": lambda m: theirs.SAM(m.parameters(), SGD, rho=RHO, **BASE),
    "ASAM": lambda m: theirs.SAM(m.parameters(), SGD, rho=RHO, adaptive=True, **BASE),
    "GSAM": gsam,
    "WSAM": lambda m: theirs.WSAM(m, m.parameters(), SGD, rho=RHO, gamma=0.9, **BASE),
    "LookSAM": lambda m: theirs.LookSAM(m.parameters(), SGD, rho=RHO, k=3, alpha=0.7, **BASE),
    "FSAM": lambda m: theirs.FriendlySAM(m.parameters(), SGD, rho=RHO, sigma=1.0, lmbda=0.9, **BASE),
}
OPTIONS: dict[str, dict[str, Any]] = {"LookSAM": {"k": 3}}


def ends(name: str, model: nn.Module, count: int = 8) -> tuple[Tensor, Tensor]:
    """Weights after some steps of letsam and of pytorch_optimizer."""
    other = copy.deepcopy(model)
    opt = getattr(letsam, name)(SGD(model.parameters(), **BASE), RHO, **OPTIONS.get(name, {}))
    their = THEIRS[name](other)
    for t in range(count):
        opt.step(closure_on(model, batch(t)))
        closure = closure_on(other, batch(t))
        if name == "GSAM":
            their.step(torch.enable_grad()(lambda closure=closure: (None, closure())))
            continue
        if name != "WSAM":  # the others want the first gradients before the step
            closure()
        their.step(closure)
    return flat(model.parameters()), flat(other.parameters())


@pytest.mark.parametrize("name", [name for name in THEIRS if name != "LookSAM"])
def test_the_same_steps(name: str) -> None:
    ours, other = ends(name, network())
    torch.testing.assert_close(ours, other, rtol=1e-6, atol=1e-7)  # theirs sums the squares of ||g|| in float32


def test_the_same_steps_of_looksam_on_one_tensor() -> None:
    torch.manual_seed(0)
    ours, other = ends("LookSAM", one_tensor())
    torch.testing.assert_close(ours, other, rtol=1e-5, atol=1e-6)  # theirs adds 1e-8 to ||g_v||


def test_looksam_projects_whole_gradients() -> None:
    """Theirs takes lengths and products tensor by tensor. In algorithm 1 of arXiv:2203.02714 the gradients are those of
    all weights, and so are ||g||, ||g_v|| and the angle between g_s and g: ours is the paper's."""
    model = network()
    by_hand = ByHand("LookSAM", maths.State(*copy.deepcopy((model, SGD(model.parameters(), **BASE)))))
    ours, other = ends("LookSAM", model)
    for t in range(8):
        by_hand.step(batch(t), RHO)
    torch.testing.assert_close(ours, by_hand.state.theta, rtol=1e-9, atol=1e-11)
    assert (ours - other).norm() > 1e-3
