"""The benchmark of what flatness is for: what is measured, and the page is what the results say."""

from __future__ import annotations

import dataclasses
import statistics
from pathlib import Path

import pytest

from benchmarks.evidence.benchmark import Evidence
from benchmarks.harness import DOCS
from benchmarks.robustness import benchmark
from benchmarks.robustness.benchmark import (
    BASE,
    GRID,
    LEARNED,
    SEEDS,
    SETTINGS,
    TREATMENTS,
    Robustness,
    Treated,
    compared,
    gains,
    lost,
    mean,
    method_of,
)

RESULTS = "evidence/robustness.json"


def row(role: str, seed: int = 0, setting: str = "digits-0.0", **fields: float) -> Treated:
    """Every treatment takes a tenth, but for what is given."""
    clean = fields.get("clean", 0.9)
    left = fields.get("left", clean - 0.1)
    corrupted = {f"noise:{severity}": left for severity in (2, 4)}
    bits, epochs = dict.fromkeys("843", left), dict.fromkeys("15", left)
    method, second = method_of(setting, role), dict.fromkeys("15", fields.get("second", 0.5))
    return Treated(setting, role, seed, method, None, clean, corrupted, bits, epochs, second)


def test_the_page_is_what_its_command_makes(tmp_path: Path) -> None:
    robustness = Robustness(tmp_path)
    robustness.write(Robustness().read())
    robustness.make_page()
    assert (tmp_path / "robustness.md").read_text() == (DOCS / "robustness.md").read_text()


def test_the_results_are_those_of_units_and_survive_a_round_trip(tmp_path: Path) -> None:
    rows = Robustness().read()
    finished = {row.key for row in rows}
    assert [row.key for row in rows] == [unit.name for unit in Robustness().units() if unit.name in finished]
    for name in ("digits-0.0", "digits-0.4"):
        assert len([row for row in compared(rows) if row.setting == name]) == 3 * SEEDS
    assert all({len(row.corrupted), len(row.rounded), len(row.forgotten)} == {28, 3, 2} for row in rows)
    robustness = Robustness(tmp_path)
    robustness.write(rows[::-1])
    assert (tmp_path / RESULTS).read_bytes() == (DOCS / RESULTS).read_bytes()


@pytest.mark.parametrize("name", SETTINGS)
def test_the_best_radius_is_that_of_the_evidence(name: str) -> None:
    accuracies: dict[str, list[float]] = {}
    for record in Evidence(settings=[SETTINGS[name]]).read():
        if record.setting == name and record.method.startswith("sam:"):
            accuracies.setdefault(record.method, []).append(record.accuracy)
    assert len(accuracies) == 7
    assert {len(one) for one in accuracies.values()} == {5}
    assert method_of(name, GRID) == max(accuracies, key=lambda method: statistics.fmean(accuracies[method]))


def test_a_run_with_another_radius_does_not_count(tmp_path: Path) -> None:
    robustness = Robustness(tmp_path)
    mine = [row(BASE), row(GRID), row(LEARNED)]
    robustness.write([mine[0], dataclasses.replace(mine[1], method="sam:0.01"), mine[2]])
    assert robustness.read() == [mine[0], mine[2]]


@pytest.mark.parametrize("role", [BASE, GRID, LEARNED])
def test_a_unit_is_trained_and_treated(monkeypatch: pytest.MonkeyPatch, role: str) -> None:
    tiny = {"digits-0.0": dataclasses.replace(SETTINGS["digits-0.0"], epochs=4)}
    monkeypatch.setattr(Robustness, "settings", tiny)
    (unit,) = [unit for unit in Robustness().units() if unit.name == f"digits-0.0/{role}/1"]
    (found,) = Robustness().measure(unit)
    assert found.key == unit.name
    assert (found.rho is None) == (role == BASE)
    assert (found.rho == pytest.approx(0.2, abs=1e-6)) == (role == GRID)
    assert 0.5 < found.clean < 1
    assert found.rounded["8"] == pytest.approx(found.clean, abs=0.03)
    assert set(found.forgotten) == set(found.second) == {"1", "5"}
    assert found.second["5"] > found.second["1"]
    assert len(found.corrupted) == 28


def test_gains_are_paired_by_seed() -> None:
    rows = [row(BASE, 1, clean=0.5), row(BASE, 0, clean=0.9), row(GRID, 0, clean=0.8), row(GRID, 1, clean=0.6)]
    assert gains(rows, GRID, lambda one: one.clean) == pytest.approx([-10, 10])
    with pytest.raises(ValueError, match="zip"):
        gains(rows[:3], GRID, lambda one: one.clean)


def test_a_seed_without_all_three_networks_is_left_out() -> None:
    rows = [row(role, seed) for seed in range(2) for role in (BASE, GRID, LEARNED)]
    assert compared(rows) == rows
    assert compared(rows[:-1]) == rows[:3]


def test_the_page_says_what_is_not_measured_yet() -> None:
    rows = [row(role, seed) for seed in range(3) for role in (BASE, GRID, LEARNED)]
    found = benchmark.unfinished(rows[:-1])
    assert found.startswith("Not measured yet: digits, 0% label noise (1 seed); digits, 40% label noise (3 seeds); ")
    rows += [row(role, seed, name) for name in SETTINGS for seed in range(3) for role in (BASE, GRID, LEARNED)]
    assert benchmark.unfinished(rows[9:]) == ""


def test_the_verdict_follows_from_the_rows() -> None:
    rows = [row(BASE, left=0.5), row(GRID, left=0.6), row(LEARNED, clean=0.95, left=0.6, second=0.4)]
    text = " ".join(benchmark.verdict(rows).split())
    assert "in 6 of 6 cases" in text
    assert "fewer points from them in 6.**" in text
    assert "By treatment, of 1 settings: corrupted images 1, 8-bit weights 1, " in text
    assert text.endswith("They learn the second task worse: to 40.0% instead of 50.0%.")
    rows[2] = row(LEARNED, clean=0.95, left=0.51, second=0.6)
    text = " ".join(benchmark.verdict(rows).split())
    assert "fewer points from them in 0.**" in text
    assert "better: to 60.0%" in text


def test_the_conclusion_has_the_three_methods_for_each_share_of_wrong_labels() -> None:
    rows = [row(BASE, left=0.5), row(GRID, left=0.6), row(LEARNED, clean=0.95, left=0.6)]
    rows += [row(role, setting="digits-0.4", clean=0.7) for role in (BASE, GRID, LEARNED)]
    right, wrong = " ".join(benchmark.conclusion(rows).split()).split(" - ")
    assert right.startswith("- **Right labels**")
    assert "accuracy 90.0 / 90.0 / 95.0; lost by corrupted images 40.0 / 30.0 / 35.0;" in right
    assert wrong.startswith("**40% wrong labels**")
    assert "lost by 3-bit weights 10.0 / 10.0 / 10.0;" in wrong


def test_what_is_lost_is_measured_from_the_same_network() -> None:
    one = row(BASE, clean=0.9, left=0.6)
    assert all(lost(treated)(one) == pytest.approx(0.3) for treated in TREATMENTS.values())


def test_settings_count_the_same_in_a_mean() -> None:
    rows = [row(BASE, seed, clean=0.4) for seed in range(3)]
    rows += [row(BASE, 0, "fashion-cnn-0.0", clean=0.8)]
    assert mean(rows, BASE, lambda one: one.clean) == pytest.approx(60)


def test_who_is_ahead_and_who_loses_less_is_counted() -> None:
    rows = [row(BASE, left=0.5), row(GRID, left=0.6), row(LEARNED, clean=0.6, left=0.4)]
    text = benchmark.counts(rows)
    assert text.count("| 1 of 1 | 0 of 1 | 1 of 1 | 1 of 1 |") == len(TREATMENTS)


def test_there_are_as_many_units_as_networks() -> None:
    assert len(Robustness().units()) == len(SETTINGS) * 3 * SEEDS == 63
