"""Pages without a script: what they show, in a browser of any width and theme."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from markupsafe import Markup

from letsam.reports.panels import Panel
from letsam.reports.prediction_tables import TextTable
from letsam.reports.static_page import CaptionedTable, PagePart, StaticPage
from reports.browser import Opened, chromium

SVG = Markup('<svg viewBox="0 0 10 5" role="presentation"><text x="1" y="4">drawn</text></svg>')
LONG = "a-name-without-any-space/" * 12
PAGE = StaticPage(
    "letsam shadow: <two> models",
    "Two <models>",
    facts=(("samples", "1,000"), ("data", LONG)),
    lead="They differ for 3 of 1,000 samples.",
    texts=("The first text & more.", LONG),
    numbers=(("level", "5 %"), ("place", LONG)),
    parts=(
        PagePart(
            "pictures", "Pictures", "How to read them.", panels=(Panel("one", "One", "said", "below", SVG, False),)
        ),
        PagePart(
            "rows",
            "Rows",
            tables=(
                CaptionedTable(
                    TextTable(("sample", *"abcdefgh"), ((LONG, *["some text"] * 8),)), "Long names", wraps=True
                ),
                CaptionedTable(TextTable(("class", "rate"), (("<cat>", "1 %"),)), "By class"),
            ),
        ),
        PagePart("none", "Nothing", absent="There is none."),
    ),
    definitions=(("term", "what it means"),),
    footer="Made by a test.",
)


def test_every_value_is_escaped_and_there_is_no_script() -> None:
    page = PAGE.render()
    assert page == PAGE.render()
    for text in ("Two &lt;models&gt;", "&lt;cat&gt;", "text &amp; more", "There is none.", "drawn", "Made by a test."):
        assert text in page
    assert "<script" not in page
    assert re.findall(r'href="#([\w-]+)"', page) == ["main", "pictures", "rows", "none"]
    assert "script-src" not in page
    assert "default-src 'none'" in page
    assert StaticPage("bare").render().count("<section") == 0


@pytest.mark.browser
def test_the_page_fits_every_screen_in_both_themes(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text(PAGE.render(), encoding="utf-8")
    with chromium() as browser:
        for theme in ("light", "dark"):
            for width in (1280, 360):
                opened = Opened(browser, path, width, color_scheme=theme, java_script_enabled=False)
                assert opened.width() <= width
                assert opened.requests == [path.as_uri()]
                assert opened.problems == []
                colour = opened.page.eval_on_selector("body", "one => getComputedStyle(one).backgroundColor")
                assert (colour == "rgb(16, 19, 23)") == (theme == "dark")
