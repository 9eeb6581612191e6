"""What the page says about results made up for the purpose, and that it is what its command makes."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.evidence import tables
from benchmarks.evidence.benchmark import Evidence
from benchmarks.evidence.suite import CLIPPED, SETTINGS, Setting
from benchmarks.evidence.summary import Measured, Record
from benchmarks.harness import DOCS
from evidence_records import BY_NAME, CLEAN, DIGITS, made_up, record
from letsam.reports.table import NOTHING


def measured(learned: Callable[[str], float], *more: Record, setting: Setting = DIGITS) -> Measured:
    """A setting with these results."""
    return Measured(setting, (*made_up(setting, learned), *more))


def page_of(evidence: Evidence, *rows: Record) -> str:
    """The page of these results."""
    evidence.write(rows)
    evidence.make_page()
    return (evidence.docs / "evidence.md").read_text(encoding="utf-8")


@pytest.fixture
def evidence(tmp_path: Path) -> Evidence:
    return Evidence(tmp_path)


def test_the_verdict_on_a_radius_that_meets_its_goals_and_on_one_that_does_not() -> None:
    one = measured(lambda start: {"1.0": -0.25, "5": -1.0}.get(start, 0.1))
    best = one.best("sam")
    assert best is not None
    assert (best.name, best.seeds) == ("sam:0.2", 2)
    assert best.accuracy == pytest.approx(90.5)
    verdict, refit = one.verdict("sam", ""), one.verdict("sam", "+refit")
    assert verdict is not None
    assert refit is not None
    assert verdict.worst == pytest.approx(-0.25)
    assert verdict.spread == pytest.approx(0.35)
    assert verdict.cost == pytest.approx(1.1)
    assert verdict.met == {"accuracy": True, "spread": True, "cost": True}
    assert refit.cost == pytest.approx(2.1)
    worse = one.verdict("asam", "")
    assert worse is not None
    assert worse.met == {"accuracy": False, "spread": False, "cost": True}


def test_bleu_is_not_in_percent() -> None:
    one = measured(lambda start: 0.0)
    bleu = [dataclasses.replace(row, environment={"metric": "BLEU"}) for row in one.records]
    text = tables.setting(dataclasses.replace(one, records=tuple(bleu)))
    assert "SAM with fixed radii, test BLEU (2 seeds): 0.01: 84.5," in text
    assert "| | test BLEU | minus" in text.replace("|  |", "| |")
    assert "test accuracy % (2 seeds)" in tables.setting(one)


def test_a_diverged_start_meets_no_goal() -> None:
    one = measured(lambda start: math.nan if start == "1.0" else 0.0)
    verdict = one.verdict("sam", "")
    assert verdict is not None
    assert verdict.met == {"accuracy": False, "spread": False, "cost": True}


def test_only_seeds_with_the_whole_grid_choose_its_best() -> None:
    one = measured(lambda start: 0.0, record("sam:1.0", 2, 1.0))  # a seed that has only begun
    best = one.best("sam")
    assert best is not None
    assert (best.name, best.seeds) == ("sam:0.2", 2)


def test_the_page_and_its_figures(evidence: Evidence) -> None:
    assert page_of(evidence).count("Not measured yet.") == 15
    text = page_of(evidence, *made_up(CLEAN, lambda start: -0.6), *made_up(DIGITS, lambda start: 0.0))
    rows = [line for line in text.splitlines() if line.startswith("| digits")]
    assert rows[0].startswith(
        "| digits, 0% label noise | 2 | 70.5 | 90.5 (`0.2`) | -0.6 ± 0.0 | -0.6 | **0.0** | **1.10** |"
    )
    assert rows[0].endswith("| no |")
    assert rows[1].endswith("| yes, both |")
    assert len(rows) == 18  # SAM, ASAM, one run, equal cost, validation data, ablation, losses, alternatives, ideas
    assert (
        rows[4] == "| digits, 0% label noise | 2 | 70.5 | 90.5 (`0.2`) | -0.6 ± 0.0 | -0.6 | **0.0** | **0.95** | no |"
    )
    assert rows[5].endswith("| +0.0 ± 0.0 | **+0.0** | **0.0** | **0.95** | yes |")
    assert "- In one run: met, of 2 settings: accuracy 1, spread 2, cost 2, all three 1." in text
    assert rows[8] == f"| digits, 0% label noise | 2 | 70.5 | 89.9 | {NOTHING} | {NOTHING} | 89.9 | 0.0 |"
    assert rows[9] == "| digits, 40% label noise | 2 | 70.5 | 90.5 | 88.5 | 88.5 | 90.5 | 2.0 |"
    assert "Range at most 1: in 1 of 2 settings." in text
    refit = "- With the refit: met, of 2 settings: accuracy 1, spread 2, cost 2, all three 1."
    assert f"{refit} Median of the means: -0.3." in text
    losses = "0.500 | 0.400 | 0.300 | **0.400**"
    assert rows[12] == f"| digits, 0% label noise | {losses} | {losses} |"
    assert "At most that of the best, of 2 settings: SAM 2, ASAM 2." in text
    assert rows[14] == "| digits, 0% label noise | 2 | -0.6 | -1.0 | -5.0 | -5.0 | -5.0 | -0.6 |"
    assert rows[16] == "| digits, 0% label noise | +0.5 / +0.5 (4) | +0.0 / +0.0 (4) | +0.0 / +0.0 (4) |"
    assert "| mean over its settings | +0.5 / +0.5 | +0.0 / +0.0 | +0.0 / +0.0 |" in text
    wrapped = " ".join(text.split())  # the page wraps it
    counts = [f"{name} 2 (2 and 0), " for name in ("rising", "GSAM schedule", "loss budget", "Optuna")]
    assert f"ahead, of 2 settings: {''.join(counts)}the paper's reading, refit 0 (0 and 0). In brackets:" in wrapped
    as_good = "A method exactly as good as the best of the grid would meet the goal for accuracy in 2 of 2."
    assert f"{as_good} The mean is clearly above the best of the grid in 0, clearly below in 1." in wrapped
    assert "| best of the grid, `sam:0.2` | 90.5 ± 0.7 |" in text
    assert "| best rising, `sam-rising:0.2` | 89.5 ± 0.7 | -1.0 |" in text
    assert "| Optuna, 7 trials and a run | 85.5 ± 0.7 | -5.0 | 0.500 | 0.10 | 0.1 | 8.00 |" in text
    for stem in ("starts", "noise", "rho"):
        for kind in ("sam", "asam"):
            path = evidence.docs / "evidence" / f"{stem}-{kind}.svg"
            assert f"(evidence/{path.name})" in text
            assert path.stat().st_size < 200_000
    before = {path: path.read_bytes() for path in (evidence.docs / "evidence.md", *evidence.docs.rglob("*.svg"))}
    assert len(before) == 7
    evidence.make_page()
    assert all(path.read_bytes() == content for path, content in before.items())


def test_one_number_for_all_tasks(evidence: Evidence) -> None:
    """Only what ran in all of them; a method that is good in one setting and bad in the other shows its worst."""
    words = next(setting for setting in SETTINGS if setting.text)
    learned = {CLEAN: -0.6, DIGITS: 1.0, words: 0.1}
    rows = [row for setting, value in learned.items() for row in made_up(setting, lambda start, value=value: value)]
    text = page_of(evidence, *rows)
    part = text[text.index("### One number for all tasks, SAM") : text.index("### One number for all tasks, ASAM")]
    rows = [line for line in part.splitlines() if line.startswith("| ")]
    none = " | ".join([NOTHING] * 3)
    assert rows[0].endswith("images: close, of 2 | text: mean | text: worst | text: close, of 1 |")
    assert rows[2] == "| `sam:0.2` | +0.0 | +0.0 | 2 | +0.0 | +0.0 | 1 |"
    assert "| `lets-sam:0.2+refit` | +0.2 | -0.6 | 1 | +0.1 | +0.1 | 1 |" in rows
    assert f"| `lets-sam:1.0` | +0.2 | -0.6 | 1 | {none} |" in rows  # text has two starts
    assert f"| `sam:0.5` | -1.8 | -1.8 | 0 | {none} |" in rows
    assert rows[-1] == "| `sgd` | -20.0 | -20.0 | 0 | -20.0 | -20.0 | 0 |"


def test_settings_with_clipped_gradients_stand_apart(evidence: Evidence) -> None:
    clipped = CLIPPED[0]
    plain = BY_NAME[clipped.name.removesuffix("-clipped")]
    assert clipped.config == plain.config | {"max_grad_norm": 1.0}
    text = page_of(evidence, *made_up(plain, lambda start: -0.6), *made_up(clipped, lambda start: 0.1))
    part = text[text.index("### SAM, gradients clipped") : text.index("### ASAM, gradients clipped")]
    assert f"| {clipped.title} | 2 | 70.5 | 90.5 (`0.2`) | +0.1 ± 0.0 | **+0.1** | **0.0** |" in part
    assert part.count(" label noise") == 1
    assert "- Learned: met, of 1 settings: accuracy 0," in text
    assert f"## {clipped.title}" in text


def test_others_are_compared_over_the_seeds_that_all_have(evidence: Evidence) -> None:
    gone = {"digits-0.4/optuna-sam/1", *(f"digits-0.4/lets-sam:{start}+refit/0" for start in DIGITS.sam_starts)}
    rows = [row for row in made_up(DIGITS, lambda start: 0.0) if row.key not in gone]
    better = [record(f"lets-sam:{start}+refit", 0, 0.95) for start in DIGITS.sam_starts]
    text = page_of(evidence, *rows, *better)
    assert "| digits, 40% label noise | 1 | +5.0 | -1.0 | -5.0 | -5.0 | -5.0 | +0.0 |" in text


def test_results_of_other_options_are_not_shown(evidence: Evidence) -> None:
    assert "## digits, 40% label noise" in page_of(evidence, *made_up(DIGITS, lambda start: 0.0))
    path = evidence.docs / "evidence" / "digits-0.4.json"
    value = json.loads(path.read_text())
    value["config"]["epochs"] = 1
    path.write_text(json.dumps(value))
    assert evidence.measured(evidence.read()) == []
    assert evidence.figures([]) == {}


COMMITTED = Evidence()
MEASURED = COMMITTED.measured(COMMITTED.read())


@pytest.mark.skipif(not MEASURED, reason="docs/evidence has no results of the settings that there are now")
def test_the_evidence_page_is_what_its_command_makes(evidence: Evidence) -> None:
    kept = evidence.docs / "evidence"
    shutil.copytree(DOCS / "evidence", kept, ignore=shutil.ignore_patterns("*.svg"))
    evidence.make_page()
    assert (evidence.docs / "evidence.md").read_text() == (DOCS / "evidence.md").read_text()
    figures = list(kept.glob("*.svg"))
    assert len(figures) == 6
    for figure in figures:
        assert figure.read_bytes() == (DOCS / "evidence" / figure.name).read_bytes(), figure.name


def test_the_committed_results_survive_a_round_trip(evidence: Evidence) -> None:
    evidence.write(COMMITTED.read())
    for path in (evidence.docs / "evidence").iterdir():
        new, old = (json.loads((folder / path.name).read_text()) for folder in (path.parent, DOCS / "evidence"))
        runs = [sorted(map(json.dumps, content.pop("runs"))) for content in (new, old)]
        assert runs[0] == runs[1]
        assert new == old
    assert {row.setting for row in COMMITTED.read()} == {path.stem for path in (evidence.docs / "evidence").iterdir()}


@pytest.mark.parametrize("one", MEASURED, ids=lambda one: one.setting.name)
def test_the_evidence_holds_a_whole_grid(one: Measured) -> None:
    assert one.best("sam") is not None
