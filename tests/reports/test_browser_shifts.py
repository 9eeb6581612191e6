"""The section on tests under shift in headless Chromium: figures, their choice, switches, narrow and dark screens."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from letsam.reports.html import render_report
from letsam.reports.shift_numbers import shift_numbers, shift_tables
from letsam.results import Results
from report_cases import with_shifts
from reports.browser import Opened, chromium

pytestmark = pytest.mark.browser
TABLES = {"methods": "#shift-methods", "metric": "#shift-metric-table", "error": "#shift-error-table"}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as running:
        yield running


@pytest.fixture(scope="module")
def results(five: Results) -> Results:
    return with_shifts(five, kinds=("noise", "<b>blur</b>", "fog"), extra=("noise:2+fog:1",))


@pytest.fixture(scope="module")
def path(results: Results, tmp_path_factory: pytest.TempPathFactory) -> Path:
    written = tmp_path_factory.mktemp("page") / "shifts.html"
    written.write_text(render_report(results), encoding="utf-8")
    return written


@pytest.fixture(scope="module")
def opened(browser: Any, path: Path) -> Opened:
    """A page that tests leave as they found it."""
    return Opened(browser, path)


def line_of(opened: Opened, figure: str, method: str) -> dict[str, Any]:
    return next(one for one in opened.traces(figure) if f"{method}<br>" in (one["hovertemplate"] or ""))


def test_the_figures_are_drawn_with_the_numbers(opened: Opened) -> None:
    for name, expected in (
        ("shift-metric", [91, 87, 83, 79, 75, 71]),
        ("shift-error", [6, 10, 14, 18, 22, 26]),
        ("shift-gap", [0.2, 0.24, 0.28, 0.32, 0.36, 0.4]),
        ("shift-kind-0", [91, 89, 87, 85, 83, 81]),
        ("shift-kind-2", [91, 85, 79, 73, 67, 61]),
    ):
        line = line_of(opened, name, "lets-sam")
        assert line["x"] == [0, 1, 2, 3, 4, 5], name
        assert line["y"] == pytest.approx(expected), name
    assert opened.page.locator(".still:visible").count() == 0
    assert opened.page.locator("[data-figure=shift-kind-1] .gtitle").text_content() == "<b>blur</b>"
    assert opened.problems == []


def test_the_table_of_methods_fits_a_usual_window(browser: Any, path: Path) -> None:
    opened = Opened(browser, path, width=1100)
    sizes = "table => [table.offsetWidth, table.parentElement.clientWidth]"
    table, room = opened.page.locator("#shift-methods").evaluate(sizes)
    assert table <= room
    opened.page.context.close()


def axis(opened: Opened, figure: str) -> list[float]:
    return opened.page.evaluate(
        "name => document.querySelector(`[data-figure='${name}'] .plot`).layout.yaxis.range", figure
    )


def test_what_each_shift_shows_can_be_chosen(opened: Opened) -> None:
    assert axis(opened, "shift-kind-0") == axis(opened, "shift-kind-2")
    opened.page.select_option("#shift-quantity", label="expected calibration error (%)")
    assert line_of(opened, "shift-kind-0", "sgd")["y"] == pytest.approx([6, 8, 10, 12, 14, 16])
    opened.page.select_option("#shift-quantity", label="generalization gap")
    assert line_of(opened, "shift-kind-0", "sgd")["y"] == pytest.approx([0.2, 0.22, 0.24, 0.26, 0.28, 0.3])
    assert line_of(opened, "shift-metric", "sgd")["y"][0] == pytest.approx(71)  # the others stay
    opened.page.select_option("#shift-quantity", label="accuracy (%)")
    assert line_of(opened, "shift-kind-0", "sgd")["y"][0] == pytest.approx(71)


def test_tables_and_figures_follow_the_seeds(opened: Opened, results: Results) -> None:
    for seeds in ((0, 1, 2), (1, 2), (0,), (0, 1, 2)):
        for seed in seeds:
            opened.page.locator(f"input[name=seeds][value='{seed}']").set_checked(True)
        for seed in {0, 1, 2} - set(seeds):
            opened.page.locator(f"input[name=seeds][value='{seed}']").set_checked(False)
        some = dataclasses.replace(results, runs=tuple(run for run in results.runs if run.seed in seeds))
        found = shift_numbers(some)
        assert found is not None
        expected = shift_tables(some, found)
        for name, selector in TABLES.items():
            assert opened.table(selector) == [list(row) for row in expected[name].rows], (seeds, selector)
        assert line_of(opened, "shift-metric", "lets-sam")["y"][0] == pytest.approx(90 + sum(seeds) / len(seeds))
    assert opened.problems == []


def test_methods_can_be_switched_off(opened: Opened) -> None:
    box = opened.page.locator("input[name=methods]").nth(1)  # sam
    box.uncheck()
    assert [row[0] for row in opened.table("#shift-methods")] == ["sgd", "sam:0.1", "lets-sam", "lets-sam+refit"]
    assert len(opened.table("#shift-gap-table")[0]) == 1 + 4
    assert not any(
        "sam<br>" in (one["hovertemplate"] or "") and "lets" not in one["hovertemplate"]
        for one in opened.traces("shift-kind-0")
    )
    box.check()
    assert len(opened.table("#shift-methods")) == 5


def test_the_numbers_of_a_figure_and_the_keyboard(opened: Opened) -> None:
    details = opened.page.locator("[data-figure=shift-kind-0] .numbers")
    details.locator("summary").focus()
    opened.page.keyboard.press("Enter")
    opened.page.wait_for_selector("[data-figure=shift-kind-0] .numbers td")
    assert details.locator("tr").nth(0).text_content() == "methodseveritymeanstandard deviation"
    assert details.locator("tr").nth(2).locator("td").all_text_contents() == ["1", "69", "1"]
    opened.page.keyboard.press("Enter")
    label = opened.page.locator("[data-figure=shift-kind-0] .plot").get_attribute("aria-label") or ""
    assert "lets-sam from 91 at severity 0 to 81 at 5" in label


@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("script", [True, False])
def test_narrow_and_dark_screens_with_and_without_the_script(
    browser: Any, path: Path, width: int, script: bool
) -> None:
    one = Opened(browser, path, width, java_script_enabled=script, color_scheme="dark")
    assert (one.width(), one.problems) == (width, [])
    summary = one.page.locator("section[aria-labelledby=under-shift] .more summary")
    summary.click()
    assert (
        one.page.locator("#shift-methods:visible, #shift-metric-table:visible, #shift-gap-table:visible").count() == 3
    )
    assert one.width() == width
    stills = one.page.locator("section[aria-labelledby=under-shift] .still svg:visible")
    assert stills.count() == (0 if script else 6)
    if not script:
        assert one.page.locator("#shift-quantity:visible").count() == 0
        color = stills.first.evaluate("svg => getComputedStyle(svg).color")
        assert color == one.page.evaluate("getComputedStyle(document.body).color")
    one.context.close()
