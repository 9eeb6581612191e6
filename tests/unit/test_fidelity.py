"""The benchmarks of flatness and fidelity: the exact derivative is exact, the pages are what their records say."""

from __future__ import annotations

import copy
import importlib.util
import math
from pathlib import Path

import pytest
import torch
from benchmarks.fidelity import page as fidelity_page
from benchmarks.fidelity import record
from benchmarks.fidelity.estimates import VARIANTS, Variant, compare, estimate
from benchmarks.fidelity.exact import Moment, hypergradient, upper
from benchmarks.fidelity.statistics import fidelity
from benchmarks.fidelity.trajectory import LEARNED, moments
from benchmarks.flatness import measure, page
from torch import Tensor, nn

import letsam
from oracle.problems import batch, closure_on, descend, network, same_bits, snapshot, weights_of

DOCS = Path(__file__).parents[2] / "docs"


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
            errors.append(abs(estimate(at, rho, variant) / exact - 1))
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


def test_the_fidelity_page_is_what_its_command_makes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fidelity_page, "PAGE", tmp_path / "fidelity.md")
    monkeypatch.setattr(fidelity_page, "IMAGES", tmp_path)
    fidelity_page.make()
    assert (tmp_path / "fidelity.md").read_text() == (DOCS / "fidelity.md").read_text()
    assert {image.name for image in tmp_path.glob("*.png")} == {"fidelity.png", "fidelity-curves.png"}


def test_the_flatness_page_is_what_its_command_makes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "PAGE", tmp_path / "flatness.md")
    monkeypatch.setattr(page, "IMAGES", tmp_path)
    page.make()
    assert (tmp_path / "flatness.md").read_text() == (DOCS / "flatness.md").read_text()
    assert len(list(tmp_path.glob("*.png"))) == len(measure.SETTINGS)


def test_the_records_are_complete() -> None:
    runs = record.read()
    assert [run.radius for run in runs] == list(record.RADII)
    for run in runs:
        assert [row.variant for row in run.rows] == list(VARIANTS)
        assert {len(curve) for curve in run.curves.values()} == {len(run.rho)}
    expected = [(n, m, s) for n, setting in measure.SETTINGS.items() for m in setting.methods for s in setting.seeds]
    assert [(run.setting, run.method, run.seed) for run in page.read()] == expected


def test_records_survive_a_round_trip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (record, page):
        runs = module.read()
        original = module.RECORD.read_text()
        with monkeypatch.context() as patch:
            patch.setattr(module, "RECORD", tmp_path / module.RECORD.name)
            assert module.read() == []
            module.write(runs[::-1])
            assert module.RECORD.read_text() == original


@pytest.mark.skipif(not importlib.util.find_spec("hessian_eigenthings"), reason="hessian-eigenthings is not installed")
def test_one_real_solution_is_measured() -> None:
    task = measure.load(measure.SETTINGS["digits-0.4"])
    torch.manual_seed(0)
    model = task.model()
    data = [task.train[i] for i in range(60)]  # pyright: ignore[reportArgumentType]
    batches = [(torch.stack([x for x, _ in data]), torch.stack([y for _, y in data]))]
    found = measure.measure(model, task, batches, "digits-0.4", "sgd", 0, None, 0.1)
    loss = task.loss(model(batches[0][0]), batches[0][1]).item()
    assert found.train_loss == pytest.approx(loss, rel=1e-6)
    assert len(found.slice) == measure.OFFSETS
    assert found.ascent == sorted(found.ascent)
    assert len(found.ascent) == len(measure.RADII)
    assert 0 < found.eigenvalue < found.trace


def test_rank_correlation_sees_order_only() -> None:
    assert page.rank_correlation([1.0, 10.0, 100.0], [3.0, 2.0, 1.0]) == pytest.approx(-1)
    assert page.rank_correlation([1.0, 1.0, 1.0], [3.0, 2.0, 1.0]) == 0
