"""The default with one rule changed, and what is tried around a whole run."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import training_cases
from benchmarks.evidence import whole_runs
from benchmarks.evidence.ablation import CHANGES, NoSlopes, Onset, ThenPrior, ThenTrend, power_law
from benchmarks.evidence.benchmark import Evidence
from benchmarks.evidence.last_gradient import LastGradientSAM
from benchmarks.evidence.suite import REPLAYED, SETTINGS, methods
from benchmarks.evidence.whole_runs import change_radius, forked, replayed, smoothed, standardized
from benchmarks.harness import training as harness
from evidence_records import DIGITS
from letsam import SAM, LearnedRadius, LogAdam, Objective, SquaredGap, ValidationLoss
from letsam.training.loop import Training
from letsam.training.methods import KINDS, Kind
from letsam.variants import VARIANTS

OPTIONS: dict[str, Any] = {"epochs": 20, "release": 0.5}


@pytest.fixture
def kind() -> Iterator[str]:
    """A method whose radius a test sets."""
    yield "lets-changed"
    KINDS.pop("lets-changed", None)


def run_of(radius: Any, kind: str, **options: Any) -> Training:
    KINDS[kind] = Kind("changed", SAM, radius)
    return harness.trained(training_cases.task(), f"{kind}:0.2", 0, **OPTIONS | options)


def test_every_change_is_measured_on_every_setting() -> None:
    for setting in SETTINGS:
        names = [name for family, name in methods(setting) if family == "ablation"]
        assert {name.split(":")[0] for name in names} >= {*CHANGES, "lets-sam"}
        adaptive = any(name.startswith("lets-preconditionedsam") for name in names)
        assert adaptive == (setting.text or "vit" in setting.name)


def test_without_slopes_what_is_learned_from_does_not_matter(kind: str) -> None:
    def radii(rule: LogAdam, objective: Objective) -> list[float]:
        def make(rho: float, **options: Any) -> LearnedRadius:
            return LearnedRadius(rho, rule=rule, objective=objective, **options)

        return run_of(make, kind, epochs=4).result().mean_radii

    assert radii(NoSlopes(), ValidationLoss()) == radii(NoSlopes(), SquaredGap())
    assert radii(LogAdam(), ValidationLoss()) != radii(LogAdam(), SquaredGap())


def test_after_the_release_the_prior_takes_over(kind: str) -> None:
    training = run_of(ThenPrior, kind)
    radius: Any = training.optimizer.radius  # pyright: ignore[reportAttributeAccessIssue]
    assert float(radius.rho) == pytest.approx(float(radius.rule.prior.log_radius(radius.reach, 1.0).exp()))


def test_after_the_release_the_trend_goes_on(kind: str) -> None:
    training = run_of(lambda rho, **options: ThenTrend(rho, rule=NoSlopes(burn_in=20), **options), kind)
    radius: Any = training.optimizer.radius  # pyright: ignore[reportAttributeAccessIssue]
    a, b = radius.fit
    assert b > 0
    assert float(radius.rho) == pytest.approx(math.exp(a + b * math.log(training.climbs)), rel=1e-5)


def test_a_power_law_is_found_exactly_and_never_falls() -> None:
    points = [(math.log(t), math.log(0.1 * t**0.7)) for t in range(1, 50)]
    assert power_law(points) == pytest.approx((math.log(0.1), 0.7))
    falling = [(x, -y) for x, y in points]
    a, b = power_law(falling)
    assert b == 0
    assert a == pytest.approx(sum(y for _, y in falling) / len(falling))


def test_before_the_onset_a_step_takes_one_pass_and_then_learning_begins(kind: str) -> None:
    training = run_of(Onset, kind, epochs=40)
    steps, last = training.step, round(0.9 * training.step)
    radius: Any = training.optimizer.radius  # pyright: ignore[reportAttributeAccessIssue]
    assert radius.onset is not None
    learning = max(0, training.release * training.steps_per_epoch - radius.onset)  # pyright: ignore[reportOptionalOperand]
    climbing = last - radius.onset
    measured = math.ceil(radius.onset / Onset.EVERY)
    assert training.result().gradient_passes == steps + climbing + measured + learning
    assert float(training.optimizer.rho) != 0.2  # pyright: ignore[reportAttributeAccessIssue]


def test_the_onset_comes_in_time_where_no_gap_grows(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Onset, "ERRORS", 1e9)
    radius: Any = run_of(Onset, kind, epochs=40).optimizer.radius  # pyright: ignore[reportAttributeAccessIssue]
    until = 20 * 6  # epochs and steps
    assert 0.5 * until <= radius.onset <= 0.5 * until + Onset.EVERY


def test_the_last_gradient_is_climbed_along_in_one_pass() -> None:
    weight, seen = torch.nn.Parameter(torch.tensor([3.0, 4.0], dtype=torch.float64)), list[torch.Tensor]()
    optimizer = LastGradientSAM(torch.optim.SGD([weight], lr=0.002), rho=0.5)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        seen.append(weight.detach().clone())
        loss = weight.pow(4).sum()
        loss.backward()
        return loss * (math.inf if len(seen) == 3 else 1)

    place, last, expected = weight.detach().clone(), torch.zeros(2, dtype=torch.float64), list[torch.Tensor]()
    for step in range(4):
        optimizer.step(closure)
        expected.append(place + 0.5 * last / last.norm().clamp(min=1e-300))
        if step != 2:  # a step that is not finite is undone, and the gradient of the one before remains
            last = 4 * expected[-1].pow(3)
            place = place - 0.002 * last
    torch.testing.assert_close(seen, expected)
    assert "lastgradientsam" not in VARIANTS


# --- whole runs -------------------------------------------------------------------------------------------------------


def test_pairs_are_compared_in_standard_errors() -> None:
    assert standardized([1.0, 2.0, 4.0], [0.0, 2.0, 2.0]) == pytest.approx(1.0 / math.sqrt(1 / 3))
    assert standardized([1.0, 1.0], [1.0, 1.0]) == 0


def test_radius_and_prior_move_together() -> None:
    training = harness.begun(training_cases.task(), "lets-sam:0.2", 0, **OPTIONS)
    radius: Any = training.optimizer.radius  # pyright: ignore[reportAttributeAccessIssue]
    before = float(radius.rho), float(radius.rule.prior.log_reach)
    change_radius(training, 3.0)
    assert float(radius.rho) == pytest.approx(3 * before[0])
    assert float(radius.rule.prior.log_reach) == pytest.approx(math.log(3) + before[1])
    assert float(training.optimizer.rho) == pytest.approx(0.6)  # pyright: ignore[reportAttributeAccessIssue]


def test_a_fork_moves_towards_the_better_arm_and_is_paid_for(monkeypatch: pytest.MonkeyPatch) -> None:
    task = training_cases.task()
    plain = harness.trained(task, "lets-sam:0.2", 0, **OPTIONS).result()

    def larger_is_better(task: Any, training: Training) -> list[float]:
        rho = float(training.optimizer.rho)  # pyright: ignore[reportAttributeAccessIssue]
        return [rho, 2 * rho, rho]

    def all_equal(task: Any, training: Training) -> list[float]:
        return [0.5, 0.5]

    monkeypatch.setattr(whole_runs, "scores_of", all_equal)
    equal = forked(task, "lets-sam:0.2", 0, **OPTIONS)
    assert equal.mean_radii == plain.mean_radii  # the run goes on as if nothing had been tried
    assert equal.test_loss == plain.test_loss
    assert equal.gradient_passes == plain.gradient_passes + 4 * 2 * 2 * 6  # forks, arms, passes, steps
    monkeypatch.setattr(whole_runs, "scores_of", larger_is_better)
    larger = forked(task, "lets-sam:0.2", 0, **OPTIONS)
    assert larger.mean_radii[-1] > 2 * plain.mean_radii[-1]


def test_a_smoothed_schedule_is_a_power_law() -> None:
    run = harness.trained(training_cases.task(), "lets-sam:0.2", 0, epochs=3).result()
    smooth = [0.1 * (step + 1) ** 0.5 for step in range(50)]
    rough = [rho * (1.2 if step % 2 else 1 / 1.2) for step, rho in enumerate(smooth)]
    found = smoothed(dataclasses.replace(run, history={**run.history, "rho_schedule": rough}), 0).mean_radii
    assert found == pytest.approx(smooth, rel=0.05)


@pytest.mark.parametrize("base_is_better", [True, False])
def test_the_base_optimizer_takes_over_where_it_is_ahead(base_is_better: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    task = training_cases.task()

    def scores(task: Any, training: Training) -> list[float]:
        is_base = training.method.name == "sgd"
        return [1.0, 0.9, 1.0] if is_base == base_is_better else [0.0, 0.1, 0.1]

    monkeypatch.setattr(whole_runs, "scores_of", scores)
    runs = {run.method.split("@")[1]: run for run in replayed(task, "lets-sam:0.2", 0, epochs=3)}
    assert tuple(runs) == REPLAYED
    base = harness.trained(task, "sgd", 0, epochs=3).result()
    expected = base if base_is_better else runs["replayed"]
    assert runs["harmless"].test_loss == expected.test_loss
    assert runs["harmless"].gradient_passes > expected.gradient_passes


def test_one_unit_gives_the_three_rows_of_a_search(tmp_path: Path) -> None:
    evidence = Evidence(tmp_path, [DIGITS])
    unit = evidence.unit(DIGITS, "ablation", "lets-sam:0.2@replayed", 0)
    assert unit.keys == tuple(f"digits-0.4/lets-sam:0.2@{name}/0" for name in REPLAYED)
