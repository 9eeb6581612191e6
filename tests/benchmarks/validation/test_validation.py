"""The benchmark of validation data: what is trained, and the page is what the results say."""

from __future__ import annotations

import dataclasses
import statistics
from pathlib import Path

import pytest
import torch
from scipy import stats

from benchmarks.harness import DOCS
from benchmarks.validation import benchmark
from benchmarks.validation.benchmark import SETTINGS, Measured, Setting, Validation
from benchmarks.validation.comparison import BEST, ON_SHIFTED, Results, difference, interval, setting_table
from benchmarks.validation.data import TASKS

RESULTS = "evidence/validation.json"
TINY = Setting("digits", "tiny", "noise:5", "affine:2", epochs=3, seeds=1, grid=(0.1,))


def test_the_page_is_what_its_command_makes(tmp_path: Path) -> None:
    validation = Validation(tmp_path)
    validation.write(Validation().read())
    validation.make_page()
    assert (tmp_path / "validation.md").read_text() == (DOCS / "validation.md").read_text()
    assert (tmp_path / "images" / "validation.png").stat().st_size > 10_000


def test_the_results_survive_a_round_trip(tmp_path: Path) -> None:
    rows = Validation().read()
    keys = {row.key for row in rows}
    assert [row.key for row in rows] == [unit.name for unit in Validation().units() if unit.name in keys]
    validation = Validation(tmp_path)
    assert validation.read() == []
    validation.write(rows[::-1])
    assert (tmp_path / RESULTS).read_bytes() == (DOCS / RESULTS).read_bytes()


@pytest.mark.parametrize("change", [{"epochs": 7}, {"under": {"noise:1": 0.5}}, {"seed": 99}, {"method": "sam:9"}])
def test_a_row_of_a_setting_in_another_form_does_not_count(change: dict[str, object]) -> None:
    row = Validation().read()[0]
    assert Validation().fits(row)
    assert not Validation().fits(dataclasses.replace(row, **change))  # type: ignore[arg-type]


def test_every_kind_of_row_is_trained_on_the_data_that_it_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Validation, "settings", {"tiny": TINY})
    seen: dict[str, dict[str, object]] = {}
    train = benchmark.trained

    def watched(task: object, method: str, seed: int, **options: object) -> object:
        seen[row] = {"method": method, "augmented": hasattr(task.train, "copies"), **options}  # type: ignore[attr-defined]
        return train(task, method, seed, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(benchmark, "trained", watched)
    found: dict[str, Measured] = {}
    for unit in Validation().units():
        row = unit.work[1]
        (found[row],) = Validation().measure(unit)
    assert {row: options["validation_shift"] for row, options in seen.items() if row.startswith("learned")} == {
        "learned-clean": None,
        "learned-test": "noise:5",
        "learned-other": "affine:2",
        "learned-augmented": "noise:5",
    }
    assert [row for row, options in seen.items() if options["augmented"]] == list(benchmark.AUGMENTED)
    assert {row: options["method"] for row, options in seen.items()} == {
        "base": "sgd",
        "sam:0.1": "sam:0.1",
        **dict.fromkeys(benchmark.LEARNED, "lets-sam:0.05"),
        "base-augmented": "sgd",
        "base-augmented-other": "sgd",
        "learned-augmented": "lets-sam:0.05",
    }
    assert all(seen[row]["searched"] is not None for row in seen if row.startswith("learned"))  # refits
    passes = {row: one.passes / found["base"].passes for row, one in found.items()}
    assert passes["sam:0.1"] == 2
    assert passes["learned-clean"] > 3.5
    assert [*found["base"].under] == ["noise:5", "affine:2"]
    assert found["base"].under["noise:5"] < found["base"].clean
    assert found["base-augmented"].under != found["base"].under
    assert len({found[row].rho_final for row in found if row.startswith("learned")}) == 4


def rows_of(values: dict[str, list[float]]) -> list[Measured]:
    """Rows of `TINY` with two radii, whose accuracy on shifted test data is given by seed."""
    return [
        Measured("tiny", method, seed, 3, 0.9, {"noise:5": value, "affine:2": value / 2}, None, 100, 1.0)
        for method, accuracies in values.items()
        for seed, value in enumerate(accuracies)
    ]


SETTING = dataclasses.replace(TINY, grid=(0.1, 0.2), seeds=3)
ACCURACIES = {name: [0.5, 0.6, 0.7] for name in SETTING.rows} | {
    "sam:0.1": [0.51, 0.62, 0.73],
    "sam:0.2": [0.9, 0.1, 0.2],
    "learned-test": [0.6, 0.7, 0.8],
}


def test_the_best_of_the_grid_has_the_highest_mean_under_the_shifts_of_the_test() -> None:
    found = Results.of(SETTING, rows_of(ACCURACIES))
    assert found is not None
    assert found.runs[BEST] == found.runs["sam:0.1"]
    assert found.gains(BEST, "base") == pytest.approx([1, 2, 3])
    assert found.gains(BEST, "base", "other") == pytest.approx([0.5, 1, 1.5])
    assert found.gains(BEST, "base", "clean") == [0, 0, 0]
    assert found.cost(BEST) == 2 * found.cost("base")  # all of the grid
    assert "| best of the grid, chosen by the shifted test | 90.0 ± 0.0 | 62.0 ± 11.0 |" in setting_table(found)


def test_seeds_that_lack_a_row_are_left_out() -> None:
    rows = [row for row in rows_of(ACCURACIES) if row.key != "tiny/base/1"]
    found = Results.of(SETTING, rows)
    assert found is not None
    assert [run.seed for run in found.runs["learned-test"]] == [0, 2]
    assert Results.of(SETTING, rows[:2]) is None


def test_intervals_are_those_of_paired_differences() -> None:
    gains = [1.0, 2.0, 4.5]
    expected = stats.ttest_1samp(gains, 0).confidence_interval(0.9)  # 5% on each side
    assert interval(gains) == pytest.approx((expected.low, expected.high))
    assert difference([1.0, 1.1, 1.2]).startswith("**+1.1 [")
    assert difference(gains) == f"{statistics.fmean(gains):+.1f} [{expected.low:+.1f}, {expected.high:+.1f}]"


def test_a_comparison_counts_settings_whose_interval_does_not_contain_0() -> None:
    better = Results.of(SETTING, rows_of({**ACCURACIES, "learned-test": [0.6, 0.7, 0.801]}))
    worse = Results.of(SETTING, rows_of({**ACCURACIES, "learned-test": [0.4, 0.5, 0.601]}))
    same = Results.of(SETTING, rows_of({**ACCURACIES, "learned-test": [0.6, 0.6, 0.6]}))
    assert better is not None
    assert worse is not None
    assert same is not None
    sentence = ON_SHIFTED["shifted"].sentence([better, better, worse, same])
    assert sentence == "+5.0, better in 2 and worse in 1 of 4"


def test_all_settings_name_a_task() -> None:
    assert {one.task for one in SETTINGS.values()} == set(TASKS)


def test_digits_keep_their_length_and_random_states_do_not_matter() -> None:
    unit = next(unit for unit in Validation().units() if unit.name == "digits-0.0/base/0")
    kept = next(row for row in Validation().read() if row.key == unit.name)
    torch.manual_seed(123)
    (row,) = Validation().measure(unit)
    assert row.clean == pytest.approx(kept.clean, abs=0.02)
    assert row.passes == kept.passes
