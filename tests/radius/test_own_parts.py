"""An objective and a rule of one's own: LearnedRadius gives them the right slopes, and guards what they return."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from letsam import SAM, LearnedRadius, LookSAM, Objective, Rule
from letsam.radius import Evidence, Update
from oracle.problems import batch, closure_on, network, same_bits, snapshot

LR, RATE, WEIGHT = 0.1, 0.05, 0.7


class PenalizedGap(Objective):
    """L_vl + WEIGHT gap^2 / 2."""

    uses_training_slope = True

    def derivative(self, evidence: Evidence, validation_slope: Tensor, training_slope: Tensor | None) -> Tensor:
        assert training_slope is not None
        return validation_slope + WEIGHT * evidence.gap * (validation_slope - training_slope)


class Descent(Rule):
    """log(rho) moves by -RATE * slope for each step that an update stands for."""

    def __init__(self, bounds: tuple[float, float] = (1e-4, 10.0), normalize: bool = True) -> None:
        super().__init__(bounds)
        self.normalize = normalize
        self.updates: list[Update] = []

    def move(self, rho: Tensor, slope: Tensor, update: Update) -> Tensor:
        self.updates.append(update)
        return rho * (-RATE * update.steps * slope).exp()


class Momentum(Rule):
    """The same with an average of the slopes, which is state: proposed by `move`, kept by `commit`."""

    def start(self, rho: Tensor) -> None:
        self.average = self.proposed = torch.zeros_like(rho)

    def grow(self, count: int, rho: float) -> None:
        self.average = self.proposed = self.average.new_zeros(count)

    def to(self, device: torch.device, dtype: torch.dtype) -> None:
        self.average = self.proposed = self.average.to(device=device, dtype=dtype)

    def move(self, rho: Tensor, slope: Tensor, update: Update) -> Tensor:
        self.proposed = 0.9 * self.average + slope
        return rho * (-RATE * self.proposed).exp()

    def commit(self, finite: Tensor) -> None:
        self.average = self.proposed = torch.where(finite, self.proposed, self.average)

    def discard(self) -> None:
        self.proposed = self.average

    def state_dict(self) -> dict[str, Any]:
        return {"average": self.average.clone()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.average = self.proposed = torch.as_tensor(state["average"]).to(self.average, copy=True)


class Fixed(Rule):
    """Returns what it is given, whatever the slope."""

    def __init__(self, value: float) -> None:
        super().__init__((0.05, 0.2))
        self.value = value

    def move(self, rho: Tensor, slope: Tensor, update: Update) -> Tensor:
        return torch.full_like(rho, self.value)


class Growth(Rule):
    """A tenth more at every update, whatever the slope."""

    def move(self, rho: Tensor, slope: Tensor, update: Update) -> Tensor:
        return rho * 1.1


def by_tensor(params: list[Tensor], per: str) -> list[Tensor]:
    """The gradients, as one vector or one for each weight tensor."""
    grads = [p.grad.flatten().clone() for p in params if p.grad is not None]
    return [torch.cat(grads)] if per == "all" else grads


def projected(change: Tensor, gradient: Tensor) -> Tensor:
    return change - (change @ gradient) / (gradient @ gradient) * gradient


def slope_along(gradient: Tensor, z: Tensor, rho: float, normalize: bool) -> tuple[float, float]:
    """The derivative of a loss along rho, and the slope that the rule is to see: the cosine, or along log(rho)."""
    value = (gradient @ z).item()
    return value, value / (gradient.norm() * z.norm()).item() if normalize else rho * value


Pass = tuple[float, list[Tensor]]  # the loss and the gradients


def watched_steps(
    radius: LearnedRadius, per: str, steps: int
) -> Iterator[tuple[SAM, list[Pass], tuple[list[float], list[float]]]]:
    """Per step: the optimizer after it, its passes, and the radii before it and those it climbed with."""
    model = network()
    params: list[Any] = list(model.parameters())
    opt = SAM(torch.optim.SGD(params, lr=LR), rho=radius)
    for i in range(steps):
        passes: list[Pass] = []

        def watched(inner: Callable[[], Tensor], passes: list[Pass] = passes) -> Callable[[], Tensor]:
            def closure() -> Tensor:
                loss = inner()
                passes.append((loss.item(), by_tensor(params, per)))
                return loss

            return closure

        before = opt.rho.reshape(-1).tolist()
        opt.step(watched(closure_on(model, batch(i))), watched(closure_on(model, batch(50 + i))))
        yield opt, passes, (before, opt.rho.reshape(-1).tolist())


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("per", ["all", "layer"])
def test_own_parts_get_the_slopes_that_the_passes_give(per: str, normalize: bool) -> None:
    """Z, both slopes, the objective's derivative and the rule's move, worked out by hand from losses and gradients."""
    radius = LearnedRadius(0.1, objective=PenalizedGap(), rule=Descent(normalize=normalize), per=per, interval=1)
    tangents: list[Tensor] = []
    moved: list[float] = []
    for opt, passes, (before, after) in watched_steps(radius, per, 8):
        (validation, held_out), (training, first), (_, second) = passes
        if not tangents:
            assert after == before, "the first step has no Z behind it"
        gap = validation - training
        for j, z in enumerate(tangents):
            vl, vl_scaled = slope_along(held_out[j], z, before[j], normalize)
            tr, tr_scaled = slope_along(first[j], z, before[j], normalize)
            hypergradient, slope = (v + WEIGHT * gap * (v - t) for v, t in ((vl, tr), (vl_scaled, tr_scaled)))
            reported = opt.metrics["hypergradient"].reshape(-1)[j].item()
            assert reported == pytest.approx(hypergradient, rel=1e-8, abs=1e-12)
            assert after[j] == pytest.approx(before[j] * math.exp(-RATE * slope), rel=1e-9)
            moved.append(abs(after[j] / before[j] - 1))
        tangents = [-LR * projected((b - a) / r, b) for a, b, r in zip(first, second, after, strict=True)]
    assert len(moved) == 7 * (1 if per == "all" else 4)
    assert max(moved) > (1e-3 if normalize else 1e-5)


@pytest.mark.parametrize(("interval", "steps", "moves"), [(None, 4, 2), (3, 3, 3)])
def test_an_update_stands_for_the_steps_since_the_last_one(interval: int | None, steps: int, moves: int) -> None:
    """A rule without a burn-in is updated every 4th step unless an interval is given."""
    radius = LearnedRadius(0.1, rule=Descent(), interval=interval)
    (*_, (opt, _, _)) = watched_steps(radius, "all", 10)
    assert isinstance(opt.radius, LearnedRadius)
    assert isinstance(opt.radius.rule, Descent)
    rule = opt.radius.rule
    assert [update.steps for update in rule.updates] == [steps] * moves
    assert [update.step for update in rule.updates] == [steps * (i + 1) - 1 for i in range(moves)]
    assert all(update.lr_share == 1 for update in rule.updates)


@pytest.mark.parametrize("per", ["all", "layer"])
def test_an_unusable_slope_leaves_rho(per: str) -> None:
    """A step that is not finite keeps its radius, and so does the next one, which has no usable Z."""
    model = network()
    opt = SAM(torch.optim.SGD(model.parameters(), lr=LR), rho=LearnedRadius(0.1, rule=Growth(), per=per, interval=1))
    radii = []
    for i in range(5):
        inputs, targets = batch(i)
        data = (inputs * (math.nan if i == 2 else 1.0), targets)
        opt.step(closure_on(model, data), closure_on(model, batch(50 + i)))
        radii.append(opt.rho.reshape(-1).tolist())
    assert opt.metrics["skipped_steps"] == 1
    count = 1 if per == "all" else 4
    assert radii == [pytest.approx([value] * count) for value in (0.1, 0.11, 0.11, 0.11, 0.121)]


@pytest.mark.parametrize(
    ("value", "usable", "expected"),
    [(0.15, True, 0.15), (0.15, False, 0.1), (math.nan, True, 0.1), (5.0, True, 0.2), (1e-9, True, 0.05)],
)
def test_what_a_rule_returns_is_guarded(value: float, usable: bool, expected: float) -> None:
    rho = torch.full((3,), 0.1, dtype=torch.float64)
    update = Update(step=1, steps=1, lr_share=1.0, reach=torch.ones(3), usable=torch.tensor(usable))
    assert Fixed(value).propose(rho, torch.zeros(3), update).tolist() == [expected] * 3


@pytest.mark.parametrize("per", ["all", "layer"])
@pytest.mark.parametrize(("value", "bound"), [(5.0, 0.2), (1e-9, 0.05), (math.inf, 0.2)])
def test_bounds_hold(value: float, bound: float, per: str) -> None:
    radius = LearnedRadius(0.1, rule=Fixed(value), per=per, interval=1)
    (*_, (opt, _, (_, after))) = watched_steps(radius, per, 3)
    assert after == pytest.approx([bound] * len(after))
    assert opt.metrics["rho"].reshape(-1).tolist() == after


def test_a_start_outside_the_bounds_is_refused() -> None:
    with pytest.raises(ValueError, match="`rho` must be within `bounds`"):
        LearnedRadius(0.3, rule=Fixed(0.1))


@pytest.mark.parametrize("per", ["all", "layer"])
def test_state_dict_round_trip(per: str) -> None:
    """A rule with state continues bit for bit; without its state it would go another way."""

    def made() -> tuple[Any, SAM]:
        model = network()
        rho = LearnedRadius(0.1, objective=PenalizedGap(), rule=Momentum(), per=per, interval=1)
        return model, SAM(torch.optim.SGD(model.parameters(), lr=LR), rho=rho)

    def train(model: Any, opt: SAM, first: int) -> None:
        for i in range(first, first + 5):
            opt.step(closure_on(model, batch(i)), closure_on(model, batch(50 + i)))

    model, opt = made()
    train(model, opt, 0)
    weights, state = copy.deepcopy((model.state_dict(), opt.state_dict()))
    assert state["sharpness_aware"]["radius"]["average"].shape == (() if per == "all" else (4,))
    train(model, opt, 5)
    ends = []
    for changed in (False, True):
        twin, twin_opt = made()
        twin.load_state_dict(weights)
        if changed:
            state["sharpness_aware"]["radius"]["average"].zero_()
        twin_opt.load_state_dict(state)
        train(twin, twin_opt, 5)
        ends.append(snapshot(twin, twin_opt))
    same, other = ends
    assert same_bits(same, snapshot(model, opt))
    assert not same_bits(other, snapshot(model, opt))


def test_one_object_serves_many_optimizers() -> None:
    """Each optimizer works on its own copy of the parts."""
    radius = LearnedRadius(0.1, rule=Momentum(), interval=1)
    ends = [[after for _, _, (_, after) in watched_steps(radius, "all", 5)] for _ in range(2)]
    assert ends[0] == ends[1]
    assert any(a != b for a, b in itertools.pairwise(ends[0]))
    assert isinstance(radius.rule, Momentum)
    assert radius.rule.average == 0


def test_an_update_waits_for_a_step_that_climbs_and_then_stands_for_all_steps_since() -> None:
    """LookSAM climbs in steps 0, 5, 10, .... Z can be used one step later: in 6 for the update due in 3."""
    model = network()
    opt = LookSAM(torch.optim.SGD(model.parameters(), lr=LR), LearnedRadius(0.1, rule=Descent(), interval=4), k=5)
    for t in range(17):
        opt.step(closure_on(model, batch(t)), closure_on(model, batch(50)))
    rule = opt.radius.rule
    assert [(update.step, update.steps) for update in rule.updates] == [(6, 5), (11, 5), (16, 5)]
