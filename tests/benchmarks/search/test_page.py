"""What the search measures, and what its page says about it."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.harness import DOCS
from benchmarks.harness.benchmark import missing
from benchmarks.search.benchmark import GRID, SETTINGS, Search, Setting
from benchmarks.search.claims import (
    CLAIMS,
    FROM_ONE,
    HIGHER,
    LOWER,
    NOT_HIGHER,
    RADIUS,
    SPREAD,
    Answer,
    Claim,
    Tried,
    answers,
)
from benchmarks.search.ideas import BY_NAME

TINY = Setting("digits", 200, 2, 0.4, (8,), 3, 2)


def test_what_is_missing_is_measured_and_the_table_shows_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Search, "settings", {"tiny": TINY})
    search = Search(tmp_path)
    assert search.run(search.units()) == 0
    rows = search.read()
    default = next(row for row in rows if row.name == "default")
    assert [len(one) for one in default.accuracy + default.held_out + default.rho] == [2, 2, 2, 2, 3, 3]
    assert {row.name for row in rows} >= {*GRID, "default", "no prior", "ramp instead of burn-in"}
    assert "held-out share 20%" not in {row.name for row in rows}  # not for everywhere
    assert all(row.accuracy != default.accuracy for row in rows if row.name in GRID)

    again = [unit for unit in search.units() if unit.name in ("default/tiny", "grid/tiny")]
    assert search.run(again) == 0
    assert "0 of 2 units" in capsys.readouterr().out.splitlines()[-1]  # nothing is left to do
    search.run(again, again=True)
    assert search.read() == rows  # and measures the same
    longer = Setting("digits", 200, 2, 0.4, (8,), 4, 2)
    monkeypatch.setattr(Search, "settings", {"tiny": longer})
    assert len(missing(search.units(), search.read())) == len(search.units())  # another length: all anew

    text = str(Search.sections(search, rows)["yardstick"])
    sgd = next(row for row in rows if row.name == "SGD").accuracy[0]
    assert f"| SGD | {sum(sgd) / 2:.1f} |" in text


def row(name: str, *accuracy: list[float], setting: str = "digits-0.4") -> Tried:
    return Tried(setting, name, 60, list(accuracy), [], [[0.1, 0.2, 0.3], [0.1, 0.4, 0.3]])


def test_the_table_is_the_difference_to_the_best_of_the_grid() -> None:
    rows = [row("SGD", [70.0, 72.0]), row("SAM 0.5", [93.0, 95.0]), row("default", [92.0, 91.0], [93.0, 93.0])]
    sections = Search().sections([*rows, row("no prior", [80.0, 80.0], [90.0, 80.0])])
    lines = [line for text in sections.values() for line in str(text).splitlines()]
    assert next(line for line in lines if line.startswith("| default")).endswith("| kept | -1.8 | -1.8 (1.5) |")
    assert next(line for line in lines if line.startswith("| no prior")).endswith("| argument | -11.5 | -11.5 (5.0) |")
    assert "| default | 0.2 / 0.4 |" in lines
    assert any("Without a prior" in line and "seen in part" not in line and "+3.5 (1 of 2)" in line for line in lines)


def test_claims_are_answered_seed_by_seed() -> None:
    rows = [row("default", [90.0, 90.0], [90.0, 91.0]), row("squared gap", [91.0, 88.0], [91.0, 91.5])]
    claim = Claim("", "squared gap", "accuracy", LOWER, ["digits-0.4", "fashion-0.4"])
    assert answers(claim, rows) == [Answer("digits-0.4", 0.125, 1, 2)]
    (spread,) = answers(Claim("", "squared gap", SPREAD, HIGHER, ["digits-0.4"]), rows)
    assert spread.agree == 1
    (seen,) = answers(Claim("", "squared gap", FROM_ONE, HIGHER, ["digits-0.4"]), rows)
    assert seen.agree == seen.count
    radius = answers(Claim("", "squared gap", RADIUS, NOT_HIGHER, ["digits-0.4"]), rows)
    assert radius == [Answer("digits-0.4", 1.0, 2, 2)]


def test_claims_are_about_ideas_and_settings_that_there_are() -> None:
    for claim in CLAIMS:
        assert {claim.idea, claim.than} <= set(BY_NAME)
        assert set(claim.settings) <= set(SETTINGS)
        assert claim.direction in (LOWER, HIGHER, NOT_HIGHER)
        assert claim.measure in ("accuracy", FROM_ONE, SPREAD, RADIUS)


def test_the_page_is_what_its_command_makes(tmp_path: Path) -> None:
    rows = Search().read()
    assert missing(Search().units(), rows) == []
    search = Search(tmp_path)
    search.write(rows[::-1])
    assert (tmp_path / "evidence" / "search.json").read_bytes() == (DOCS / "evidence" / "search.json").read_bytes()
    search.make_page()
    assert (tmp_path / "search.md").read_text(encoding="utf-8") == (DOCS / "search.md").read_text(encoding="utf-8")
