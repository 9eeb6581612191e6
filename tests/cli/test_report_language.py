"""`--language`: a real trial's report in Japanese, made again in English."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cli_cases import check_error
from report_languages import check_same_page

pytest.importorskip("babel")

NAMES = ("lets-sam+refit", "lets-sam", "sgd", "cups", "site", "north", "south", "outcome", "data.csv")


def test_a_trial_in_japanese(real_report: None, here: Path, letsam_run: Any) -> None:
    rows = [f"{i % 17},{'north' if i % 3 else 'south'},{int((7 * i) % 17 > 8)}" for i in range(160)]
    Path("data.csv").write_text("\n".join(["cups,site,outcome", *rows]))
    asked = ("--target", "outcome", "--methods", "sgd,lets-sam", "--seeds", "2", "--epochs", "2", "--out", "runs")
    status, out, _ = letsam_run("trial", "data.csv", *asked, "--evaluate-shift", "noisy:2", "--language", "ja")
    assert status == 0
    assert "A training takes" in out  # the terminal is in English
    path = Path("runs/report.html")
    japanese, results = path.read_text(encoding="utf-8"), Path("runs/results.json").read_bytes()
    assert letsam_run("report", "runs")[0] == 0
    english = path.read_text(encoding="utf-8")
    page = check_same_page(english, japanese, NAMES)
    for said in ("データから判断した内容", "シフト下の性能", "クラス別の結果", "キャリブレーション"):
        assert said in page.texts
    assert letsam_run("report", "runs", "--language", "ja")[0] == 0
    assert path.read_text(encoding="utf-8") == japanese
    assert Path("runs/results.json").read_bytes() == results  # records have no language


@pytest.mark.parametrize(
    "command",
    [
        ("trial", "digits"),
        ("train", "digits", "--method", "sgd"),
        ("report", "runs"),
        ("audit", "digits"),
    ],
    ids=lambda command: command[0],
)
def test_an_unknown_language_is_refused_before_anything_is_done(
    command: tuple[str, ...], here: Path, letsam_run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("letsam.tasks.load_task", lambda *_, **__: pytest.fail("a task was loaded"))
    before = sorted(here.iterdir())
    result = letsam_run(*command, "--language", "jp")
    check_error(result, "`language` must be en or ja, got 'jp'")
    assert sorted(here.iterdir()) == before


def test_the_help_names_the_languages(letsam_run: Any) -> None:
    for command in ("trial", "train", "report", "audit"):
        assert "Language of the report: en or ja." in letsam_run(command, "--help")[1]
