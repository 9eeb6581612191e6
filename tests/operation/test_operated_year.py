"""The scheduler in `examples`: twelve months with each command, and what it remembers is in files alone."""

from __future__ import annotations

import json
import re
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
        done = load("operated_year").main(year)
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
    check_the_guide(year)
    old, later = (
        [one.metrics["accuracy"].value for one in read_watch(year / f"watch-{name}") if one.labelled]
        for name in ("v0001", new)
    )
    assert sum(later) / len(later) > sum(old[-3:]) / 3 + 0.2, "the new version reads what the old one cannot"


def check_the_guide(year: Path) -> None:
    """The numbers of the guide are those of the example, up to what another processor changes."""
    text = " ".join((ROOT / "docs" / "operation.md").read_text(encoding="utf-8").split())

    def told(pattern: str) -> list[float]:
        found = re.search(pattern, text)
        assert found is not None, pattern
        return [float(one) for one in found.groups()]

    new = next(path.name.removeprefix("rollout-") for path in sorted(year.glob("rollout-*")))  # the first with a go
    old, challenger = (read_watch(year / f"watch-{name}") for name in ("v0001", new))
    labelled = [[one for one in records if one.labelled] for records in (old, challenger)]
    tests = [records[0].tests["accuracy"] for records in labelled]
    held_out = told(r"(\d+) digits are held out, with an accuracy of ([\d.]+) %. The limit is ([\d.]+) %")
    assert held_out == pytest.approx([210, 100 * tests[0]["expected"], 100 * tests[0]["limit"]], abs=3)
    changed = [one for one in old if any(alarm.code == "drift_auc" for alarm in one.alarms)]
    accuracies = [100 * one.metrics["accuracy"].value for one in labelled[0] if one.metrics["accuracy"].value < 0.5]
    expected = [100 * one.metrics["expected_accuracy"].value for one in changed]
    assert told(r"it is (\d+) % in the months in which the accuracy is between (\d+) % and (\d+) %") == pytest.approx(
        [sum(expected) / len(expected), min(accuracies), max(accuracies)], abs=5
    )
    assert not any(one.alarmed for one in labelled[1])
    lowest = min(100 * one.metrics["accuracy"].value for one in labelled[1])
    assert told(r"with an accuracy of (\d+) % on its held-out data has no alarm at (\d+) %") == pytest.approx(
        [100 * tests[1]["expected"], lowest], abs=8
    )
    drop = 100 * (changed[0].metrics["expected_accuracy"].value - challenger[0].metrics["expected_accuracy"].value)
    gain = 100 * labelled[1][0].metrics["accuracy"].value - accuracies[-2]
    assert told(r"accuracy that is (\d+) points lower and an accuracy that is (\d+) points higher") == pytest.approx(
        [drop, gain], abs=10
    )


def test_the_guide_has_each_command_of_the_scheduler() -> None:
    text = (ROOT / "docs" / "operation.md").read_text(encoding="utf-8")
    assert {"watch", "retune", "shadow", "rollout", "models"} <= {command[0] for command in commands_of(text)}
    assert "examples/operated_year.py" in text
