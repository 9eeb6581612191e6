"""Methods that climb in the last part of a run, and the table that compares them at equal cost."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest

from benchmarks.evidence import late_table
from benchmarks.evidence.benchmark import Evidence
from benchmarks.evidence.late_peers import DECAYS, TITLES, LateRadius, decayed_late, late_runs
from benchmarks.evidence.suite import LATE_GRID
from benchmarks.evidence.summary import EMPTY, Measured, Record
from benchmarks.harness.training import begun, loaded, trained
from evidence_records import CLEAN, DIGITS, made_up, record

SHORT = dataclasses.replace(DIGITS, epochs=2)  # 15 steps each


@pytest.mark.parametrize("steps", [1, 2, 7, 10, 45, 1000])
def test_the_radius_is_zero_in_all_but_the_last_steps(steps: int) -> None:
    radius = LateRadius(0.2, steps)
    assert [radius.wants(step).climbs for step in range(steps)] == [step >= round(0.7 * steps) for step in range(steps)]


def test_the_learning_rate_falls_where_the_ascents_are() -> None:
    rates = [decayed_late(step, 10) for step in range(11)]
    assert rates == pytest.approx([1.0] * 8 + [2 / 3, 1 / 3, 0.0])
    assert decayed_late(1, 2) == 1.0


def test_late_runs_are_the_base_optimizer_until_they_climb() -> None:
    task = loaded("digits")
    base, late = (begun(task, name, 0, epochs=2) for name in ("sgd", "sam-late:0.5"))
    assert base.steps_per_epoch == 15
    for steps, same in ((15, True), (6, True), (1, False)):  # 21 of 30 steps are the base optimizer's
        for training in (base, late):
            training.advance(steps)
        pairs = zip(base.model.parameters(), late.model.parameters(), strict=True)
        assert all(bool((a == b).all()) for a, b in pairs) is same
    assert late.rho_schedule == [0.0] * 21 + [0.5]


@pytest.mark.parametrize("peer", TITLES)
def test_a_run_costs_1_3_passes_a_step(peer: str) -> None:
    evidence = Evidence(settings=[SHORT], families=["late"], seeds=1)
    (unit,) = (unit for unit in evidence.units() if peer in unit.name)
    rows = evidence.measure(unit)
    assert [row.key for row in rows] == list(unit.keys)
    assert [row.method for row in rows] == [f"{peer}:{rho}" for rho in LATE_GRID]
    assert [row.rho for row in rows] == pytest.approx([float(rho) for rho in LATE_GRID])
    assert {row.passes for row in rows} == {39}  # in 30 steps


@pytest.mark.parametrize("peer", TITLES)
def test_runs_that_share_their_first_steps_are_those_of_each_radius_alone(peer: str) -> None:
    task, radii = loaded("digits"), ("0.05", "0.5")
    options: dict[str, Any] = {"epochs": 2, "label_noise": 0.4}
    shared = late_runs(task, peer, radii, 1, **options)
    alone = [trained(task, f"{peer}:{rho}", 1, decay=DECAYS.get(peer), **options).result() for rho in radii]
    assert [dataclasses.replace(run, seconds=0.0) for run in shared] == [
        dataclasses.replace(run, seconds=0.0) for run in alone
    ]


def test_temperon_alone_has_a_learning_rate_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    evidence, rates = Evidence(settings=[SHORT]), dict[str, list[float]]()
    made = begun

    def seen(*names: object, **options: object) -> object:
        training = made(*names, **options)  # pyright: ignore[reportArgumentType]
        rates[str(names[1])] = [training.scheduler.lr_lambdas[0](step) for step in range(30)]
        return training

    monkeypatch.setattr("benchmarks.harness.training.begun", seen)
    for method in ("sam-late:0.1", "temperon:0.1"):
        evidence.measure(evidence.unit(SHORT, "late", method, 0))
    cosine = [0.5 * (1 + math.cos(math.pi * step / 30)) for step in range(30)]
    assert rates["sam-late:0.1"] == pytest.approx(cosine)
    assert rates["temperon:0.1"] == [decayed_late(step, 30) for step in range(30)]


def test_the_table_has_the_best_radius_of_each_and_what_a_step_costs() -> None:
    found = [Measured(one, tuple(made_up(one, lambda start: 0.2))) for one in (CLEAN, DIGITS)]
    text = late_table.late(found)
    line = "| 2 | -20.0 | +0.2 | 1.90 | -1.3 | 1.26 | -1.0 (`0.1`) | 1.30 | -3.0 (`0.1`) | 1.30 |"
    assert f"| digits, 0% label noise {line}" in text
    assert "| mean |  | -20.0 | +0.2 | 1.90 | -1.3 | 1.26 | -1.0 | 1.30 | -3.0 | 1.30 |" in text
    flat = " ".join(text.split())
    ahead = "learned is ahead of late-phase SAM in 2 and of temperon in 2"
    assert f"Of 2 settings, {ahead}; cheaper is ahead of late-phase SAM in 0 and of temperon in 2." in flat
    assert "in the mean: learned 101%, cheaper 94%, late-phase SAM 95%, temperon 85%." in flat


def without(gone: str, rows: list[Record]) -> Measured:
    return Measured(DIGITS, tuple(row for row in rows if not row.key.startswith(gone)))


def test_only_seeds_that_all_of_them_have_count() -> None:
    rows = list(made_up(DIGITS, lambda start: 0.0))
    assert "| digits, 40% label noise | 1 |" in late_table.late([without("digits-0.4/temperon:0.2/1", rows)])
    for lost in ("temperon:0.5", "sam-late:0.05", "lets-sam-quick:0.2@released", "lets-sam:1.0@released", "sgd"):
        assert late_table.late([without(f"digits-0.4/{lost}/", rows)]) == EMPTY


def test_a_radius_that_diverges_is_not_the_best() -> None:
    rows = list(made_up(DIGITS, lambda start: 0.0))
    lost = [record("temperon:0.1", seed, math.nan) for seed in (0, 1)]
    one = without("digits-0.4/temperon:0.1/", rows)
    text = late_table.late([Measured(DIGITS, (*one.records, *lost))])
    assert "| -4.4 (`0.05`) |" in text
