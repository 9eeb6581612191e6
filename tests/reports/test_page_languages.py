"""The page of a trial in Japanese: the same numbers and parts, no English left, and it works in a browser."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest

from letsam.decision import decide
from letsam.languages import spoken_language
from letsam.reports.html import render_report, write_report
from letsam.results import Results
from letsam.results.predicted import Predictions
from report_cases import make_run, predictions_of, trial, with_shifts
from report_languages import check_same_page
from reports.browser import Opened, chromium

pytest.importorskip("babel")

CLASSES = ("cat", "dog & <b>cow</b>", "hen", "owl")
NAMES = ("lets-sam+refit", "lets-sam", "sam:0.1", "sam", "sgd", *CLASSES, "letsam audit")
NOTHING = "the learned radius is at its upper bound, 10: it would be larger if it could (`LogAdam(bounds=...)`)"


def everything(five: Results) -> Results:
    """With all that a page may say: verdict, shifts, warnings, skipped steps, further metrics, rows about data."""
    runs = [
        dataclasses.replace(
            run,
            radius_warning=NOTHING if "lets" in run.method else None,
            steps=100,
            skipped_steps=60 if run.method == "sgd" else 2,
            metrics={"accuracy": run.test_accuracy, "F1": 0.5 + run.seed / 10, "log loss": 0.3},
            continued_at=(1,) if run.method == "sam" else (),
        )
        for run in with_shifts(five, extra=("labels",)).runs
    ]
    chosen = {"method": "lets-sam", "seed": 0, "chosen_by": "among 4 by the highest mean test accuracy over 3 seeds"}
    config = {"seeds": [0, 1, 2, 3], "label_noise": 0.2, "validation_shift": "noise:2", "refit_best": chosen}
    config |= {"search": ["lr", "weight_decay"], "search_trials": 20}
    inferred = (
        ("classes", "2: no 3, yes 1"),
        ("test data", "20 % of the rows, drawn at random, the same for all seeds"),
    )
    found = decide(five, baseline="sam", minimum_effect=5.5)
    decision = dataclasses.replace(found, cost_per_pass=0.01).as_json()
    return dataclasses.replace(
        five, runs=tuple(runs), config={**five.config, **config}, inferred=inferred, decision=decision
    )


def broken() -> Results:
    """The second seed of the second method ends in NaN."""
    results = trial({"sgd": [0.7, 0.71], "lets-sam": [0.9, 0.1]})
    run = make_run("lets-sam", 1, 0.1, loss=math.nan)
    history = {**run.history, "test_loss": [1.0, 1e9, math.nan], "generalization_gap": [0.1, 1e9, math.nan]}
    return results.with_run(dataclasses.replace(run, history=history))


def with_metric(results: Results, metric: str) -> Results:
    runs = tuple(dataclasses.replace(run, metric=metric, lower_is_better=True) for run in results.runs)
    return dataclasses.replace(results, runs=runs)


def in_both(results: Results, predictions: tuple[Predictions, ...] = ()) -> tuple[str, str]:
    return render_report(results, predictions, "en"), render_report(results, predictions, "ja")


@pytest.mark.parametrize("kind", ["classification", "many classes", "multilabel", "regression", "none"])
def test_the_page_has_the_same_numbers_and_no_english(five: Results, kind: str) -> None:
    results, predictions = everything(five), ()
    if kind == "regression":
        results = with_metric(results, "RMSE")
    if kind == "many classes":
        predictions = predictions_of(five, classes=tuple(f"c{i}" for i in range(60)), outputs=60, samples=600)
    elif kind != "none":
        predictions = predictions_of(results, kind, classes=CLASSES)
    page = check_same_page(*in_both(results, predictions), NAMES)
    assert spoken_language() == "en"
    text = " ".join(page.texts)
    for said in ("摂動半径", "汎化ギャップ", "勾配計算の回数", "シフト下の性能", "ハイパー勾配"):
        assert said in text
    assert page.language == "ja"
    assert ("テストRMSE" if kind == "regression" else "テスト正解率") in text


@pytest.mark.parametrize("methods", [{}, {"sgd": [0.7]}, {"sgd": [0.7, 0.71], "lets-sam": [0.9, 0.91]}])
def test_small_trials(methods: dict[str, list[float]]) -> None:
    english, japanese = in_both(trial(methods))
    if methods:
        check_same_page(english, japanese, NAMES)
    else:
        assert "まだ学習が 1 つも終わっていない" in japanese


def test_a_trial_that_diverges() -> None:
    page = check_same_page(*in_both(broken()), NAMES)
    assert any("発散した学習: lets-sam（2 回中 1 回）。" in text for text in page.texts)


@pytest.mark.parametrize(("seeds", "effect"), [(1, 0.0), (2, 5.0), (3, 0.0), (3, 5.0), (3, 30.0)])
def test_verdicts(seeds: int, effect: float) -> None:
    results = trial({"sgd": [0.70, 0.71, 0.72][:seeds], "lets-sam": [0.74, 0.71, 0.78][:seeds]})
    found = decide(results, baseline="sgd", minimum_effect=effect)
    results = dataclasses.replace(results, decision=found.as_json())
    page = check_same_page(*in_both(results), NAMES)
    verdict = {"go": "Go（採用）: ", "no-go": "No-go（見送り）: ", "more seeds": "シードをあと"}[found.verdict]
    assert any(text.startswith(verdict) for text in page.texts)


def test_an_unknown_language_writes_nothing(five: Results, tmp_path: Path) -> None:
    for language in ("fr", "", "ja-JP"):
        with pytest.raises(ValueError, match=f"`language` must be en or ja, got {language!r}"):
            write_report(five, tmp_path / "report.html", language)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.browser
@pytest.mark.parametrize("width", [1280, 360])
def test_the_page_works_in_a_browser(five: Results, tmp_path: Path, width: int) -> None:
    path = tmp_path / "page.html"
    path.write_text(render_report(everything(five), predictions_of(five, classes=CLASSES), "ja"), encoding="utf-8")
    with chromium() as browser:
        opened = Opened(browser, path, width)
        assert opened.width() <= width
        page = opened.page
        assert page.locator("[data-figure=metric] .xtitle").text_content() == "エポック"
        assert "シード %{customdata}" in str(opened.traces("metric-dots")[0]["hovertemplate"])
        page.select_option("#class-score", "recall")
        assert page.locator("[data-figure=classes] .gtitle").text_content() == "クラス別 再現率 (%)"
        details = page.locator("[data-figure=metric] .numbers")
        details.locator("summary").click()
        page.wait_for_selector("[data-figure=metric] .numbers td")
        assert details.locator("th[scope=col]").all_text_contents() == ["手法", "エポック", "平均", "標準偏差"]
        page.locator("input[name=seeds]").first.uncheck()
        assert opened.table("table.results")[0][1].endswith("% スキップ）")
        # The first column of a table of pairs has room for words on a narrow screen.
        widths = page.eval_on_selector_all("#setup ~ .grid th", "all => all.map(one => one.clientWidth)")
        assert min(widths) > 80 or width > 360
        assert opened.problems == []
