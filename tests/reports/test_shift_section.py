"""The section of the page on tests under shift, as it is without the script."""

import csv
import dataclasses
import math
import re
import statistics

import pytest

from letsam.reports.html import render_report
from letsam.reports.shift_figures import severity_curve, severity_figure, shift_panels
from letsam.reports.shift_numbers import shift_numbers, shift_tables
from letsam.reports.styles import method_styles
from report_cases import trial, with_shifts
from reports.test_page import Page, read


@pytest.fixture(scope="module")
def shifted(five):
    return with_shifts(five)


def values_of(results, method, shift, name):
    return [run.shifted[shift][name] for run in results.runs_of(method)]


def test_the_table_has_means_over_severities_then_kinds_then_seeds(shifted):
    table = shift_tables(shifted, shift_numbers(shifted))["methods"]
    assert table.columns == (
        *("method", "accuracy %", "accuracy % shifted", "mean corruption error %"),
        *("ECE %", "ECE % shifted", "gap", "gap shifted"),
    )
    assert [row[0] for row in table.rows] == list(shifted.methods)
    row = table.rows[3]  # lets-sam: 0.90, 0.91, 0.92, and its changes are 2 to 10 and 4 to 20 points
    assert row[1:4] == ("91.00 ± 1.00", "82.00 ± 1.00", "18.00 ± 1.00")
    assert row[4:6] == ("6.00 ± 1.00", "15.00 ± 1.00")
    assert row[6:] == ("0.200 ± 0.000", "0.290 ± 0.000")


def test_each_kind_counts_the_same_whatever_its_severities(five):
    some = with_shifts(five, kinds=("noise",))
    runs = tuple(
        dataclasses.replace(run, shifted={**run.shifted, "blur:2": {**run.shifted["noise:1"], "metric": 0.5}})
        for run in some.runs
    )
    results = dataclasses.replace(some, runs=runs)
    row = shift_tables(results, shift_numbers(results))["methods"].rows[0]
    noise = statistics.fmean(statistics.fmean(values_of(results, "sgd", f"noise:{s}", "metric")) for s in range(1, 6))
    assert row[2].startswith(f"{100 * (noise + 0.5) / 2:.2f} ±")


def test_the_tables_of_each_shift(shifted):
    tables = shift_tables(shifted, shift_numbers(shifted))
    metric = tables["metric"]
    assert metric.columns == ("shift", *shifted.methods)
    assert [row[0] for row in metric.rows] == ["no shift", "noise", "blur"]
    assert [row[4] for row in metric.rows] == ["91.00", "85.00", "79.00"]
    assert [row[4] for row in tables["error"].rows] == ["6.00", "12.00", "18.00"]
    assert [row[4] for row in tables["gap"].rows] == ["0.200", "0.260", "0.320"]


def test_the_figures_have_the_means_by_severity(shifted):
    found = shift_numbers(shifted)
    metric, error, gap = found.quantities
    together = severity_curve(found, metric, "lets-sam", list(found.complete.values()))
    assert [severity for severity, _, _ in together] == [0, 1, 2, 3, 4, 5]
    assert [mean for _, mean, _ in together] == pytest.approx([91, 88, 85, 82, 79, 76])
    assert [spread for _, _, spread in together] == pytest.approx([1] * 6)
    noise = [found.drawn["noise"]]
    assert [mean for _, mean, _ in severity_curve(found, error, "sgd", noise)] == pytest.approx([6, 8, 10, 12, 14, 16])
    assert [m for _, m, _ in severity_curve(found, gap, "sgd", noise)] == pytest.approx(
        [0.2, 0.22, 0.24, 0.26, 0.28, 0.3]
    )
    figure = severity_figure(shifted, found, metric, noise, "noise")
    (line,) = [one for one in figure.axes[0].lines if one.get_color() == method_styles(shifted)["sgd"].color]
    assert list(line.get_xdata()) == [0, 1, 2, 3, 4, 5]
    assert list(line.get_ydata()) == pytest.approx([71, 69, 67, 65, 63, 61])


def test_small_figures_share_their_axis_where_the_metric_is_a_share(shifted):
    panels = shift_panels(shifted, shift_numbers(shifted))
    assert [panel.title for panel in panels.kinds] == ["noise", "blur"]
    assert "lets-sam from 91 at severity 0 to 81 at 5" in panels.kinds[0].description
    names = ["shift-metric", "shift-error", "shift-gap"]
    assert [panel.name for panel in panels.together] == names
    assert all("Mean over 2 shifts and all seeds." in panel.caption for panel in panels.together)
    ticks = [re.findall(r">(\d+)</text>", str(panel.svg)) for panel in panels.kinds]
    assert ticks[0] == ticks[1]


def test_the_page_has_the_section(shifted):
    config = {**shifted.config, "validation_shift": "noise:2"}
    page = Page(render_report(dataclasses.replace(shifted, config=config)))
    text = "".join(page.text)
    assert "under-shift" in page.ids
    assert "Learned radii were validated under noise:2; the other shifts are new to them." in text
    assert "noise (in validation)" in text
    for cell in ("accuracy % shifted", "mean corruption error %", "82.00 ± 1.00", "gap shifted", "0.290 ± 0.000"):
        assert cell in text
    assert [name for name in page.ids if name.startswith("figure-shift")] == [
        *("figure-shift-metric", "figure-shift-error", "figure-shift-gap"),
        *("figure-shift-kind-0", "figure-shift-kind-1"),
    ]
    rows = list(csv.DictReader(read(page.downloads["shifts.csv"]).splitlines()))
    assert len(rows) == len(shifted.runs) * 11
    assert (rows[1]["shift"], float(rows[1]["metric"])) == ("noise:1", pytest.approx(0.68))


def test_a_trial_without_such_tests_has_no_section(five):
    page = Page(render_report(five))
    assert "under-shift" not in page.ids
    assert "shifts.csv" not in page.downloads
    assert shift_numbers(five) is None


def test_numbers_to_predict_have_no_calibration_and_no_corruption_error(five):
    runs = tuple(dataclasses.replace(run, metric="RMSE", lower_is_better=True) for run in five.runs)
    results = with_shifts(dataclasses.replace(five, runs=runs), errors=False)
    found = shift_numbers(results)
    assert [one.name for one in found.quantities] == ["metric", "gap"]
    assert shift_tables(results, found)["methods"].columns == ("method", "RMSE", "RMSE shifted", "gap", "gap shifted")
    page = Page(render_report(results))
    assert "RMSE by severity" in "".join(page.text)


def test_few_severities_and_combined_shifts(five):
    """No mean by severity of shifts that were tested at some severities alone; combined shifts are in the tables."""
    results = with_shifts(five, kinds=("noise",), severities=(2,), extra=("noise:2+blur:1",))
    found = shift_numbers(results)
    assert found.complete == {}
    assert list(found.drawn) == ["noise"]
    assert [row[0] for row in shift_tables(results, found)["metric"].rows] == ["no shift", "noise", "noise:2+blur:1"]
    assert shift_panels(results, found).together == ()
    assert "under-shift" in Page(render_report(results)).ids


def test_a_run_that_diverged_is_a_dash_and_does_not_flatten_the_others():
    results = with_shifts(trial({"sgd": [0.7, 0.71], "lets-sam": [0.9, 0.92]}))
    first, second, third, last = results.runs
    broken = {name: {**test, "loss": math.nan} for name, test in last.shifted.items()}
    huge = {name: {**test, "loss": 1e9} for name, test in first.shifted.items()}
    runs = (dataclasses.replace(first, shifted=huge), second, third, dataclasses.replace(last, shifted=broken))
    results = dataclasses.replace(results, runs=runs)
    found = shift_numbers(results)
    assert shift_tables(results, found)["methods"].rows[1][-1] == "\N{EN DASH}"
    gap = found.quantities[-1]
    assert severity_curve(found, gap, "lets-sam", [found.drawn["noise"]]) == []
    assert "Under shift" in "".join(Page(render_report(results)).text)
