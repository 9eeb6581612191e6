"""The one-sided gap: what a rise of the training loss, or a gap below 0, does not do."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from letsam import SAM, LearnedRadius, LogAdam, Objective, OneSidedGap, SquaredGap, ValidationLoss
from letsam.radius import Evidence
from letsam.tangent import Slope
from oracle.problems import batch, closure_on, network


def derivative(training_loss: float, validation_loss: float, slope: float, training_slope: float) -> float:
    losses = torch.tensor(training_loss), torch.tensor(validation_loss)
    evidence = Evidence(0, 1.0, 1.0, *losses)
    return float(OneSidedGap().derivative(evidence, torch.tensor(slope), torch.tensor(training_slope)))


@pytest.mark.parametrize("slope", [-0.5, 0.25])
def test_its_derivative(slope: float) -> None:
    assert derivative(1.0, 3.0, slope, -0.25) == 2 * (slope + 0.25)  # as of the squared gap
    assert derivative(1.0, 3.0, slope, 0.75) == 2 * slope  # the training loss rises with the radius
    assert derivative(3.0, 1.0, slope, -0.25) == 0  # no gap to close


def hypergradients(objective: Objective, seed: int) -> list[tuple[Tensor, Tensor]]:
    """Of each update, with the gap; the rule does not move, so that all objectives see the same weights."""
    model = network(seed)
    rule = LogAdam(lr=1e-30, prior=None, burn_in=0, guard=None)
    opt = SAM(
        torch.optim.SGD(model.parameters(), lr=0.5), LearnedRadius(0.3, objective=objective, rule=rule, interval=1)
    )
    found: list[tuple[Tensor, Tensor]] = []
    for step in range(6):
        opt.step(closure_on(model, batch(3 * seed + step % 2)), closure_on(model, batch(3 * seed + 2)))
        if "generalization_gap" in opt.metrics:
            found.append((opt.metrics["hypergradient"].clone(), opt.metrics["generalization_gap"].clone()))
    return found


def test_its_hypergradient_in_steps() -> None:
    """Made of those of the validation loss and of the squared gap, at the same weights."""
    cases: set[tuple[bool, bool]] = set()
    for seed in range(12):
        runs = [hypergradients(one, seed) for one in (ValidationLoss(), SquaredGap(), OneSidedGap())]
        for (validation, gap), (squared, _), (found, _) in zip(*runs, strict=True):
            if squared == 0:
                continue
            training = validation - squared / gap
            expected = gap.relu() * (validation - training.clamp(max=0))
            torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
            cases.add((bool(gap > 0), bool(training > 0)))
    assert {(True, True), (True, False)} <= cases
    assert any(not gap for gap, _ in cases)


@pytest.mark.parametrize(("gap", "factor"), [(2.0, 1.0), (0.01, 1.0), (0.0, 0.0), (-1.0, 0.0)])
def test_the_slope_of_a_normalized_rule_is_without_the_gap(gap: float, factor: float) -> None:
    two = torch.tensor(2.0)  # the lengths
    evidence = Evidence(
        *(0, 1.0, 1.0),
        training_loss=torch.tensor(1.0),
        validation_loss=torch.tensor(1.0 + gap),
        validation_slope=Slope(torch.tensor(-0.5), two),
        training_slope=Slope(torch.tensor(0.5), two),
    )
    plain, cosine = OneSidedGap().slopes(evidence, None)
    assert float(plain) == pytest.approx(max(gap, 0) * -0.5)
    assert float(cosine) == pytest.approx(factor * -0.25)
    _, scaled = OneSidedGap().slopes(evidence, torch.tensor(4.0))
    assert float(scaled) == pytest.approx(max(gap, 0) * -0.125)
