"""The passes of a step: their order and number, what each sees, and the loss that a step returns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import letsam
from learned_radius import learned_radius
from letsam import ASAM, SAM, CosineRadius, LearnedRadius
from oracle.problems import BASES, batch, closure_on, loss_on, network, same_bits, weights_of


def momentum(model: torch.nn.Module, lr: float = 0.1) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)


def log_of_steps(radius: letsam.Radius | float, steps: int) -> list[list[str]]:
    model = network()
    opt = SAM(momentum(model), rho=radius)
    logs: list[list[str]] = []
    for i in range(steps):
        log: list[str] = []
        opt.step(closure_on(model, batch(i), log), closure_on(model, batch(9), log, "validation"))
        logs.append(log)
    return logs


V, T = "validation", "training"


@pytest.mark.parametrize(
    ("radius", "learned_step", "step_between"),
    [
        (0.1, [T, T], [T, T]),
        (CosineRadius(0.2, 0.1, 3), [T, T], [T, T]),
        (LearnedRadius(0.1, interval=1), [V, T, T], None),
        (learned_radius(0.1, hypergradient="diagonal", interval=1), [V, T, T], None),
        (learned_radius(0.1, hypergradient="finite_difference", interval=1), [V, T, T, T], None),
        (learned_radius(0.1, training_batch="same", interval=1), [T, T, T, V], None),
        (learned_radius(0.1, training_batch="same", hypergradient="diagonal", interval=1), [T, T, T, V], None),
        (
            learned_radius(0.1, training_batch="same", hypergradient="finite_difference", interval=1),
            [T, T, T, T, V],
            None,
        ),
        (LearnedRadius(0.1, interval=3), [V, T, T], [T, T]),
        (learned_radius(0.1, interval=3, training_batch="same"), [T, T, T, V], [T, T]),
        (LearnedRadius.paper(0.1), [T, T, T, V], None),
        (LearnedRadius.paper(0.1, interval=4), [T, T, T, V], [T, T]),
    ],
)
def test_passes_of_a_step(
    radius: letsam.Radius | float, learned_step: list[str], step_between: list[str] | None
) -> None:
    interval = getattr(radius, "interval", 1)
    for step, log in enumerate(log_of_steps(radius, 12)):
        learns = (step + 1) % interval == 0
        assert log == (learned_step if learns or step_between is None else step_between), step


def test_finite_difference_probes_only_where_its_curvature_is_used() -> None:
    logs = log_of_steps(learned_radius(0.1, hypergradient="finite_difference", interval=3), 9)
    assert logs == [[T, T], [T, T, T], [V, T, T]] * 3


@pytest.mark.parametrize("interval", [1, 3])
def test_the_radius_moves_at_every_upper_level_update_only(interval: int) -> None:
    model = network()
    opt = SAM(momentum(model), rho=LearnedRadius(0.1, interval=interval))
    moved = []
    for i in range(9):
        before = opt.rho.clone()
        opt.step(closure_on(model, batch(i)), closure_on(model, batch(9)))
        moved.append(bool(opt.rho != before))
    expected = [step > 0 and (step + 1) % interval == 0 for step in range(9)]
    assert moved == expected


@pytest.mark.parametrize("training_batch", ["next", "same"])
def test_validation_runs_unperturbed(training_batch: str) -> None:
    """At the weights that the step before has made ("next"), or that this one makes ("same")."""
    model = network()
    opt = SAM(momentum(model), rho=learned_radius(0.5, training_batch=training_batch, interval=1))
    for i in range(4):
        before = weights_of(model)
        training, validation = [], []

        def watched(data: Any, seen: list[list[Tensor]]) -> Callable[[], Tensor]:
            def closure() -> Tensor:
                seen.append(weights_of(model))
                return closure_on(model, data)()

            return closure

        opt.step(watched(batch(i), training), watched(batch(9), validation))
        after = weights_of(model)
        assert same_bits(validation, [before if training_batch == "next" else after])
        assert same_bits(training[0], before)
        assert not same_bits(training[1], before)
        assert training_batch == "next" or same_bits(training[2], after)


def test_validation_closure_as_an_attribute() -> None:
    def run(as_attribute: bool) -> list[Tensor]:
        model = network()
        held_out = closure_on(model, batch(9))
        opt = SAM(
            momentum(model), LearnedRadius(0.1, interval=1), validation_closure=held_out if as_attribute else None
        )
        for i in range(5):
            closure = closure_on(model, batch(i))
            opt.step(closure) if as_attribute else opt.step(closure, held_out)
        return [*weights_of(model), opt.rho]

    assert same_bits(run(True), run(False))


def test_step_returns_the_first_loss() -> None:
    model = network()
    opt = ASAM(momentum(model), rho=1.0)
    expected = loss_on(model, batch(0)).item()
    loss = opt.step(closure_on(model, batch(0)))
    assert loss.item() == expected
    assert not loss.requires_grad
    assert loss.shape == ()


def test_stale_gradients_do_not_enter() -> None:
    """A closure that accumulates into what is there would double the gradients if the step did not clear them."""
    plain, other = network(), network()
    opts = [SAM(momentum(m), rho=0.1) for m in (plain, other)]
    for i in range(3):
        opts[0].step(closure_on(plain, batch(i)))

        def lazy(i: int = i) -> Tensor:
            loss = loss_on(other, batch(i))
            loss.backward()
            return loss

        opts[1].step(lazy)
    assert same_bits(weights_of(plain), weights_of(other))


def test_a_closure_may_return_the_same_memory_every_time() -> None:
    model = network()
    opt = SAM(BASES["momentum"](model.parameters()), rho=LearnedRadius(0.3))
    total = torch.zeros((), dtype=torch.float64)

    def on(data: Any) -> Callable[[], Tensor]:
        clean = closure_on(model, data)
        return lambda: total.copy_(clean().detach())

    with torch.no_grad():
        expected, held_out = float(loss_on(model, batch(0))), float(loss_on(model, batch(50)))
    assert opt.step(on(batch(0)), on(batch(50))).item() == expected
    opt.step(on(batch(1)), on(batch(51)))
    with torch.no_grad():
        assert opt.metrics["training_loss"] != total
    assert expected != held_out


def test_a_validation_closure_that_cannot_be_called_is_named() -> None:
    model = network()
    opt = SAM(BASES["momentum"](model.parameters()), rho=0.1)
    before = weights_of(model)
    with pytest.raises(ValueError, match=r"^`validation_closure` must be a function that .*, got \[1\](\n|$)"):
        opt.step(closure_on(model, batch(0)), [1])  # pyright: ignore[reportArgumentType]
    opt.validation_closure = 5  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(ValueError, match=r"^`validation_closure` must be a function that .*, got 5(\n|$)"):
        opt.step(closure_on(model, batch(0)))
    assert same_bits(weights_of(model), before)
