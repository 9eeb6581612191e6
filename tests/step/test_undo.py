"""A loss or gradient that is not finite, in whichever pass, leaves weights, moments and radius as they were."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from learned_radius import learned_radius
from letsam import ASAM, SAM, SSAMD, SSAMF, CosineRadius, LearnedRadius, SharpnessAware
from letsam.step.python_state import is_known
from oracle.problems import BASES, batch, closure_on, flat, loss_on, network, same_bits, weights_of


def run_passes(
    opt: SharpnessAware,
    model: torch.nn.Module,
    i: int,
    bad_call: int | None,
    kind: str = "loss",
    value: float = math.nan,
) -> int:
    """One step whose `bad_call`-th pass (from 1, of either sort) is not finite; returns how many passes ran."""
    calls = [0]

    def spoiled(data: Any) -> Callable[[], Tensor]:
        clean = closure_on(model, data)

        def closure() -> Tensor:
            calls[0] += 1
            loss = clean()
            if calls[0] != bad_call:
                return loss
            if kind == "loss":
                return loss.detach() * value
            grad = next(model.parameters()).grad
            assert grad is not None
            if kind == "entry":
                grad[0, 0] = value
            else:
                for p in model.parameters():
                    p.grad = torch.full_like(p, value)
            return loss

        return closure

    opt.step(spoiled(batch(i)), spoiled(batch(50 + i)))
    return calls[0]


def vital(model: torch.nn.Module, opt: SharpnessAware) -> Any:
    """Everything that a skipped step must not touch: all but the counters, the learning rate's peak and Z."""
    state = copy.deepcopy(opt.state_dict())
    own = state["sharpness_aware"]
    radius = {name: v for name, v in own["radius"].items() if name not in ("Z", "usable")}
    return weights_of(model), state["state"], state["param_groups"], radius


FORMS: dict[str, Callable[[], Any]] = {
    "fixed": lambda: 0.1,
    "secant": lambda: learned_radius(0.1, interval=1, burn_in=0),
    "diagonal gap": lambda: learned_radius(
        0.1, hypergradient="diagonal", objective="squared_gap", interval=1, burn_in=0
    ),
    "finite difference": lambda: learned_radius(0.1, hypergradient="finite_difference", interval=1, burn_in=0),
    "same": lambda: learned_radius(0.1, training_batch="same", interval=1, burn_in=0),
    "paper": lambda: LearnedRadius.paper(0.1),
    "finite difference, same": lambda: learned_radius(
        0.1, hypergradient="finite_difference", training_batch="same", interval=1, burn_in=0
    ),
}
PASSES = {  # in their order; a held-out pass that is not finite does not skip the step (test_held_out.py)
    "fixed": ["weights", "perturbed"],
    "secant": ["held out", "weights", "perturbed"],
    "diagonal gap": ["held out", "weights", "perturbed"],
    "finite difference": ["held out", "weights", "probe", "perturbed"],
    "same": ["weights", "perturbed", "new weights", "held out"],
    "paper": ["weights", "perturbed", "new weights", "held out"],
    "finite difference, same": ["weights", "probe", "perturbed", "new weights", "held out"],
}
TRAINING = [(form, n + 1) for form, passes in PASSES.items() for n, name in enumerate(passes) if name != "held out"]


def halved(radius: dict[str, Any]) -> dict[str, Any]:
    """The state of a radius after a step that failed at the perturbed weights alone."""
    return radius | {"rho": radius["rho"] / 2, "nu": radius["nu"] - math.log(2.0)} if "nu" in radius else radius


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("kind", ["loss", "entry", "all"])
@pytest.mark.parametrize(("form", "bad_call"), TRAINING)
def test_a_step_that_is_not_finite_is_skipped(form: str, bad_call: int, kind: str, value: float) -> None:
    model = network()
    opt = SAM(BASES["momentum"](model.parameters()), rho=FORMS[form]())
    for i in range(3):
        assert run_passes(opt, model, i, None) == len(PASSES[form])
    *before, radius = vital(model, opt)

    run_passes(opt, model, 3, bad_call, kind, value)

    after = radius if PASSES[form][bad_call - 1] == "weights" else halved(radius)
    assert same_bits(vital(model, opt), (*before, after))
    assert opt.metrics["skipped_steps"] == 1
    assert opt.metrics["rho"].isfinite()

    weights, radii = weights_of(model), []
    for i in range(4, 8):
        run_passes(opt, model, i, None)
        radii.append(opt.rho.item())
        assert not same_bits(weights_of(model), weights)
        weights = weights_of(model)
        assert all(w.isfinite().all() for w in weights)
        assert all(v.isfinite() for v in opt.metrics.values()), opt.metrics
    assert opt.metrics["skipped_steps"] == 1
    if form != "fixed":
        assert len(set(radii)) >= 3, "the radius must learn again"
        assert all(0.5 < r / float(after["rho"]) < 2 for r in radii)  # a few steps from there


@pytest.mark.parametrize("bad_call", [2, 3])
@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("variant", [SAM, ASAM])
def test_all_bases(variant: type[SharpnessAware], base: str, bad_call: int) -> None:
    model = network()
    opt = variant(BASES[base](model.parameters()), rho=learned_radius(0.1, interval=1, burn_in=0))
    for i in range(3):
        run_passes(opt, model, i, None)
    *before, radius = vital(model, opt)
    run_passes(opt, model, 3, bad_call)
    assert same_bits(vital(model, opt), (*before, radius if bad_call == 2 else halved(radius)))


FIRST: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    **BASES,
    "adagrad": lambda p: torch.optim.Adagrad(p, lr=0.1),
    "adamax": lambda p: torch.optim.Adamax(p, lr=0.01),
    "nadam": lambda p: torch.optim.NAdam(p, lr=0.01),
    "radam": lambda p: torch.optim.RAdam(p, lr=0.01),
    "adadelta": lambda p: torch.optim.Adadelta(p, lr=1.0),
    "rprop": lambda p: torch.optim.Rprop(p, lr=0.01),
    "asgd": lambda p: torch.optim.ASGD(p, lr=0.01),
    "adafactor": lambda p: torch.optim.Adafactor(p, lr=0.01),
}


@pytest.mark.parametrize("bad_call", [1, 2])
@pytest.mark.parametrize("base", FIRST)
def test_the_very_first_step(base: str, bad_call: int) -> None:
    """The state that the base optimizer has made in a skipped first step counts as not made."""

    def run(spoiled: bool) -> Any:
        model = network()
        opt = SAM(FIRST[base](model.parameters()), rho=0.1)
        if spoiled:
            before = weights_of(model)
            run_passes(opt, model, 99, bad_call)
            assert same_bits(weights_of(model), before)
        seen: list[Any] = []
        for i in range(4):
            run_passes(opt, model, i, None)
            seen.append(copy.deepcopy((weights_of(model), opt.base_optimizer.state_dict()["state"])))
        return seen  # after each step: ASGD's average forgets a wrong beginning in the second one

    assert same_bits(run(True), run(False))


@pytest.mark.parametrize("how", ["nothing", "loaded", "replaced"])
def test_state_that_others_have_put_in_other_dicts(how: str) -> None:
    """Loading keeps the tensors and makes the dicts anew; then a step that makes state for another weight is undone."""
    first, second = (torch.nn.Parameter(torch.ones(2)) for _ in range(2))
    opt = SAM(torch.optim.Adam([first, second], lr=0.1), 0.0)

    def step(*terms: tuple[torch.nn.Parameter, list[float]]) -> None:
        def closure() -> Tensor:
            opt.zero_grad()
            loss = torch.stack([(p * torch.tensor(x)).sum() for p, x in terms]).sum()
            loss.backward()
            return loss

        opt.step(closure)

    for _ in range(2):
        step((first, [1.0, 2.0]))
    if how == "loaded":
        opt.base_optimizer.load_state_dict(opt.base_optimizer.state_dict())
    elif how == "replaced":
        opt.state[first] = dict(opt.state[first])
    before = copy.deepcopy(opt.state[first])
    step((first, [float("nan"), 1.0]), (second, [1.0, 1.0]))
    assert opt.metrics["skipped_steps"] == 1
    assert same_bits(opt.state[first], before)
    assert opt.state[second]["step"] == 0


def test_an_accumulator_begins_where_its_optimizer_begins_it() -> None:
    """Adagrad makes the state of a group that has joined in its step."""
    first, second = (torch.nn.Parameter(torch.ones(2)) for _ in range(2))
    opt = SAM(torch.optim.Adagrad([first], lr=0.1, initial_accumulator_value=0.5), 0.0)
    opt.add_param_group({"params": [second]})

    def closure() -> Tensor:
        opt.zero_grad()
        loss = (first.sum() + second.sum()) * torch.nan
        loss.backward()
        return loss

    opt.step(closure)
    assert opt.metrics["skipped_steps"] == 1
    assert opt.state[second]["sum"].tolist() == [0.5, 0.5]


def test_skipped_steps_are_counted_and_schedules_go_on() -> None:
    model = network()
    opt = SAM(BASES["adam"](model.parameters()), rho=CosineRadius(0.3, 0.1, 6))
    for i in range(6):
        run_passes(opt, model, i, 1 + i % 2 if i in (1, 2, 4) else None)
    assert opt.metrics["skipped_steps"] == 3
    assert opt.state_dict()["sharpness_aware"]["skipped_steps"] == 3
    run_passes(opt, model, 6, None)
    assert opt.rho.item() == pytest.approx(0.1)


@pytest.mark.parametrize("bad", [1, 2])
def test_two_calls(bad: int) -> None:
    model = network()
    opt = SAM(BASES["momentum"](model.parameters()), rho=0.1)
    run_passes(opt, model, 0, None)
    before = vital(model, opt)
    for call in (1, 2):
        closure_on(model, batch(1))()
        if call == bad:
            next(model.parameters()).grad[1, 1] = math.inf
        opt.ascent_step() if call == 1 else opt.descent_step()
    assert same_bits(vital(model, opt), before)
    assert opt.metrics["skipped_steps"] == 1


def test_bf16_overflow() -> None:
    """An overflow that the arithmetic itself makes."""
    w = torch.nn.Parameter(torch.tensor([1.0, 2.0], dtype=torch.bfloat16))
    opt = SAM(torch.optim.SGD([w], lr=0.1, momentum=0.9), rho=learned_radius(0.1, interval=1, burn_in=0))
    size = [1.0]

    def closure() -> Tensor:
        opt.zero_grad()
        loss = ((w * size[0]) ** 2).sum()
        loss.backward()
        return loss

    opt.step(closure, closure)
    before = vital(torch.nn.ParameterList([w]), opt)
    size[0] = 1e30
    opt.step(closure, closure)
    assert same_bits(vital(torch.nn.ParameterList([w]), opt), before)
    size[0] = 1.0
    opt.step(closure, closure)
    assert opt.metrics["skipped_steps"] == 1
    assert w.isfinite().all()


class Rebinding(torch.optim.SGD):
    """Momentum kept in a new tensor at every step, as optimizers outside torch do."""

    def step(self, closure: Any = None) -> None:
        with torch.no_grad():
            for group in self.param_groups:
                for p in group["params"]:
                    old = self.state[p].get("momentum_buffer", torch.zeros_like(p))
                    self.state[p]["momentum_buffer"] = group["momentum"] * old + p.grad
                    p.sub_(self.state[p]["momentum_buffer"], alpha=group["lr"])


def test_a_base_that_replaces_its_state_tensors() -> None:
    model = network()
    opt = SAM(Rebinding(model.parameters(), lr=0.1, momentum=0.9), rho=0.05)
    for i in range(3):
        run_passes(opt, model, i, None)
    before = vital(model, opt)

    run_passes(opt, model, 3, 2)

    assert same_bits(vital(model, opt), before)
    assert opt.metrics["skipped_steps"] == 1


@pytest.mark.parametrize("bad_call", [1, 2, 3, 4, 5])
def test_weights_that_do_not_fill_their_memory(bad_call: int) -> None:
    """Every second column of a matrix, a transposed one and channels-last; what lies between stays, too."""
    whole = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    weights = [torch.nn.Parameter(w) for w in (whole[:, ::2], torch.ones(3, 2).t(), torch.ones(2, 3, 2, 2))]
    weights[2].data = weights[2].data.to(memory_format=torch.channels_last)
    assert not weights[0].is_contiguous()
    opt = SAM(torch.optim.Adam(weights, lr=0.1), learned_radius(0.1, interval=1, training_batch="same"))
    calls = [0]

    def closure() -> Tensor:
        opt.zero_grad()
        calls[0] += 1
        loss = torch.stack([w.pow(4).sum() for w in weights]).sum() * (torch.nan if calls[0] == bad_call else 1.0)
        loss.backward()
        return loss

    between = whole[:, 1::2].clone()
    for step in range(2):
        before = [w.detach().clone() for w in weights], whole.clone()
        calls[0] = 0 if step == 1 else 100
        opt.step(closure, closure)
        moved = not same_bits(([w.detach() for w in weights], whole), before)
        assert moved == (step == 0 or bad_call > 3)  # there are four passes, of which the last is held out
        assert torch.equal(whole[:, 1::2], between)
    assert opt.metrics["skipped_steps"] == (bad_call < 4)


@pytest.mark.parametrize("bad_call", [1, 2])
def test_a_step_undone_before_it_looks_back_is_not_undone_again(bad_call: int) -> None:
    """The sign of a zero would be lost in the second time, and infinity would become NaN."""
    w = torch.nn.Parameter(torch.tensor([-0.0, 1.0]))
    opt = SAM(torch.optim.SGD([w], lr=0.1, momentum=0.9), learned_radius(0.1, interval=1, training_batch="same"))
    calls = [100]

    def closure() -> Tensor:
        opt.zero_grad()
        calls[0] += 1
        loss = w[1].square() * (torch.nan if calls[0] == bad_call else 1.0)
        loss.backward()
        return loss

    opt.step(closure, closure)
    momentum = opt.state[w]["momentum_buffer"]
    momentum[0] = torch.inf
    with torch.no_grad():
        w[0] = -0.0
    before = w.detach().clone(), momentum.clone()
    calls[0] = 0
    opt.step(closure, closure)
    assert opt.metrics["skipped_steps"] == 1
    assert same_bits((w.detach(), opt.state[w]["momentum_buffer"]), before)


class Counting(torch.optim.SGD):
    """Counts its steps in a whole-number tensor for each weight, and in two more under names of its own."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        super().step()
        self.state["global_step"] = self.state.get("global_step", 0) + 1  # pyright: ignore[reportArgumentType, reportOperatorIssue]
        self.state.setdefault("k", torch.zeros((), dtype=torch.int64)).add_(1)  # pyright: ignore[reportArgumentType, reportCallIssue]
        for group in self.param_groups:
            for p in group["params"]:
                self.state[p].setdefault("count", torch.zeros((), dtype=torch.int64)).add_(1)


@pytest.mark.parametrize("bad_step", [0, 2])
@pytest.mark.parametrize("radius", [0.05, LearnedRadius(0.05)])
def test_counters_of_whole_numbers_and_state_under_other_names(radius: Any, bad_step: int) -> None:
    model = network()
    opt = SAM(Counting(model.parameters(), lr=0.1, momentum=0.9), rho=radius)
    for i in range(4):
        before = vital(model, opt)[0]
        run_passes(opt, model, i, 2 if i == bad_step else None)
        assert same_bits(weights_of(model), before) == (i == bad_step)
    counts = {int(opt.state[p]["count"]) for p in model.parameters()}
    assert counts == {3}
    assert int(opt.state["k"]) == opt.state["global_step"] == 3  # pyright: ignore[reportArgumentType]
    assert opt.metrics["skipped_steps"] == 1


def perturbed(opt: SharpnessAware, model: torch.nn.Module, i: int, factor: float = 1.0) -> Tensor:
    """One step; which weights its second pass sees moved."""
    seen: list[Tensor] = []

    def closure() -> Tensor:
        seen.append(flat(model.parameters()))
        opt.zero_grad()
        loss = loss_on(model, batch(i)) * factor
        loss.backward()
        return loss

    opt.step(closure)
    return seen[0] != seen[1]


@pytest.mark.parametrize("skipped", [0, 1, 3])
@pytest.mark.parametrize("interval", [1, 2, 100])
@pytest.mark.parametrize("variant", [SSAMF, SSAMD])
def test_a_mask_is_there_after_the_first_step_that_is_not_skipped(
    variant: type[SharpnessAware], interval: int, skipped: int
) -> None:
    """Of the sparsity asked for, kept until the next is due, and the same in a run that is resumed before it."""
    model = network()
    opt = variant(torch.optim.SGD(model.parameters(), lr=0.1), rho=0.1, sparsity=0.75, interval=interval)
    for i in range(skipped):
        perturbed(opt, model, i, math.inf)
    assert opt.metrics.get("skipped_steps", 0) == skipped
    twin = copy.deepcopy(model)
    resumed = variant(torch.optim.SGD(twin.parameters(), lr=0.1), rho=0.1, sparsity=0.75, interval=interval)
    resumed.load_state_dict(opt.state_dict())

    masks = [perturbed(opt, model, i) for i in range(skipped, skipped + 20)]
    size = masks[0].numel()
    assert all(mask.sum() == size - math.ceil(0.75 * size) for mask in masks)
    renewed = [not torch.equal(*pair) for pair in itertools.pairwise(masks)]
    due = [i % interval == 0 for i in range(skipped + 1, skipped + 20)]
    assert all(a <= b for a, b in zip(renewed, due, strict=True))
    assert any(renewed) == (interval < 100)

    assert all(torch.equal(perturbed(resumed, twin, skipped + i), mask) for i, mask in enumerate(masks))
    assert same_bits((weights_of(twin), resumed.state_dict()), (weights_of(model), opt.state_dict()))


def test_torchs_optimizers_are_left_to_the_device() -> None:
    """All of them, whatever module they say that they come from."""
    kinds = [getattr(torch.optim, name) for name in torch.optim.__all__ if name not in ("Optimizer", "lr_scheduler")]
    made = [kind([torch.nn.Parameter(torch.ones(2, 2))]) for kind in kinds if isinstance(kind, type)]
    assert len(made) >= 13
    assert [type(base).__name__ for base in made if not is_known(base)] == []
