"""One contract for every perturbation x radius x base optimizer: real training through torch's own interfaces."""

from __future__ import annotations

import copy
import functools
import pickle
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import letsam
from contract.pairwise import pairwise
from learned_radius import learned_radius
from letsam import ASAM, SAM, LearnedRadius, SharpnessAware
from letsam.joint import JointOptimizer
from oracle.by_hand import InParts
from oracle.problems import BASES, WITHOUT_RULE, batch, closure_on, generator, loss_on, same_bits, weights_of
from oracle.variants import ROWS


def _from_registry(name: str, kind: type[SharpnessAware]) -> Callable[..., SharpnessAware]:
    return lambda base, rho: kind(base, rho, **ROWS[name].options)  # pyright: ignore


VARIANTS: dict[str, Callable[..., SharpnessAware]] = {
    **{
        kind.__name__: _from_registry(kind.__name__, kind)
        for kind in letsam.variants.VARIANTS.values()
        if not ROWS[kind.__name__].needs_model  # `Net` has no normalisation layers
    },
    "ASAM-matrices": lambda base, rho: ASAM(base, rho, scale="matrices", eta=0.01),
}
WRITTEN_OUT = ("SAM", "ASAM", "ASAM-matrices")
INPUTS, LABELS = zip(*map(batch, range(30)), strict=True)
EVERYTHING = torch.cat(INPUTS), torch.cat(LABELS)  # trained on
WITHOUT_MOMENTUM = ("sgd", "rmsprop", "adagrad")
RADII: dict[str, Callable[[], Any]] = {
    "fixed": lambda: 0.1,
    "linear": lambda: letsam.LinearRadius(0.2, 0.1, 4),
    "cosine": lambda: letsam.CosineRadius(0.2, 0.1, 4),
    "replayed": lambda: letsam.ReplayedRadius([0.2, 0.1, 0.15], steps=9),
    "budget": lambda: letsam.LossBudgetRadius(0.1, maximum=0.2, steps=20),
    "proportional": lambda: letsam.ProportionalRadius(0.2, 0.1),
    "relative": lambda: letsam.relative(letsam.CosineRadius(0.08, 0.04, 4)),
    "layerwise": lambda: letsam.layerwise(0.05),
    "layerwise, learned": lambda: letsam.layerwise(LearnedRadius(0.05, interval=2)),
    "learned": lambda: LearnedRadius(0.1, interval=2),
    "per layer": lambda: LearnedRadius(0.1, interval=2, per="layer"),
    "per group": lambda: learned_radius(0.1, per="group", training_batch="same"),
    "finite difference": lambda: learned_radius(0.1, hypergradient="finite_difference", training_batch="same"),
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


def fits(variant: str, base: str) -> bool:
    return base not in WITHOUT_MOMENTUM or not (variant in ROWS and ROWS[variant].needs_momentum)


def joint(params: Any) -> JointOptimizer:
    """Two optimizers that take the weights, or the groups, in turns."""
    turns = list(params)
    return JointOptimizer([torch.optim.SGD(turns[::2], lr=0.1, momentum=0.9), torch.optim.Adam(turns[1::2], lr=0.01)])


ALL["joint"] = joint
PAIRS = [(variant, base) for variant in VARIANTS for base in ALL if fits(variant, base)]
LEARNS = [name for name, make in RADII.items() if isinstance(make(), LearnedRadius)]
REMEMBERS = ("FSAM", "VaSSO", "LookSAM", "SSAMF", "SSAMD", "AESAM")


def interacted(variant: str, base: str, radius: str) -> bool:
    """What has interacted in a bug, by reading or keeping more than the gradients of a step: all of it is run."""
    if radius not in LEARNS:
        return False
    if variant in ("MSAM", "WSAM"):  # of the base optimizer: its moments and its learning rate
        return True
    return variant in REMEMBERS and base in ("momentum", "adam") and radius in ("layerwise, learned", "per layer")


def combinations(bases: list[str]) -> list[tuple[str, ...]]:
    """Variant, base, radius: every pair of two of them, and whole what has interacted; `bases` in one of its orders."""
    cover = pairwise([list(VARIANTS), bases, list(RADII)], lambda variant, base, radius: fits(variant, base))
    whole = [(*pair, radius) for pair in PAIRS for radius in RADII if interacted(*pair, radius)]
    return list(dict.fromkeys(cover + whole))


def two_calls() -> list[tuple[str, ...]]:
    """Variant, base, radius and what the scheduler is on: every pair of two of them."""
    names = [name for name in VARIANTS if name not in ROWS or ROWS[name].two_calls]
    factors = [names, list(ALL), ["fixed", "cosine", "proportional"], ["scheduler on the wrapper", "on the base"]]
    return pairwise(factors, lambda variant, base, *others: fits(variant, base))


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
    parts = 2 if opt.perturbation.sub_batches > 1 else 1
    for i in range(first, last):
        opt.step(InParts(model, batch(i), parts), closure_on(model, batch(50 + i)))
        if scheduler:
            scheduler.step()


def public(base: type[Any]) -> set[type[Any]]:
    """The public subclasses of a class of `letsam.radius`."""
    found = [getattr(letsam.radius, name) for name in letsam.radius.__all__]
    return {kind for kind in found if isinstance(kind, type) and issubclass(kind, base) and kind is not base}


def test_every_radius_has_a_row() -> None:
    radii = {type(SAM(torch.optim.SGD(Net().parameters()), make()).radius) for make in RADII.values()}
    assert radii == public(letsam.Radius)
    assert {make().units for make in RADII.values() if isinstance(make(), letsam.radius.Radius)} == {
        None,
        "relative",
        "layerwise",
    }


def test_every_rule_has_a_row() -> None:
    assert {type(RADII[name]().rule) for name in LEARNS} == public(letsam.Rule)


@pytest.mark.parametrize("usable", [True, False])
@pytest.mark.parametrize("name", LEARNS)
def test_every_rule_descends(name: str, usable: bool) -> None:
    """The first update after the burn-in decreases the radius if the slope is positive, increases it if negative."""
    moved = []
    for slope in (0.5, -0.5):
        radius = RADII[name]()
        step, reach = radius.rule.burn_in, torch.ones_like(radius.rho)
        update = letsam.radius.Update(step, 1, 1.0, reach, torch.tensor(usable))
        moved.append(radius.rule.propose(radius.rho, slope * reach, update) - radius.rho)
    assert moved[0] < 0 < moved[1] if usable else moved == [0, 0]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("variant", "base", "radius"), combinations(list(ALL)))
def test_the_contract(variant: str, base: str, radius: str) -> None:
    model = Net()
    opt = VARIANTS[variant](ALL[base](model.parameters()), RADII[radius]())
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(opt, 12)
    start = {name: p.detach().clone() for name, p in model.named_parameters()}
    fired: list[int] = []
    opt.register_step_post_hook(lambda *_: fired.append(1))
    before = loss_on(model, EVERYTHING).item()

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
    train(wider, opt, 6, 18)
    assert not torch.equal(head.weight, torch.eye(3).double())
    assert opt.rho.isfinite().all()
    assert all(p.isfinite().all() for p in wider.parameters())
    if base != "muon":
        assert loss_on(wider, EVERYTHING).item() < before


@functools.cache
def end_of(variant: str, base: str, radius: str) -> torch.Tensor:
    """All weights after six steps."""
    rho: Any = {
        "none": 0,
        "fixed": 0.1,
        "learned": LearnedRadius(0.1, interval=1),
        "falling": letsam.CosineRadius(0.1, 0.01, 4),
    }
    model = Net()
    train(model, VARIANTS[variant](ALL[base](model.parameters()), rho[radius]), 0, 6)
    return torch.cat([w.reshape(-1) for w in weights_of(model)])


@pytest.mark.parametrize(("variant", "base"), PAIRS)
def test_it_is_neither_its_base_nor_another_radius(variant: str, base: str) -> None:
    """Replacing the method by the base optimizer, by a fixed radius or by another variant shows."""
    other = "ASAM" if variant in ("SAM", "PreconditionedSAM") else "SAM"  # the latter is SAM where it has no v
    ends = [
        end_of("SAM", base, "none"),
        *(end_of(variant, base, radius) for radius in ("fixed", "learned", "falling")),
        end_of(other, base, "fixed"),
    ]
    for i, left in enumerate(ends):
        for right in ends[i + 1 :]:
            assert (left - right).norm() > 1e-7


@pytest.mark.parametrize(("variant", "base", "radius", "scheduled"), two_calls())
def test_two_calls(variant: str, base: str, radius: str, scheduled: str) -> None:
    """ascent_step and descent_step are step, bit for bit, and schedulers warn of nothing."""
    on_base = scheduled == "on the base"
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


def grouped(base: str, model: Net) -> torch.optim.Optimizer:
    """The base optimizer with two groups, the first with a third of the learning rate."""
    made = ALL[base]([{"params": [model.first.weight]}, {"params": [model.last.weight]}])
    made.param_groups[0]["lr"] /= 3
    return made


def perturbed(variant: str, rho: float, params: list[Any], loss: torch.Tensor) -> list[torch.Tensor]:
    """theta + rho eps_hat, written out: arXiv:2010.01412, equation (2); arXiv:2102.11600, algorithm 1."""
    gradients = torch.autograd.grad(loss, params)
    scales = [{"SAM": torch.ones_like(p), "ASAM": p.abs(), "ASAM-matrices": p.abs() + 0.01}[variant] for p in params]
    length = torch.cat([(t * g).flatten() for t, g in zip(scales, gradients, strict=True)]).norm()
    return [(p + rho * t**2 * g / length).detach() for p, t, g in zip(params, scales, gradients, strict=True)]


@pytest.mark.parametrize("base", ALL)
@pytest.mark.parametrize("variant", WRITTEN_OUT)
def test_groups_with_learning_rates_of_their_own(variant: str, base: str) -> None:
    """The reference: g_rho by hand, and torch's own optimizer with the same groups."""
    model, reference = Net(), Net()
    opt, plain = VARIANTS[variant](grouped(base, model), 0.1), grouped(base, reference)
    params: list[Any] = [reference.first.weight, reference.last.weight]
    for i in range(4):
        opt.step(closure_on(model, batch(i)))

        weights = [p.detach().clone() for p in params]
        climbed = perturbed(variant, 0.1, params, loss_on(reference, batch(i)))
        with torch.no_grad():
            for p, value in zip(params, climbed, strict=True):
                p.copy_(value)
        gradients = torch.autograd.grad(loss_on(reference, batch(i)), params)
        with torch.no_grad():
            for p, value, gradient in zip(params, weights, gradients, strict=True):
                p.copy_(value)
                p.grad = gradient
        plain.step()
    torch.testing.assert_close(weights_of(model), weights_of(reference), rtol=1e-10, atol=1e-12)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("variant", "base", "radius"), combinations(list(ALL)[::-1]))
def test_a_scheduler_on_the_base_is_one_on_the_wrapper(variant: str, base: str, radius: str) -> None:
    ends = []
    for on_base in (False, True):
        model = Net()
        opt = VARIANTS[variant](grouped(base, model), RADII[radius]())
        target = opt.base_optimizer if on_base else opt
        scheduler = torch.optim.lr_scheduler.LambdaLR(target, [lambda t: 0.5**t, lambda t: float(t < 2)])
        train(model, opt, 0, 2, scheduler)
        last = model.last.weight.detach().clone()
        train(model, opt, 2, 4, scheduler)
        assert torch.equal(model.last.weight, last), "the learning rate of this group is 0 by now"
        ends.append((weights_of(model), opt.state_dict()))
    assert same_bits(*ends)


class Gated(nn.Module):
    """`Net` with a further layer that takes part in some passes only."""

    def __init__(self, passes: tuple[bool, ...]) -> None:
        super().__init__()
        self.net = Net()
        self.gate = nn.Linear(4, 3, bias=False).double()
        with torch.no_grad():
            self.gate.weight.copy_(torch.randn(3, 4, generator=generator(1), dtype=torch.float64) * 0.3)
        self.passes = passes
        self.count = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        used = self.passes[self.count % len(self.passes)]
        self.count += 1
        return self.net(x) + (self.gate(x) if used else 0.0)


@pytest.mark.parametrize("passes", [(True, False), (False, True)], ids=["first pass", "second pass"])
@pytest.mark.parametrize(("variant", "base"), PAIRS)
def test_a_weight_without_a_gradient_in_one_pass(variant: str, base: str, passes: tuple[bool, bool]) -> None:
    """In the first pass only: it comes back from the perturbation as it was. In the second only: it descends."""
    model = Gated(passes)
    opt = VARIANTS[variant](ALL[base](model.parameters()), 0.1)
    gate = model.gate.weight.detach().clone()
    row = ROWS.get(variant, ROWS["SAM"])()
    descends = False
    for i in range(3):
        opt.step(InParts(model, batch(i), row.parts))
        assert model.count == sum(row.passes(t) for t in range(i + 1))
        descends |= passes[(model.count - 1) % 2]
    assert opt.metrics["skipped_steps"] == 0
    assert torch.equal(model.gate.weight, gate) != descends


@pytest.mark.parametrize("radius", LEARNS)
@pytest.mark.parametrize("base", ALL)
def test_a_weight_without_a_gradient_now_and_then(base: str, radius: str) -> None:
    """Four passes in seven: each kind of pass of a learned radius sees it at times, and at times does not."""
    model = Gated((True, False, True, False, False, True, True))
    opt = SAM(ALL[base](model.parameters()), RADII[radius]())
    train(model, opt, 0, 8)
    fresh = Gated(model.passes)
    fresh.load_state_dict(model.state_dict())
    fresh.count = model.count
    fresh_opt = SAM(ALL[base](fresh.parameters()), RADII[radius]())
    fresh_opt.load_state_dict(copy.deepcopy(opt.state_dict()))
    for m, o in ((model, opt), (fresh, fresh_opt)):
        train(m, o, 8, 12)
    assert same_bits((weights_of(fresh), fresh_opt.state_dict()), (weights_of(model), opt.state_dict()))
    assert opt.metrics["skipped_steps"] == 0
    assert opt.rho.isfinite().all()
    assert (opt.rho != 0.1).any()
