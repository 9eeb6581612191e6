"""Data of other kinds than text and images: few runs, a table of their own, and no place in the counts."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.evidence.benchmark import Evidence
from benchmarks.evidence.domains import domains
from benchmarks.evidence.suite import ALL_FAMILIES, DOMAINS, EVERY, SETTINGS
from benchmarks.evidence.summary import EMPTY, Measured
from evidence_records import DIGITS, made_up

NOISY = next(setting for setting in DOMAINS if setting.noise)
STARTS = ("0.01", "0.05", "0.2", "1.0")


def test_the_suite_has_24_settings_without_them() -> None:
    assert len(SETTINGS) == 24
    assert {setting.domain for setting in SETTINGS} == {None}
    assert {setting.domain for setting in DOMAINS} == {"table", "audio"}
    assert set(DOMAINS) < set(EVERY)


@pytest.mark.parametrize("setting", DOMAINS, ids=lambda one: one.name)
def test_they_have_the_base_optimizer_a_grid_and_learning_in_one_run(setting: object) -> None:
    units = Evidence(settings=[setting], families=ALL_FAMILIES).units()  # pyright: ignore[reportArgumentType]
    methods = ["sgd", *(f"sam:{rho}" for rho in STARTS), *(f"lets-sam:{rho}@released" for rho in STARTS)]
    assert [unit.work[1:] for unit in units] == [(method, seed) for seed in range(3) for method in methods]


def measured(*gone: str) -> Measured:
    rows = made_up(NOISY, lambda start: {"0.01": -0.6, "1.0": -0.3}.get(start, 0.1), 2)
    return Measured(NOISY, tuple(row for row in rows if not row.key.endswith(gone)))


def test_the_table_has_a_column_for_each_start() -> None:
    line = f"| {NOISY.title} | {NOISY.domain} | 2 | 70.5 | 90.5 (`0.2`) | -0.6 | +0.1 | +0.1 | -0.3 | 0.95 |"
    text = domains([measured()])
    assert line in text
    assert text.endswith("At least the best of the grid minus 0.3: 3 of 4 starts.")


def test_the_table_has_seeds_that_all_of_them_have() -> None:
    assert "| 1 | 71.0 | 91.0 (`0.2`) |" in domains([measured("lets-sam:0.05@released/0")])
    assert domains([measured("lets-sam:0.05@released/0", "sgd/1")]) == EMPTY


def test_they_stand_apart_on_the_page(tmp_path: Path) -> None:
    evidence = Evidence(tmp_path)
    evidence.write([*made_up(DIGITS, lambda start: 0.0), *measured().records])
    evidence.make_page()
    text = (tmp_path / "evidence.md").read_text(encoding="utf-8")
    part = text[text.index("### New domains") : text.index("### Any validation data")]
    assert f"| {NOISY.title} |" in part
    assert text.count(f"| {NOISY.title} |") == 1
    assert "- In one run: met, of 1 settings: accuracy 1," in text
    assert f"## {NOISY.title}\n" in text
