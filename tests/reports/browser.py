"""Headless Chromium for the tests of the page."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)


@contextmanager
def chromium() -> Iterator[Any]:
    """A browser; the test is skipped where none is installed."""
    programs = [path for name in PROGRAMS if (path := shutil.which(name))]
    if not programs:
        pytest.skip("no Chromium is installed")
    api = pytest.importorskip("playwright.sync_api")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=programs[0], args=list(FLAGS))
        yield browser
        browser.close()


class Opened:
    """A page that was opened in a window of its own, and what went wrong while it was.

    Args:
        browser: from `chromium`.
        path: of the file.
        width: of the window in pixels.
        options: of the browser's context, such as `color_scheme`.
    """

    def __init__(self, browser: Any, path: Path, width: int = 1280, **options: Any) -> None:
        self.context = browser.new_context(viewport={"width": width, "height": 900}, **options)
        self.page = self.context.new_page()
        self.problems: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.problems.append(message.text))
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.problems.append(dialog.message), dialog.dismiss()))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(path.as_uri())
        if options.get("java_script_enabled", True):
            self.page.wait_for_selector("html[data-ready]", state="attached")

    def table(self, selector: str) -> list[list[str]]:
        """The visible cells of the body of a table."""
        return self.page.eval_on_selector_all(
            f"{selector} tbody tr",
            "rows => rows.filter(row => !row.hidden).map(row => [...row.cells].filter(cell => !cell.hidden)"
            ".map(cell => cell.textContent.trim()))",
        )

    def traces(self, figure: str) -> list[dict[str, Any]]:
        """What Plotly has drawn in a figure of the page."""
        return self.page.evaluate(
            "name => document.querySelector(`[data-figure='${name}'] .plot`).data.map("
            "({x, y, fill, hovertemplate}) => ({x, y, fill, hovertemplate}))",
            figure,
        )

    def width(self) -> int:
        """How wide the content is."""
        return self.page.evaluate("document.documentElement.scrollWidth")
