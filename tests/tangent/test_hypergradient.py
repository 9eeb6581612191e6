"""`opt.metrics["hypergradient"]` against double backward and central differences of the true one-step objective."""

from __future__ import annotations

import pytest
import torch

import letsam
from learned_radius import OBJECTIVES, learned_radius
from letsam.hypergradient import FiniteDifference
from oracle import maths
from oracle.problems import BASES, WITHOUT_RULE, Batch, batch, closure_on, descend, network

TRAINING_BATCHES = ("next", "same")
RHO = 0.1
NOW, NEXT = batch(10), batch(11)
HELD_OUT = batch(20)


def start_of(base: str) -> maths.State:
    """Weights and moments after a few plain steps."""
    model = network()
    optimizer = (BASES | WITHOUT_RULE)[base](model.parameters())
    descend(model, optimizer, 4)
    return maths.State(model, optimizer)


def one_step(start: maths.State, variant: str, objective: str, training_batch: str) -> maths.OneStep:
    """The step on NOW; of a few validation batches the one with the largest hypergradients.

    A hypergradient is a sum of terms of both signs (over weights, over the two losses); where they happen to cancel, a
    relative error says nothing about the method.
    """
    direction = maths.DIRECTIONS[variant](start.theta, maths.gradient(start.model, start.theta, NOW))
    training = NOW if training_batch == "same" else NEXT
    candidates = [maths.OneStep(start, direction, NOW, objective, training, batch(20 + i)) for i in range(4)]

    def size(step: maths.OneStep) -> float:
        values = [abs(step.hypergradient(RHO, projected=projected)) for projected in (False, True)]
        return min(values)

    return max(candidates, key=size)


def measured(start: maths.State, variant: str, radius: letsam.LearnedRadius, validation: Batch = HELD_OUT) -> float:
    """What the optimizer reports for the step on NOW from `start`."""
    state = start.copy()
    opt = getattr(letsam, variant)(state.base, rho=radius)
    held_out = closure_on(state.model, validation)
    opt.step(closure_on(state.model, NOW), held_out)
    if radius.objective.training_batch == "next":
        opt.step(closure_on(state.model, NEXT), held_out)
    return opt.metrics["hypergradient"].item()


def test_every_objective_has_a_row() -> None:
    public = [getattr(letsam, name) for name in letsam.radius.__all__]
    classes = {kind for kind in public if isinstance(kind, type) and issubclass(kind, letsam.Objective)}
    made_of_others = {letsam.OneSidedGap}  # compared with those that have a row, in tests/radius/test_one_sided_gap.py
    assert set(OBJECTIVES.values()) == classes - {letsam.Objective} - made_of_others


@pytest.mark.parametrize("base", BASES)
def test_the_oracles_agree(base: str) -> None:
    """Double backward through torch's differentiable optimizer against central differences of the real one."""
    step = one_step(start_of(base), "SAM", "validation_loss", "same")

    g = maths.gradient(step.start.model, step.start.theta, NOW)
    torch.testing.assert_close(
        maths.differentiable_base_step(step.start, g).detach(), maths.base_step(step.start, g), rtol=0, atol=1e-14
    )
    assert step.hypergradient(RHO) == pytest.approx(step.central_difference(RHO), rel=1e-7)


@pytest.mark.parametrize("training_batch", TRAINING_BATCHES)
@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("variant", maths.DIRECTIONS)
@pytest.mark.parametrize("base", BASES)
def test_finite_difference_is_the_true_hypergradient(
    base: str, variant: str, objective: str, training_batch: str
) -> None:
    start = start_of(base)
    step = one_step(start, variant, objective, training_batch)
    options = {"objective": objective, "training_batch": training_batch, "length_invariant": False}

    value = measured(start, variant, learned_radius(RHO, hypergradient="finite_difference", **options), step.validation)

    assert value == pytest.approx(step.hypergradient(RHO), rel=1e-6)
    assert value == pytest.approx(step.central_difference(RHO), rel=1e-6)


@pytest.mark.parametrize("training_batch", TRAINING_BATCHES)
@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("variant", maths.DIRECTIONS)
@pytest.mark.parametrize("base", BASES)
def test_finite_difference_with_the_projection(base: str, variant: str, objective: str, training_batch: str) -> None:
    start = start_of(base)
    step = one_step(start, variant, objective, training_batch)
    options = {"objective": objective, "training_batch": training_batch, "length_invariant": True}

    value = measured(start, variant, learned_radius(RHO, hypergradient="finite_difference", **options), step.validation)

    expected = step.hypergradient(RHO, projected=True)
    assert value == pytest.approx(expected, rel=1e-6)
    assert abs(expected / step.hypergradient(RHO) - 1) > 1e-3, "the projection must matter here"


@pytest.mark.parametrize("step", [1e-6, 1e-7, 1e-8])
def test_a_chosen_finite_difference_step(step: float) -> None:
    start = start_of("momentum")
    radius = learned_radius(RHO, hypergradient=FiniteDifference(step), length_invariant=False)

    one = one_step(start, "SAM", "validation_loss", "next")

    expected = one.hypergradient(RHO)
    assert measured(start, "SAM", radius, one.validation) == pytest.approx(expected, rel=max(1e-6, 10 * step))


def test_a_chosen_step_is_the_step_that_is_taken() -> None:
    """The error of a forward difference is proportional to its step."""
    start = start_of("momentum")
    one = one_step(start, "SAM", "validation_loss", "next")
    exact = one.hypergradient(RHO)

    def error(h: float) -> float:
        radius = learned_radius(RHO, hypergradient=FiniteDifference(h), length_invariant=False)
        return measured(start, "SAM", radius, one.validation) - exact

    assert error(2e-3) / error(1e-3) == pytest.approx(2, rel=0.02)


@pytest.mark.parametrize("projected", [False, True])
@pytest.mark.parametrize("training_batch", TRAINING_BATCHES)
@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("estimator", ["secant", "diagonal"])
@pytest.mark.parametrize("base", ["sgd", "nesterov", "adamw", "rmsprop-centered"])
def test_secant_and_diagonal_are_their_formulas(
    base: str, estimator: str, objective: str, training_batch: str, projected: bool
) -> None:
    start = start_of(base)
    for variant in maths.DIRECTIONS:
        step = one_step(start, variant, objective, training_batch)
        radius = learned_radius(
            RHO, objective=objective, hypergradient=estimator, training_batch=training_batch, length_invariant=projected
        )
        expected = step.hypergradient(RHO, estimator=estimator, projected=projected)
        assert measured(start, variant, radius, step.validation) == pytest.approx(expected, rel=1e-9), variant


@pytest.mark.parametrize("projected", [False, True])
@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("variant", maths.DIRECTIONS)
@pytest.mark.parametrize("base", ["momentum", "adam"])
def test_secant_tends_to_the_truth(base: str, variant: str, objective: str, projected: bool) -> None:
    start = start_of(base)
    step = one_step(start, variant, objective, "next")
    errors = []
    for rho in (1e-1, 1e-2, 1e-3, 1e-4):
        radius = learned_radius(rho, objective=objective, length_invariant=projected, bounds=(1e-6, 10.0))
        exact = step.hypergradient(rho, projected=projected)
        errors.append(abs(measured(start, variant, radius, step.validation) / exact - 1))

    assert errors[3] < 1e-3
    assert sorted(errors[1:], reverse=True) == errors[1:], errors
    assert errors[3] == pytest.approx(errors[2] / 10, rel=0.3), errors


def test_secant_is_exact_on_a_quadratic() -> None:
    """L = theta' A theta / 2, validation 3/2 |theta - c|^2: Z = -lr A eps_hat, and everything is in closed form."""
    a = torch.tensor([[2.0, 0.3], [0.3, 0.5]], dtype=torch.float64)
    c = torch.tensor([1.0, -2.0], dtype=torch.float64)
    theta = torch.tensor([0.7, -1.1], dtype=torch.float64)
    lr, rho = 0.1, 0.8
    w = torch.nn.Parameter(theta.clone())
    opt = letsam.SAM(torch.optim.SGD([w], lr=lr), rho=learned_radius(rho, length_invariant=False))

    def quadratic() -> torch.Tensor:
        opt.zero_grad()
        value = w @ a @ w / 2
        value.backward()
        return value

    def held_out() -> torch.Tensor:
        opt.zero_grad()
        value = 1.5 * (w - c).square().sum()
        value.backward()
        return value

    opt.step(quadratic, held_out)
    eps = a @ theta / (a @ theta).norm()
    after = theta - lr * a @ (theta + rho * eps)
    torch.testing.assert_close(w.detach(), after, rtol=1e-14, atol=0)
    opt.step(quadratic, held_out)

    expected = (3 * (after - c)) @ (-lr * a @ eps)
    assert opt.metrics["hypergradient"].item() == pytest.approx(expected.item(), rel=1e-13)


@pytest.mark.parametrize("training_batch", TRAINING_BATCHES)
@pytest.mark.parametrize("base", WITHOUT_RULE)
def test_a_base_without_a_rule_counts_as_plain_descent(base: str, training_batch: str) -> None:
    """The gradients of the upper level are taken at the real theta', only Z is that of theta - lr g."""
    start = start_of(base)
    g = maths.gradient(start.model, start.theta, NOW)
    direction = maths.sam_direction(start.theta, g)
    g_rho = maths.gradient(start.model, start.theta + RHO * direction, NOW)
    after = maths.base_step(start, g_rho)
    z = -start.base.param_groups[0]["lr"] * maths.hessian_vector(
        start.model, start.theta + RHO * direction, direction, NOW
    )
    expected = (maths.gradient(start.model, after, HELD_OUT) @ z).item()

    radius = learned_radius(
        RHO, hypergradient="finite_difference", length_invariant=False, training_batch=training_batch
    )
    assert measured(start, "SAM", radius) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("base", ["sgd", "momentum", "dampening", "nesterov", "adam", "rmsprop"])
def test_the_first_step_of_all(base: str) -> None:
    """Moments that the step itself makes: SGD's first buffer is the gradient, dampening or not."""
    model = network()
    optimizer = BASES[base](model.parameters())
    if base == "adam":
        optimizer.param_groups[0]["eps"] = 0.1  # else the first update is the sign of the gradient: no derivative
    start = maths.State(model, optimizer)
    direction = maths.sam_direction(start.theta, maths.gradient(model, start.theta, NOW))
    step = maths.OneStep(start, direction, NOW, "validation_loss", NEXT, HELD_OUT)

    radius = learned_radius(RHO, hypergradient="finite_difference", length_invariant=False)

    assert measured(start, "SAM", radius, step.validation) == pytest.approx(step.central_difference(RHO), rel=1e-5)


def test_parameter_groups_keep_their_own_rate() -> None:
    model = network()
    groups = [{"params": list(model[0].parameters())}, {"params": list(model[2].parameters()), "lr": 0.01}]
    start = maths.State(model, torch.optim.SGD(groups, lr=0.2, momentum=0.5))
    descend(model, start.base, 3)
    step = one_step(start, "SAM", "squared_gap", "next")

    radius = learned_radius(RHO, hypergradient="finite_difference", objective="squared_gap", length_invariant=False)

    assert measured(start, "SAM", radius, step.validation) == pytest.approx(step.central_difference(RHO), rel=1e-6)


def test_metrics_are_those_of_the_new_weights() -> None:
    start = start_of("momentum")
    state = start.copy()
    opt = letsam.SAM(state.base, rho=learned_radius(RHO, objective="squared_gap"))
    opt.step(closure_on(state.model, NOW), closure_on(state.model, HELD_OUT))
    theta = state.theta
    opt.step(closure_on(state.model, NEXT), closure_on(state.model, HELD_OUT))

    training = maths.loss(state.model, theta, NEXT).item()
    validation = maths.loss(state.model, theta, HELD_OUT).item()
    g = maths.gradient(state.model, theta, NEXT)
    assert opt.metrics["training_loss"].item() == pytest.approx(training, rel=1e-13)
    assert opt.metrics["validation_loss"].item() == pytest.approx(validation, rel=1e-13)
    assert opt.metrics["generalization_gap"].item() == pytest.approx(validation - training, rel=1e-12)
    assert opt.metrics["gradient_norm"].item() == pytest.approx(g.norm().item(), rel=1e-13)
    assert opt.metrics["rho"] == opt.rho != RHO
