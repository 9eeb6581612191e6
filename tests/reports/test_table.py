"""The table of a trial, in the terminal and in Markdown."""

import dataclasses
import io
import math

import pytest

from letsam.results import Results
from report_cases import trial

rich_console = pytest.importorskip("rich.console")

from letsam.reports import table as tables  # noqa: E402


def test_the_markdown_table_shows_means_and_marks_the_best(five):
    lines = tables.markdown_table(five).splitlines()
    assert lines[0] == (
        "| method | test accuracy % | test loss | gap | rho initial → final | gradient passes | seconds |"
    )
    assert lines[2] == "| sgd | 71.00 ± 1.00 | 0.500 | 0.200 | \N{EN DASH} | 100 | 2.0 |"
    assert lines[3] == "| sam | 81.00 ± 1.00 | 0.500 | 0.200 | 0.05 | 200 | 2.0 |"
    assert lines[5] == (
        "| **lets-sam** | **91.00 ± 1.00** | **0.500** | **0.200** | **0.05 → 0.2** | **300** | **2.0** |"
    )
    assert len(lines) == 7
    assert sum("**" in line for line in lines) == 1


def rendered(table, width):
    console = rich_console.Console(file=io.StringIO(), width=width, force_terminal=True, color_system="standard")
    console.print(table)
    return console.file.getvalue()


def test_the_terminal_table_fits_80_columns_and_bolds_the_best_row_only(five):
    text = rendered(tables.results_table(five), 80)
    assert "…" not in text
    assert "71.00 ± 1.00" in text
    rows = [line for line in text.splitlines() if "±" in line]
    assert [line.startswith("\x1b[1m") for line in rows] == [False, False, False, True, False]


def test_a_method_name_is_not_taken_for_markup():
    results = trial({"sgd": [0.5], "[red]|x": [0.6]})
    assert "[red]|x" in rendered(tables.results_table(results), 100)
    assert r"[red]\|x" in tables.markdown_table(results)


def test_diverged_and_missing_runs_are_told_in_the_table(broken):
    sgd, learned = tables.table_rows(broken)
    assert learned.cells[1].endswith("(1 diverged)")
    assert learned.cells[2:4] == ("diverged", "diverged")
    assert (sgd.best, learned.best) == (True, False)
    short = Results(broken.task, {}, {}, broken.runs[:3])
    assert tables.table_rows(short)[1].cells[0] == "lets-sam (1/2 seeds)"


def test_the_best_of_several_fixed_radii_is_told_under_the_table(five):
    assert "best of 2 fixed radii: sam:0.1" in rendered(tables.results_table(five), 80)
    assert "fixed radii" not in rendered(tables.results_table(trial({"sam": [0.7], "lets-sam": [0.8]})), 80)


def test_what_a_search_has_chosen_are_columns(five):
    values = {"sgd": {"lr": 0.1}, "sam": {"lr": 0.0123456, "weight_decay": 5e-4}}
    runs = tuple(dataclasses.replace(run, hyperparameters=values.get(run.method, {})) for run in five.runs)
    lines = tables.markdown_table(dataclasses.replace(five, runs=runs)).splitlines()
    assert "| rho initial → final | lr | weight_decay | gradient passes |" in lines[0]
    assert "| 0.05 | 0.0123 | 0.0005 | 200 |" in lines[3]
    assert "| \N{EN DASH} | 0.1 | \N{EN DASH} | 100 |" in lines[2]


def test_nothing_is_best_when_every_accuracy_is_nan():
    assert [row.best for row in tables.table_rows(trial({"sgd": [math.nan], "sam": [math.nan]}))] == [False, False]
