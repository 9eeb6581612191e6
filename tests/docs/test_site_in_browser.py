"""All pages of the site in headless Chromium at two widths, and its search."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reports.browser import chromium
from site_cases import pages_of

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as running:
        yield running


class Window:
    """A window of the browser, and what went wrong on the pages that it has shown.

    Args:
        browser: from `chromium`.
        address: of the site.
        width: in pixels.
    """

    def __init__(self, browser: Any, address: str, width: int) -> None:
        self.page = browser.new_context(viewport={"width": width, "height": 900}).new_page()
        self.problems: list[str] = []
        self.page.on("console", lambda message: self.problems.append(f"{self.page.url}: {message.text}"))
        self.page.on("pageerror", lambda error: self.problems.append(f"{self.page.url}: {error}"))
        self.page.on("response", self._answered)
        self.page.on("request", lambda request: self._asked(request.url, address))

    def _answered(self, response: Any) -> None:
        if response.status >= 400:
            self.problems.append(f"{response.url}: {response.status}")

    def _asked(self, url: str, address: str) -> None:
        if not url.startswith((address, "data:", "blob:")):
            self.problems.append(f"{self.page.url} loads {url}")


# Further than the window: what stands beyond its right edge, and is not in something that scrolls by itself.
WIDER = """() => {
  const width = document.documentElement.clientWidth
  const scrolls = one => one && (getComputedStyle(one).overflowX !== 'visible' || scrolls(one.parentElement))
  return [document.documentElement.scrollWidth > width ? 'the page' : '', ...[...document.querySelectorAll(
    '.md-content :is(p, li, table, pre, img, svg, math, h1, h2, h3, dt, dd, code)'
  )].filter(one => one.getBoundingClientRect().right > width + 1 && !scrolls(one.parentElement)).map(
    one => one.outerHTML.slice(0, 80)
  )].filter(one => one)
}"""
# Pictures that have not been loaded, and formulas that are still TeX.
UNDRAWN = """() => [
  ...[...document.images].filter(one => one.complete && !one.naturalWidth).map(one => one.src),
  ...[...document.querySelectorAll('.arithmatex, merror')].map(one => one.outerHTML),
]"""


@pytest.mark.parametrize("width", [1280, 360])
def test_every_page_fits_its_window_and_has_no_errors(browser: Any, site: Path, address: str, width: int) -> None:
    pages = pages_of(site)
    assert len(pages) > 50
    window, wrong = Window(browser, address, width), []
    index = {**json.loads((site / "search" / "search_index.json").read_text(encoding="utf-8")), "docs": []}
    window.page.route("**/search_index.json", lambda route: route.fulfill(json=index))  # to read it takes half the time
    for name in pages:
        window.page.goto(address + name + "/" * bool(name), wait_until="load")
        wrong += [(name, one) for script in (WIDER, UNDRAWN) for one in window.page.evaluate(script)]
    assert wrong == []
    assert window.problems == []


WORDS = [("", "hypergradient"), ("", "BatchNorm"), ("ja/", "終了ステータス"), ("ja/", "摂動半径"), ("ja/", "Optuna")]


@pytest.mark.parametrize(("language", "word"), WORDS)
def test_a_word_is_found(browser: Any, address: str, language: str, word: str) -> None:
    window = Window(browser, address, 1280)
    page = window.page
    page.goto(address + language)
    page.locator(".md-search__input").click()
    page.keyboard.insert_text(word)
    page.keyboard.press("End")  # an input method ends with a key, too
    page.wait_for_selector(".md-search-result__item")
    found = page.locator(".md-search-result__item").first
    assert word.lower() in found.inner_text().lower()
    found.locator("a").first.click()
    page.wait_for_url(lambda url: url != address + language)
    assert word.lower() in page.locator(".md-content").inner_text().lower()
    assert window.problems == []


def test_a_reader_can_change_the_language_and_stays_on_the_page(browser: Any, address: str) -> None:
    page = Window(browser, address, 1280).page
    page.goto(f"{address}start/", wait_until="networkidle")
    page.locator(".versions a").click()
    page.wait_for_url(f"{address}ja/start/")
    assert page.locator("html").get_attribute("lang") == "ja"
    page.locator(".md-header .md-select button").hover()
    page.locator(".md-select__link", has_text="English").click()
    page.wait_for_url(f"{address}start/")
