"""The benchmark of fidelity: the exact derivative is exact, the page is what the results say."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import letsam
from benchmarks.fidelity.benchmark import Fidelity, fidelity
from benchmarks.fidelity.estimates import LEARNED, VARIANTS, Variant, compare, estimates, moments
from benchmarks.fidelity.exact import Moment, hypergradient, upper
from benchmarks.fidelity.layers import differences
from benchmarks.harness import DOCS
from oracle.problems import batch, closure_on, descend, network, same_bits, snapshot, weights_of


def moment(model: nn.Module | None = None, steps: int = 3) -> Moment:
    model = model or network()
    base = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01)
    descend(model, base, steps)
    return Moment(model, base, nn.functional.cross_entropy, batch(10), batch(11), batch(12))


def really_stepped(at: Moment, rho: float, objective: str, training_batch: str) -> float:
    """The objective after a step of the real optimizer with this radius."""
    model = copy.deepcopy(at.model)
    base = torch.optim.SGD(model.parameters(), lr=0.1)
    base.load_state_dict(copy.deepcopy(at.base.state_dict()))
    letsam.SAM(base, rho=rho).step(closure_on(model, at.batch))

    def loss(data: tuple[Tensor, Tensor]) -> float:
        return at.loss(model(data[0]), data[1]).item()

    if objective == "validation_loss":
        return loss(at.validation)
    return (loss(at.validation) - loss(at.next_batch if training_batch == "next" else at.batch)) ** 2 / 2


@pytest.mark.parametrize("steps", [0, 3])  # without and with momentum
@pytest.mark.parametrize(
    ("objective", "training_batch"), [("validation_loss", "next"), ("squared_gap", "next"), ("squared_gap", "same")]
)
def test_the_exact_derivative_is_that_of_really_stepping(steps: int, objective: str, training_batch: str) -> None:
    at, rho, h = moment(steps=steps), 0.2, 1e-5
    values = [really_stepped(at, rho + d, objective, training_batch) for d in (h, -h)]
    difference = (values[0] - values[1]) / (2 * h)
    exact = hypergradient(at, rho, objective, training_batch, keeps_length=False)
    assert exact == pytest.approx(difference, rel=1e-6)
    kept = hypergradient(at, rho, objective, training_batch, keeps_length=True)
    assert abs(kept - exact) > 1e-3 * abs(exact)
    at_rho = torch.tensor(rho, dtype=torch.float64)
    for keeps in (True, False):  # the length is kept where it is, so the value is the same
        value = upper(at, at_rho, objective, training_batch, keeps_length=keeps).item()
        assert value == pytest.approx(really_stepped(at, rho, objective, training_batch), rel=1e-10)


def test_finite_difference_is_faithful_and_the_others_are_themselves() -> None:
    at, rho = moment(), 0.2
    for variant, (found, exact) in compare(at, rho).items():
        if variant.estimator == "finite_difference":
            assert found == pytest.approx(exact, rel=1e-4), variant
        else:
            assert found != pytest.approx(exact, rel=1e-4), variant


def test_secant_nears_the_exact_value_as_the_radius_falls() -> None:
    at = moment()
    for projected in (True, False):
        variant = Variant("validation_loss", "next", projected, "secant")
        errors = []
        for rho in (0.02, 0.002, 0.0002):
            exact = hypergradient(at, rho, "validation_loss", "next", keeps_length=projected)
            errors.append(abs(estimates(at, rho, variant).item() / exact - 1))
        assert 0.1 > errors[0] > 5 * errors[1] > 25 * errors[2] > 0


def test_comparing_leaves_the_run_as_it_was() -> None:
    at = moment()
    before = snapshot(at.model, at.base)
    compare(at, 0.1)
    assert same_bits(snapshot(at.model, at.base), before)


def test_every_variant_has_a_row_and_pairs_become_three_numbers() -> None:
    assert len(VARIANTS) == len(set(VARIANTS)) == 18
    same = fidelity([(2.0, 1.0), (-4.0, -2.0), (1.0, 0.5)])
    assert same == {"ratio": 2.0, "sign": 1.0, "correlation": pytest.approx(1.0)}
    opposite = fidelity([(-1.0, 1.0), (2.0, -2.0), (-0.5, 0.5)])
    assert opposite == {"ratio": 1.0, "sign": 0.0, "correlation": pytest.approx(-1.0)}
    assert fidelity([(0.0, 1.0), (0.0, -2.0)])["correlation"] == 0
    assert math.isnan(fidelity([(1.0, 0.0), (2.0, 0.0)])["ratio"])


@pytest.mark.parametrize("radius", [0.1, LEARNED])
def test_the_trajectory_is_a_real_run(radius: float | str) -> None:
    seen = list(moments(radius, seed=0, every=7, epochs=1))
    assert len(seen) == 2
    (first, rho), (second, _) = seen
    assert rho == (0.1 if radius == 0.1 else pytest.approx(0.05))
    assert not any(same_bits(a, b) for a, b in zip(weights_of(first.model), weights_of(second.model), strict=True))
    assert not first.base.state
    assert second.base.state
    assert second.base.param_groups[0]["lr"] < first.base.param_groups[0]["lr"]
    held = {tuple(image.flatten().tolist()) for image in first.validation[0]}
    assert not held & {tuple(image.flatten().tolist()) for image in second.batch[0]}
    assert first.batch[0].dtype == torch.float64


def test_one_radius_a_tensor_moves_by_itself() -> None:
    """Their derivatives add up to that of all together."""
    at, rho = moment(), 0.2
    together = hypergradient(at, rho, "validation_loss", "next", keeps_length=False)
    found = differences(at, rho)
    assert found.shape == (len(list(at.model.parameters())),)
    assert found.sum().item() == pytest.approx(together, rel=1e-5)
    variant = Variant("validation_loss", "next", False, "finite_difference")
    assert estimates(at, rho, variant, per="layer").sum().item() == pytest.approx(together, rel=1e-4)


@pytest.fixture
def fidelity_in(tmp_path: Path) -> Fidelity:
    return Fidelity(tmp_path)


def test_the_page_is_what_its_command_makes(fidelity_in: Fidelity) -> None:
    fidelity_in.write(Fidelity().read()[::-1])
    fidelity_in.make_page()
    assert (fidelity_in.docs / "fidelity.md").read_text() == (DOCS / "fidelity.md").read_text()
    images = {image.name for image in (fidelity_in.docs / "images").iterdir()}
    assert images == {"fidelity.png", "fidelity-curves.png"}


def test_the_results_are_complete_and_survive_a_round_trip(fidelity_in: Fidelity) -> None:
    runs = Fidelity().read()
    assert [run.key for run in runs] == list(Fidelity.settings)
    for run in runs:
        assert [row.variant for row in run.rows] == list(VARIANTS)
        assert {len(curve) for curve in run.curves.values()} == {len(run.rho)}
    fidelity_in.write(runs[::-1])
    new, old = (json.loads((docs / "evidence" / "fidelity.json").read_text()) for docs in (fidelity_in.docs, DOCS))
    assert new == old


def test_a_short_run_is_measured(fidelity_in: Fidelity, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Fidelity, "every", 7)
    monkeypatch.setattr(Fidelity, "epochs", 1)
    (run,) = fidelity_in.measure(fidelity_in.units()[2])
    assert (run.key, run.rho, len(run.rows)) == ("0.1", [0.1, 0.1], len(VARIANTS))
    assert run.row(Variant("validation_loss", "next", True, "finite_difference")).ratio == pytest.approx(1, abs=1e-3)
