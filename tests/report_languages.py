"""Two pages of one trial in two languages, compared."""

from __future__ import annotations

import re
from collections import Counter
from html.parser import HTMLParser

WORDS = re.compile(r"[A-Za-z][A-Za-z'-]*(?:[ ,]+[A-Za-z][A-Za-z'-]*){2,}")
"""Three Latin words in a row: English."""


class SeenPage(HTMLParser):
    """What a reader or a screen reader gets of a page: its texts, the cells of its tables, and the ids of its parts.

    Args:
        html: the page. Code, scripts and the tables of the configuration and the environment are left out.
    """

    def __init__(self, html: str) -> None:
        super().__init__()
        self.language, self.texts, self.cells, self.ids = "", list[str](), list[str](), list[str]()
        self._hidden, self._drawn, self._cell = list[str](), False, False
        setup = re.compile(r'<section aria-labelledby="setup">.*?<section aria-labelledby="definitions">', re.DOTALL)
        self.feed(setup.sub("", html))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "html":
            self.language = given["lang"]
        if tag in ("script", "style", "code"):
            self._hidden.append(tag)
        if tag in ("td", "th"):
            self.cells.append("")
            self._cell = True
        self._drawn = self._drawn or tag == "svg"
        self.ids += [given["id"]] if "id" in given and not self._drawn else []
        self.texts += [given[name] for name in ("aria-label", "title", "alt") if name in given]

    def handle_endtag(self, tag: str) -> None:
        if self._hidden and self._hidden[-1] == tag:
            self._hidden.pop()
        self._drawn = self._drawn and tag != "svg"
        self._cell = self._cell and tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        if self._hidden or not data.strip():
            return
        self.texts.append(" ".join(data.split()))
        if self._cell:
            self.cells[-1] += data

    def english(self, names: tuple[str, ...] = ()) -> list[str]:
        """The texts with English in them, where these names are taken out first."""
        return [text for text in self.texts if WORDS.search(self._without(text, names))]

    def measured(self) -> Counter[str]:
        """All numbers with a decimal point, which are measured or computed, and how often each is there."""
        return Counter(number for text in self.texts for number in re.findall(r"[-+]?\d+\.\d+", text))

    @staticmethod
    def _without(text: str, names: tuple[str, ...]) -> str:
        for name in sorted(names, key=len, reverse=True):
            text = text.replace(name, "")
        return text


def check_same_page(english: str, other: str, names: tuple[str, ...] = ()) -> SeenPage:
    """Fail unless two pages have the same numbers, cells with numbers, and ids, and the other one has no English.

    Args:
        english: a page.
        other: the same in another language.
        names: that stay in all languages: methods, files, columns.
    """
    one, two = SeenPage(english), SeenPage(other)
    assert one.language == "en" != two.language
    assert one.ids == two.ids
    assert len(one.ids) > 10
    digits = [[sorted(re.findall(r"[-+]?[\d.,]*\d", cell)) for cell in page.cells] for page in (one, two)]
    cells = zip(one.cells, two.cells, *digits, strict=True)
    assert not (differing := [(cell, its) for cell, its, ours, theirs in cells if ours != theirs]), differing
    assert one.measured() == two.measured(), (one.measured() - two.measured(), two.measured() - one.measured())
    assert len(one.measured()) > 5
    assert not (left := two.english(names)), left
    assert len(one.english(names)) > 20  # the search finds English where there is some
    return two
