"""The page of a watch, as a browser shows it: at both widths, light and dark, with what the records say."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from letsam.operation import Alarm, Watch, WatchRecord, read_watch
from letsam.operation.estimates import Estimate
from letsam.operation.watch_figures import number_figure, watched_numbers
from letsam.operation.watch_page import number_rows, render_watch_page
from reports.browser import chromium
from watch_cases import batch, noisy

FACTS = {"task": "churn <b>&</b>", "method": "sam", "model": "f00"}


def record(batch: int, value: float, alarms: tuple[Alarm, ...] = (), **fields: Any) -> WatchRecord:
    data = {"name": f"month {batch}", "fingerprint": str(batch), "samples": 1200, "labels": 30}
    metrics = {"drift_auc": Estimate(value, value - 0.05, value + 0.05), "balanced_accuracy": Estimate(0.9, 0.85, 0.92)}
    tests = {
        "drift_auc": {"statistic": value, "p": 0.2, "level": 0.001},
        "balanced_accuracy": {"p": 0.5, "expected": 0.91, "limit": 0.88, "evidence": 1.5, "threshold": 280.0},
    }
    fields = {"metrics": metrics, "tests": tests, "state": {"rate": 0.05}} | fields
    return WatchRecord("2030-01-02T03:04:05+00:00", "f00", data, True, batch, alarms=alarms, **fields)


def test_what_the_page_says() -> None:
    alarm = Alarm("drift_auc", "the inputs have <changed>")
    page = render_watch_page([record(1, 0.5), record(2, 0.9, (alarm,)), record(3, 0.8, (alarm,))], FACTS)
    assert "1 alarm in batch 3" in page
    assert "<b>drift_auc</b>: the inputs have &lt;changed&gt;." in page
    assert "<li>batch 2, month 2: drift_auc</li>" in page
    assert "Watch: churn &lt;b&gt;&amp;&lt;/b&gt;" in page
    assert "Batch 3, month 3: 1,200 samples, 30 of them with labels." in page
    assert "evidence 1.5, alarm from 280" in page
    assert "p = 0.2, alarm up to 0.001" in page
    assert "probability of at most 5 %" in page
    assert page.count("<figure ") == 2
    assert "Last: 0.8 (0.75 to 0.85). Alarms: 2." in page
    assert "<script" not in page
    assert render_watch_page([record(1, 0.5)], FACTS) == render_watch_page([record(1, 0.5)], FACTS)
    assert "No alarm in batch 1" in render_watch_page([record(1, 0.5)], FACTS)


def test_the_interval_of_the_expected_accuracy_is_not_shown_where_the_inputs_have_changed() -> None:
    metrics = {"expected_accuracy": Estimate(0.9, 0.85, 0.95), "loss": Estimate(0.5, 0.4, 0.6)}
    quiet, mix, changed = (
        {row.name: row.interval for row in number_rows(record(1, 0.5, tuple(alarms), metrics=metrics))}
        for alarms in ((), (Alarm("feature_drift", ""),), (Alarm("embedding_distance", ""),))
    )
    assert quiet == mix == {"expected accuracy": "0.85 to 0.95", "loss": "0.4 to 0.6"}
    assert changed == {"expected accuracy": "not valid here", "loss": "0.4 to 0.6"}
    page = render_watch_page([record(1, 0.5, metrics=metrics)], FACTS)
    assert "Last: 0.9 (0.85 to 0.95). Alarms: 0. The intervals are for the number of samples alone." in page
    assert "Last: 0.5 (0.4 to 0.6). Alarms: 0.<" in page


def test_many_records() -> None:
    page = render_watch_page([record(number, 0.5) for number in range(1, 251)], FACTS)
    assert "The last 200 of 250 records of watch.jsonl." in page
    assert "month 51<" in page
    assert "month 50<" not in page


@pytest.mark.parametrize("count", [1, 2, 30])
def test_batches_are_whole_numbers(count: int) -> None:
    (number,) = watched_numbers([record(batch, 0.5) for batch in range(1, count + 1)])[:1]
    figure = number_figure(number)
    assert figure is not None
    (axes,) = figure.axes
    low, high = axes.get_xlim()
    ticks = [tick for tick in axes.get_xticks() if low <= tick <= high]
    assert ticks
    assert all(float(tick).is_integer() for tick in ticks)


def test_values_that_cannot_be_drawn() -> None:
    huge = record(1, 0.5, metrics={"loss": Estimate(1e300, 1e300, 1e300)}, tests={})
    page = render_watch_page([huge], FACTS)
    assert "<figure " not in page
    assert "1e+300" in page


@pytest.fixture
def browser() -> Iterator[Any]:
    with chromium() as found:
        yield found


@pytest.mark.browser
def test_in_a_browser(digits: Path, browser: Any, real_page: None) -> None:
    watch = Watch(digits, "w")
    for number in range(2):
        watch.observe(batch(number)[:60], True)
    watch.observe(noisy(batch(2)[:60], 2.0), True)
    last = read_watch("w")[-1]
    path = Path("w/watch.html").resolve()
    for scheme in ("light", "dark"):
        for width in (1280, 360):
            context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
            page = context.new_page()
            problems: list[str] = []
            requests: list[str] = []
            page.on("console", lambda message, found=problems: found.append(message.text))
            page.on("request", lambda request, found=requests: found.append(request.url))
            page.goto(path.as_uri())
            assert page.evaluate("document.documentElement.scrollWidth") == width
            assert problems == []
            assert requests == [path.as_uri()]
            assert page.locator("figure svg").count() == len(last.metrics)
            assert page.locator("h2").first.inner_text() == f"{len(last.alarms)} alarms in batch 3"
            colours = page.evaluate(
                "() => [getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]"
            )
            bright = [sum(map(int, colour[4:-1].split(","))) for colour in colours]
            assert (bright[0] > bright[1]) == (scheme == "light")
            context.close()
