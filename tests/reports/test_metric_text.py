"""Metrics are shown as they are: in percent, as plain numbers, and the lowest first where lower is better."""

from __future__ import annotations

import dataclasses

import pytest
from rich.console import Console

from letsam.reports import figures
from letsam.reports.html import render_report
from letsam.reports.metric_text import metric_scale, value_scale
from letsam.reports.page_data import live_figures
from letsam.reports.table import columns, further_metrics, further_table, results_table, table_rows
from letsam.reports.verdict import verdict
from letsam.results import Results
from report_cases import trial


def results(metric: str, values: dict[str, list[float]], *, lower: bool = False) -> Results:
    found = trial(values)
    runs = tuple(
        dataclasses.replace(
            run,
            metric=metric,
            metrics={metric: run.test_accuracy, "R2": 0.178 + run.seed / 1000, "AUROC": float("nan")},
            lower_is_better=lower,
        )
        for run in found.runs
    )
    return Results("houses.csv", {}, {}, runs, name="houses")


@pytest.mark.parametrize(
    ("metric", "value", "text"),
    [
        ("accuracy", 0.9123, "91.23 %"),
        ("balanced accuracy", 0.9123, "91.23 %"),
        ("BLEU", 0.2431, "24.31"),
        ("R2", 0.17842, "0.178"),
        ("R2", -0.5, "-0.500"),
        ("AUROC", 0.98765, "0.988"),
        ("Spearman", 0.00005123, "0.000"),
        ("RMSE", 5.4321, "5.432"),
        ("RMSE", 54.321, "54.32"),
        ("RMSE", 181234.5, "181234"),
        ("RMSE", 0.00123456, "0.00123"),
        ("RMSE", float("nan"), "diverged"),
    ],
)
def test_a_metric_is_shown_as_it_is(metric: str, value: float, text: str) -> None:
    scale = value_scale(metric, [abs(value)])
    assert scale.text(value) + scale.unit == text


RMSE = results("RMSE", {"sgd": [56.0, 57.0], "sam:0.1": [54.3, 54.5], "lets-sam": [53.1, 53.2]}, lower=True)
R2 = results("R2", {"sgd": [0.17, 0.171], "sam:0.1": [0.178, 0.179], "lets-sam": [0.18, 0.181]})


def test_the_lowest_error_is_the_best() -> None:
    rows = table_rows(RMSE)
    assert [(row.method, row.best) for row in rows] == [("sgd", False), ("sam:0.1", False), ("lets-sam", True)]
    assert rows[2].cells[1] == "53.15 ± 0.07"
    assert columns(RMSE)[1] == "test RMSE"
    said = verdict(RMSE)
    assert said.headline.startswith(
        "Of the 3 methods compared on houses, lets-sam reached the lowest mean test RMSE: 53.15 ± 0.07 over 2 seeds."
    )
    assert "-1.25 in RMSE against sam:0.1" in dict(said.comparisons)["lets-sam"]
    assert "A lower RMSE is better." in said.caveats
    figure = figures.method_comparison(RMSE)
    assert figure is not None
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["sgd", "sam:0.1", "lets-sam"]
    assert figure.axes[0].get_title(loc="left") == "Test RMSE"
    left, right = figure.axes[0].get_xlim()
    assert left < 53.1 < 57.0 < right
    live = live_figures(RMSE)
    assert (live["scale"], live["digits"], live["lower"]) == (1.0, 2, True)
    assert live["figures"]["metric-dots"]["better"] == -1


def test_an_r2_is_no_percentage() -> None:
    assert table_rows(R2)[1].cells[1] == "0.178 ± 0.001"
    assert metric_scale(R2).factor == 1
    said = verdict(R2)
    assert "the highest mean test R2: 0.180 ± 0.001 over 2 seeds" in said.headline
    assert "+0.002 in R2 against sam:0.1" in dict(said.comparisons)["lets-sam"]
    curve = figures.learning_curves(R2)
    assert curve is not None
    assert max(line.get_ydata()[-1] for line in curve.axes[0].lines) < 0.2  # type: ignore[index]
    assert live_figures(R2)["digits"] == 3


def test_errors_far_above_the_others_do_not_squeeze_them() -> None:
    values = {"a": [1.0], "b": [1.1], "c": [1.2], "d": [1.3], "e": [90.0]}
    axes = figures.method_comparison(results("RMSE", values, lower=True)).axes[0]  # type: ignore[union-attr]
    assert axes.get_xlim()[1] < 10
    assert any("mean 90.0" in text.get_text() for text in axes.texts)


def test_further_metrics_are_shown_beside_the_main_one() -> None:
    headings, rows = further_metrics(RMSE)
    assert headings == ("method", "R2", "AUROC")
    assert rows[0] == ("sgd", "0.178 ± 0.001", "–")  # noqa: RUF001
    assert further_metrics(Results("digits", {}, {})) == ((), ())
    assert further_table(Results("digits", {}, {})) is None
    console = Console(width=100, record=True)
    console.print(results_table(RMSE), further_table(RMSE))
    text = console.export_text()
    assert text.startswith("houses: means over seeds")
    assert "further metrics" in text


def test_the_title_is_the_tasks_own_name() -> None:
    page = render_report(RMSE)
    assert "<h1>Sharpness-aware trial: houses</h1>" in page
    assert "lower is better" in page
    assert "Further metrics of each method" in page
    assert "<dt>Points</dt>" not in page
    unnamed = dataclasses.replace(RMSE, name=None)
    assert "<h1>Sharpness-aware trial: houses.csv</h1>" in render_report(unnamed)
