"""One contract for every perturbation x radius x base optimizer: real training through torch's own interfaces."""

from __future__ import annotations

import copy
import pickle
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import letsam
from letsam import ASAM, SAM, LearnedRadius, SharpnessAware
from oracle.problems import BASES, WITHOUT_RULE, batch, closure_on, generator, loss_on, same_bits, weights_of

VARIANTS: dict[str, Callable[..., SharpnessAware]] = {
    "SAM": SAM,
    "ASAM": ASAM,
    "ASAM-matrices": lambda base, rho: ASAM(base, rho, scale="matrices", eta=0.01),
}
RADII: dict[str, Callable[[], Any]] = {
    "fixed": lambda: 0.1,
    "cosine": lambda: letsam.CosineRadius(0.2, 0.1, 4),
    "proportional": lambda: letsam.ProportionalRadius(0.2, 0.1),
    "learned": lambda: LearnedRadius(0.1, interval=2),
    "paper": lambda: LearnedRadius.paper(0.1),
}
ALL: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    name: make
    for name, make in (BASES | WITHOUT_RULE).items()
    if name in ("sgd", "momentum", "nesterov", "adam", "adamw", "rmsprop", "adagrad")
}
ALL["adam, no foreach"] = lambda p: torch.optim.Adam(p, lr=0.01, foreach=False)
if hasattr(torch.optim, "Muon"):
    ALL["muon"] = lambda p: torch.optim.Muon(p, lr=0.02)


class Net(nn.Module):
    """4 -> 6 -> 3 without biases (Muon takes matrices only), with a frozen layer and one that is never used."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 6, bias=False)
        self.frozen = nn.Linear(6, 6, bias=False)
        self.last = nn.Linear(6, 3, bias=False)
        self.unused = nn.Linear(2, 2, bias=False)
        self.double()
        g = generator(0)
        with torch.no_grad():
            for p in self.parameters():
                p.copy_(torch.randn(p.shape, generator=g, dtype=torch.float64) * 0.7)
        self.frozen.requires_grad_(False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(torch.tanh(self.frozen(torch.tanh(self.first(x)))))


def train(model: nn.Module, opt: SharpnessAware, first: int, last: int, scheduler: Any = None) -> None:
    for i in range(first, last):
        opt.step(closure_on(model, batch(i)), closure_on(model, batch(50 + i)))
        if scheduler:
            scheduler.step()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("radius", RADII)
@pytest.mark.parametrize("base", ALL)
@pytest.mark.parametrize("variant", VARIANTS)
def test_the_contract(variant: str, base: str, radius: str) -> None:
    model = Net()
    opt = VARIANTS[variant](ALL[base](model.parameters()), RADII[radius]())
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(opt, 12)
    start = {name: p.detach().clone() for name, p in model.named_parameters()}
    fired: list[int] = []
    opt.register_step_post_hook(lambda *_: fired.append(1))
    before = loss_on(model, batch(0)).item()

    # a few steps move what they should, and nothing else
    train(model, opt, 0, 3, scheduler)
    assert fired == [1, 1, 1]
    assert opt.param_groups is opt.base_optimizer.param_groups
    assert opt.param_groups[0]["lr"] < opt.param_groups[0]["initial_lr"]
    moved = {name for name, p in model.named_parameters() if not torch.equal(p, start[name])}
    assert moved == {"first.weight", "last.weight"}

    # copies and files go on alike
    twin, twin_opt = copy.deepcopy((model, opt))
    other, other_opt = pickle.loads(pickle.dumps((model, opt)))
    fresh = Net()
    fresh.load_state_dict(model.state_dict())
    fresh_opt = VARIANTS[variant](ALL[base](fresh.parameters()), RADII[radius]())
    fresh_opt.load_state_dict(copy.deepcopy(opt.state_dict()))
    for m, o in ((model, opt), (twin, twin_opt), (other, other_opt), (fresh, fresh_opt)):
        train(m, o, 3, 6)
        assert o.metrics["skipped_steps"] == 0
        assert same_bits(weights_of(m), weights_of(model))
        assert same_bits(o.state_dict(), opt.state_dict())

    # a new group joins, and the whole still learns
    head = nn.Linear(3, 3, bias=False).double()
    with torch.no_grad():
        head.weight.copy_(torch.eye(3))
    wider = nn.Sequential(model, head)
    opt.add_param_group({"params": [head.weight]})
    train(wider, opt, 6, 30)
    assert not torch.equal(head.weight, torch.eye(3).double())
    assert opt.rho.isfinite()
    assert all(p.isfinite().all() for p in wider.parameters())
    if base != "muon":
        assert loss_on(wider, batch(0)).item() < before


@pytest.mark.parametrize("base", ALL)
@pytest.mark.parametrize("variant", VARIANTS)
def test_it_is_neither_its_base_nor_another_radius(variant: str, base: str) -> None:
    """Replacing the method by the base optimizer, by a fixed radius or by another variant shows."""
    ends = []
    for make in (
        lambda p: SAM(ALL[base](p), rho=0),
        lambda p: VARIANTS[variant](ALL[base](p), 0.1),
        lambda p: VARIANTS[variant](ALL[base](p), LearnedRadius(0.1, interval=1)),
        lambda p: VARIANTS[variant](ALL[base](p), letsam.CosineRadius(0.1, 0.01, 4)),
        lambda p: VARIANTS["SAM" if variant != "SAM" else "ASAM"](ALL[base](p), 0.1),
    ):
        model = Net()
        train(model, make(model.parameters()), 0, 6)
        ends.append(torch.cat([w.reshape(-1) for w in weights_of(model)]))
    for i, left in enumerate(ends):
        for right in ends[i + 1 :]:
            assert (left - right).norm() > 1e-7


@pytest.mark.parametrize("on_base", [False, True])
@pytest.mark.parametrize("radius", ["fixed", "cosine", "proportional"])
@pytest.mark.parametrize("base", ALL)
@pytest.mark.parametrize("variant", VARIANTS)
def test_two_calls(variant: str, base: str, radius: str, on_base: bool) -> None:
    """ascent_step and descent_step are step, bit for bit, and schedulers warn of nothing."""
    models = Net(), Net()
    opts = [VARIANTS[variant](ALL[base](m.parameters()), RADII[radius]()) for m in models]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        schedulers = [torch.optim.lr_scheduler.StepLR(o.base_optimizer if on_base else o, 1, gamma=0.5) for o in opts]
        for i in range(3):
            opts[0].step(closure_on(models[0], batch(i)))
            closure_on(models[1], batch(i))()
            opts[1].ascent_step()
            closure_on(models[1], batch(i))()
            opts[1].descent_step()
            for scheduler in schedulers:
                scheduler.step()
    assert same_bits(weights_of(models[0]), weights_of(models[1]))
    assert same_bits(opts[0].state_dict(), opts[1].state_dict())
