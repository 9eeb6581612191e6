"""The page of a trial in headless Chromium: figures, switches, themes, narrow screens, keyboard, no script."""

import dataclasses
import itertools
import math
from pathlib import Path

import pytest

from letsam.reports import table as tables
from letsam.reports.html import render_report
from letsam.reports.prediction_tables import prediction_tables, scores_of_runs
from letsam.reports.trial_outputs import trial_outputs
from letsam.results import Results
from report_cases import predictions_of, trial
from reports.browser import Opened, chromium

pytestmark = pytest.mark.browser
CLASSES = ("cat", "dog & <b>cow</b>", "hen", "owl")
FIGURES = ["metric-dots", "gap-dots", "metric", "test-loss", "train-loss", "gap", "radius", "hypergradient"]


@pytest.fixture(scope="module")
def browser():
    with chromium() as running:
        yield running


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("pages")


def written(folder: Path, name: str, results, predictions=()) -> Path:
    path = folder / f"{name}.html"
    path.write_text(render_report(results, predictions), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def classified(five, folder):
    return written(folder, "classified", five, predictions_of(five, classes=CLASSES))


@pytest.fixture(scope="module")
def opened(browser, classified):
    """A page that tests leave as they found it."""
    return Opened(browser, classified)


def test_every_figure_is_drawn_and_nothing_is_loaded(opened, classified):
    drawn = opened.page.eval_on_selector_all(
        "figure[data-figure]",
        "all => all.map(one => [one.dataset.figure, one.querySelectorAll('.main-svg').length > 0])",
    )
    assert drawn == [[name, True] for name in [*FIGURES, "classes", "reliability"]]
    assert opened.page.locator(".still:visible").count() == 0
    assert opened.problems == []
    assert opened.requests == [classified.as_uri()]


def test_the_figures_have_the_numbers(opened, five):
    line = next(one for one in opened.traces("metric") if "lets-sam<br>" in (one["hovertemplate"] or ""))
    assert line["x"] == [1, 2, 3]
    assert line["y"] == pytest.approx([50, 70, 91])
    dots = [one for one in opened.traces("metric-dots") if "seed" in one["hovertemplate"]]
    assert [one["y"][0] for one in dots] == ["sgd", "sam", "sam:0.1", "lets-sam+refit", "lets-sam"]  # from below
    assert dots[-1]["x"] == pytest.approx([90, 91, 92])
    radii = opened.traces("radius")
    assert len(radii) == 12
    assert (radii[6]["y"][0], radii[6]["y"][-1]) == pytest.approx((0.05, 0.2))


def shown(results, predictions, selector):
    """The rows that the table must have, as Python makes them."""
    if selector == "table.results":
        return [list(row.cells) for row in tables.table_rows(results)]
    found = trial_outputs(predictions)
    made = prediction_tables(found, scores_of_runs(found), "lets-sam")
    table = {"#class-table": made.classes, "#confusion-table": made.confusion, "#calibration-table": made.calibration}
    return [list(row) for row in table[selector].rows]


TABLES = ["table.results", "#class-table", "#confusion-table", "#calibration-table"]


def test_the_tables_follow_the_seeds(opened, five):
    predictions = predictions_of(five, classes=CLASSES)
    for seeds in ((0, 1, 2), (0, 2), (2,), (0, 1, 2)):
        for seed in (0, 1, 2):  # first those that are switched on: one is always on
            if seed in seeds:
                opened.page.locator(f"input[name=seeds][value='{seed}']").set_checked(True)
        for seed in {0, 1, 2} - set(seeds):
            opened.page.locator(f"input[name=seeds][value='{seed}']").set_checked(False)
        some = dataclasses.replace(five, runs=tuple(run for run in five.runs if run.seed in seeds))
        for selector in TABLES:
            expected = shown(some, [one for one in predictions if one.seed in seeds], selector)
            assert opened.table(selector) == expected, (seeds, selector)
        line = next(one for one in opened.traces("metric") if "lets-sam<br>" in (one["hovertemplate"] or ""))
        assert line["y"][-1] == pytest.approx(90 + sum(seeds) / len(seeds))
    assert opened.problems == []


def test_one_seed_is_always_on(opened):
    boxes = opened.page.locator("input[name=seeds]")
    boxes.nth(0).uncheck()
    boxes.nth(1).uncheck()
    boxes.nth(2).click()
    assert boxes.nth(2).is_checked()
    for index in (0, 1):
        boxes.nth(index).check()


def test_methods_can_be_switched_off(opened):
    box = opened.page.locator("input[name=methods]").nth(3)  # lets-sam
    box.uncheck()
    rows = opened.table("table.results")
    assert [row[0] for row in rows] == ["sgd", "sam", "sam:0.1", "lets-sam+refit"]
    assert opened.page.locator("tr.best .name").text_content() == "lets-sam+refit"
    assert len(opened.table("#class-table")[0]) == 2 + 4
    assert [row[0] for row in opened.table("#calibration-table")] == ["sgd", "sam", "sam:0.1", "lets-sam+refit"]
    assert not any("lets-sam<br>" in (one["hovertemplate"] or "") for one in opened.traces("metric"))
    box.check()
    assert opened.page.locator("tr.best .name").text_content() == "lets-sam"


def test_the_score_and_the_method_of_the_matrix_can_be_chosen(opened, five):
    predictions = predictions_of(five, classes=CLASSES)
    found = trial_outputs(predictions)
    scores = scores_of_runs(found)
    opened.page.select_option("#class-score", "recall")
    recall = [100 * scores["sgd", seed].recall[0] for seed in (0, 1, 2)]
    assert float(opened.table("#class-table")[0][2]) == pytest.approx(sum(recall) / 3, abs=0.051)
    assert opened.page.locator("[data-figure=classes] .gtitle").text_content() == "Recall of each class (%)"
    opened.page.select_option("#class-score", "f1")
    opened.page.select_option("#confusion-method", label="sgd")
    expected = prediction_tables(found, scores, "sgd").confusion.rows
    assert opened.table("#confusion-table") == [list(row) for row in expected]
    opened.page.select_option("#confusion-method", label="lets-sam")


def test_a_figure_answers_to_the_mouse(opened):
    plot = opened.page.locator("[data-figure=metric] .plot")
    plot.scroll_into_view_if_needed()
    box = opened.page.locator("[data-figure=metric] .nsewdrag").bounding_box()
    opened.page.mouse.move(box["x"] + box["width"] - 1, box["y"] + box["height"] / 4)
    opened.page.wait_for_selector("[data-figure=metric] .hovertext")
    assert "epoch 3" in opened.page.locator("[data-figure=metric] .hovertext").text_content()


def test_the_numbers_of_a_figure(opened):
    details = opened.page.locator("[data-figure=metric] .numbers")
    details.locator("summary").focus()
    opened.page.keyboard.press("Enter")
    opened.page.wait_for_selector("[data-figure=metric] .numbers td")
    rows = details.locator("tr")
    assert rows.nth(0).text_content() == "methodepochmeanstandard deviation"
    assert rows.nth(3).locator("td").all_text_contents() == ["3", "71", "1"]
    opened.page.keyboard.press("Enter")


def test_downloads(opened, tmp_path):
    with opened.page.expect_download() as download:
        opened.page.get_by_role("link", name="classes.csv").click()
    assert download.value.suggested_filename == "classes.csv"
    download.value.save_as(tmp_path / "classes.csv")
    lines = (tmp_path / "classes.csv").read_text().splitlines()
    assert lines[0] == "method,seed,class,samples,precision,recall,f1"
    assert len(lines) == 1 + 15 * 4


def test_keyboard_and_screen_reader(browser, classified):
    page = Opened(browser, classified).page
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the results"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    page.locator("input[name=seeds]").nth(0).focus()
    page.keyboard.press("Space")
    assert not page.locator("input[name=seeds]").nth(0).is_checked()
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("Space")

    count = lambda selector: page.locator(selector).count()  # noqa: E731
    assert [count(role) for role in ("main", "header", "footer", "nav[aria-label]", "h1")] == [1, 1, 1, 1, 1]
    assert page.locator(":is(input, select)").evaluate_all("all => all.every(one => one.labels.length === 1)")
    assert count("table:not(.pairs) > caption") == count("table:not(.pairs)")
    assert count(".scroll[tabindex='0'][role=region][aria-label]") == count(".scroll")
    assert count("[role=img]:not([aria-label])") == 0
    assert "Means over seeds of the test accuracy: sgd 0.71, sam 0.81" in (
        page.locator("[data-figure=metric] .plot").get_attribute("aria-label") or ""
    )
    levels = page.locator("h1, h2, h3").evaluate_all("all => all.map(one => Number(one.tagName[1]))")
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    ids = page.locator("[id]").evaluate_all("all => all.map(one => one.id)")
    assert len(ids) == len(set(ids))
    page.context.close()


def color(opened, name):
    return opened.page.evaluate(f"getComputedStyle(document.body).{name}")


def test_dark_mode_and_its_switch(browser, classified):
    dark = Opened(browser, classified, color_scheme="dark")
    text = "() => getComputedStyle(document.querySelector('[data-figure=metric] .xtick text')).fill"
    background, ticks = color(dark, "backgroundColor"), dark.page.evaluate(text)
    dark.page.select_option("#theme", "light")
    assert color(dark, "backgroundColor") == "rgb(245, 246, 248)" != background
    assert dark.page.evaluate(text) == "rgb(28, 33, 39)" != ticks
    dark.page.reload()
    dark.page.wait_for_selector("html[data-ready]", state="attached")
    assert color(dark, "backgroundColor") == "rgb(245, 246, 248)"  # it is remembered
    dark.page.select_option("#theme", "system")
    assert (color(dark, "backgroundColor"), dark.page.evaluate(text)) == (background, ticks)
    dark.page.emulate_media(color_scheme="light")
    assert color(dark, "backgroundColor") == "rgb(245, 246, 248)"
    dark.page.select_option("#theme", "dark")
    assert color(dark, "backgroundColor") == background
    assert dark.problems == []
    dark.context.close()


@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("script", [True, False])
def test_nothing_is_wider_than_the_window(browser, classified, width, script):
    one = Opened(browser, classified, width, java_script_enabled=script)
    assert one.width() == width
    assert one.problems == []
    if not script:
        assert one.page.locator(".still svg:visible").count() == 9
        assert one.page.locator(".switches:visible, .theme:visible, .numbers:visible, .plot:visible").count() == 0
        assert one.page.locator("table.results tbody tr:visible").count() == 5
        assert one.page.locator("#confusion-table:visible, #class-table:visible, .contested:visible").count() == 3
    one.context.close()


def test_the_names_of_settings_are_not_broken_into_letters_on_a_phone(browser, classified):
    one = Opened(browser, classified, 360)
    widths = one.page.eval_on_selector_all(".pairs:not(details *) th", "all => all.map(name => name.offsetWidth)")
    assert min(widths) > 90
    one.context.close()


def test_a_regression_with_residuals(browser, folder, five):
    runs = tuple(dataclasses.replace(run, metric="RMSE", lower_is_better=True) for run in five.runs)
    results = dataclasses.replace(five, runs=runs, inferred=(("target", "price: 60 numbers"),))
    predictions = predictions_of(results, "regression", outputs=1)
    one = Opened(browser, written(folder, "regression", results, predictions), 360)
    drawn = one.page.eval_on_selector_all("figure[data-figure]", "all => all.map(one => one.dataset.figure)")
    assert drawn == [*FIGURES, "fits", "residuals"]
    assert one.page.locator("#confusion-table, #calibration-table, #class-table").count() == 0
    found = trial_outputs(predictions)
    expected = prediction_tables(found, {}, None).residuals.rows
    assert one.table("#residual-table") == [list(row) for row in expected]
    assert one.page.locator("[data-figure=metric-dots] .ytick").last.text_content() == "sgd"  # the lowest
    assert "price: 60 numbers" in one.page.locator("main").inner_text()
    assert (one.problems, one.width()) == ([], 360)
    one.context.close()


HOSTILE = ["<img src=x onerror=alert(1)>", "</script><script>alert(2)</script>", "%{x} $a$ &lt;b&gt;"]


def test_names_do_nothing(browser, folder):
    results = trial({name: [0.5, 0.6] for name in HOSTILE})
    predictions = predictions_of(results, outputs=3, classes=tuple(HOSTILE))
    one = Opened(browser, written(folder, "hostile", results, predictions))
    one.page.locator("input[name=seeds]").nth(0).uncheck()
    assert one.page.locator("img").count() == 0
    assert one.page.locator("script").count() == 4
    assert [row[0] for row in one.table("table.results")] == HOSTILE
    assert set(one.page.locator("[data-figure=metric-dots] .ytick").all_text_contents()) == set(HOSTILE)
    assert one.problems == []
    one.context.close()


def test_pages_of_little(browser, folder, broken):
    """No run, one run, a run that diverged, predictions of one run alone."""
    nothing = Opened(browser, written(folder, "empty", Results("digits", {}, {})), java_script_enabled=False)
    assert "No run has finished yet" in nothing.page.locator("main").inner_text()
    single = trial({"sgd": [0.7]})
    diverged = trial({"sgd": [math.nan]})
    for name, results, predictions in (
        ("single", single, predictions_of(single)),
        ("diverged", diverged, ()),
        ("broken", broken, predictions_of(broken)[:1]),
    ):
        one = Opened(browser, written(folder, name, results, predictions))
        assert one.problems == [], name
        assert one.table("table.results") == [list(row.cells) for row in tables.table_rows(results)]
        one.context.close()
    nothing.context.close()
