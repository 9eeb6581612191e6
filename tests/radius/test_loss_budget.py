"""A radius that raises the linearized loss by a given amount."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from letsam import (
    SAM,
    LossBudgetRadius,
)
from oracle.problems import batch, closure_on, network


def test_a_step_raises_the_linearized_loss_by_its_budget() -> None:
    model = network()
    opt = SAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=LossBudgetRadius(0.01))
    for i in range(5):
        opt.step(closure_on(model, batch(i)))
        assert (opt.metrics["rho"] * opt.metrics["gradient_norm"]).item() == pytest.approx(0.01, rel=1e-9)
        assert opt.rho == opt.metrics["rho"]
    relative = SAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=LossBudgetRadius(0.01, relative=True))
    loss = relative.step(closure_on(model, batch(9)))
    assert (relative.rho * relative.metrics["gradient_norm"]).item() == pytest.approx(0.01 * loss.item(), rel=1e-9)


def test_a_budget_is_capped_where_the_gradient_vanishes() -> None:
    weight = torch.nn.Parameter(torch.zeros(2))
    opt = SAM(torch.optim.SGD([weight], lr=0.1), rho=LossBudgetRadius(0.1, maximum=0.7))

    def closure() -> torch.Tensor:
        opt.zero_grad()
        loss = weight.square().sum()
        loss.backward()
        return loss

    opt.step(closure)
    assert opt.rho.item() == pytest.approx(0.7)
    assert weight.isfinite().all()


def test_a_budget_is_annealed_at_the_end_of_the_run() -> None:
    radius = LossBudgetRadius(0.2, steps=100, annealed=0.25)
    assert [radius.budget_at(step) for step in (0, 50, 75)] == [0.2] * 3
    assert radius.budget_at(80) == pytest.approx(0.1 * (1 - math.cos(math.pi * 0.8)))
    assert 0 < radius.budget_at(99) < 0.002
    assert radius.budget_at(100) == radius.budget_at(10**6) == 0.0
    assert LossBudgetRadius(0.2).budget_at(10**6) == 0.2


@pytest.mark.parametrize("in_pass", [0, 1])
def test_a_skipped_step_leaves_the_radius_of_a_budget(in_pass: int) -> None:
    model = network()
    opt = SAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=LossBudgetRadius(0.01))
    opt.step(closure_on(model, batch(0)))
    before, passes = opt.rho.clone(), [0]
    whole = closure_on(model, batch(1))

    def closure() -> torch.Tensor:
        loss = whole()
        if passes[0] == in_pass:
            for param in model.parameters():
                assert param.grad is not None
                param.grad.fill_(math.nan)
        passes[0] += 1
        return loss

    opt.step(closure)
    assert opt.metrics["skipped_steps"] == 1
    assert opt.rho == before
    opt.step(whole)
    assert opt.rho != before


def test_a_closure_that_raises_leaves_the_radius_of_a_budget() -> None:
    model = network()
    opt = SAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=LossBudgetRadius(0.01))
    opt.step(closure_on(model, batch(0)))
    before, passes, whole = opt.rho.clone(), [0], closure_on(model, batch(1))

    def closure() -> torch.Tensor:
        passes[0] += 1
        if passes[0] == 2:
            raise RuntimeError("no")
        return whole()

    with pytest.raises(RuntimeError, match="no"):
        opt.step(closure)
    assert opt.rho == before


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"budget": 0.0}, ValueError, "`budget` must be > 0, got 0.0"),
        ({"budget": "0.1"}, TypeError, "`budget` must be a number, got '0.1'"),
        ({"budget": 0.1, "maximum": -1.0}, ValueError, "`maximum` must be > 0, got -1.0"),
        ({"budget": 0.1, "relative": 1}, TypeError, "`relative` must be True or False, got 1"),
        ({"budget": 0.1, "steps": 0}, ValueError, "`steps` must be a whole number >= 1, got 0"),
        ({"budget": 0.1, "annealed": 1.5}, ValueError, "`annealed` must be above 0 and at most 1, got 1.5"),
    ],
)
def test_budgets_that_are_refused(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        LossBudgetRadius(**options)
    assert str(caught.value) == message


def test_a_relative_budget_needs_the_loss() -> None:
    model = network()
    opt = SAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=LossBudgetRadius(0.1, relative=True))
    closure_on(model, batch(0))()
    with pytest.raises(
        ValueError, match=r"^`relative` must be False for ascent_step\(\), which sees no loss; got True(\n|$)"
    ):
        opt.ascent_step()


def test_a_budget_is_saved_and_loaded() -> None:
    model = network()
    opt = SAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=LossBudgetRadius(0.01))
    opt.step(closure_on(model, batch(0)))
    other = SAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=LossBudgetRadius(0.01))
    other.load_state_dict(opt.state_dict())
    assert other.rho == opt.rho
