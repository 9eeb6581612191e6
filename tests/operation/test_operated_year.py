"""The scheduler in `examples`: twelve months with each command, and what it remembers is in files alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.operation.year import without_pages
from letsam.model_folder import VersionRecord, model_place, version_of
from letsam.operation import read_rollout, read_watch
from page_code import ROOT, commands_of
from test_examples import load


@pytest.mark.slow
def test_twelve_months_of_watch_retune_shadow_and_rollout(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    year = tmp_path / "year"
    with without_pages():
        done = load("operated_year").main(year, train_epochs=12)
    assert len(done) == 12
    assert capsys.readouterr().out.count("month ") >= 12
    calm = [line.partition(": ")[2] for month in done[:4] for line in month]
    assert all(line.startswith("no alarm") for line in calm), "nothing has changed"
    assert any("watch v0001: alarm" in line for line in done[4]), "the scanner lies on its side"
    words = [line.split()[0] for month in done for line in month]
    assert {*words} == {"watch", "retune", "shadow", "rollout"}
    assert any("no-go" in line for month in done for line in month), "the labels were those of before the change"
    assert any("retune" in line and line.endswith(" go") for month in done for line in month)

    new = json.loads((year / "state.json").read_text())["models"]["champion"]
    assert new != "v0001", "a version with the verdict go was rolled out"
    assert model_place(year / "versions").name == new
    record = version_of(year / "versions" / new)
    assert isinstance(record, VersionRecord)
    assert record.made_by == "retune"
    decisions = read_rollout(year / f"rollout-{new}")
    assert [one.stage for one in decisions if one.decision == "proceed"] == ["shadow", "50%", "100%"]
    assert decisions[-1].complete
    old, later = (
        [one.metrics["accuracy"].value for one in read_watch(year / f"watch-{name}") if one.labelled]
        for name in ("v0001", new)
    )
    assert sum(later) / len(later) > sum(old[-3:]) / 3 + 0.2, "the new version reads what the old one cannot"


def test_the_guide_has_each_command_of_the_scheduler() -> None:
    text = (ROOT / "docs" / "operation.md").read_text(encoding="utf-8")
    assert {"watch", "retune", "shadow", "rollout", "models"} <= {command[0] for command in commands_of(text)}
    assert "examples/operated_year.py" in text
