"""Pages without a script, in the style of the report: a verdict, its numbers, and sections of tables and figures.

    page = StaticPage("letsam shadow", "Two models", facts=(("samples", "500"),), lead="They differ for 3 samples.")
    write_atomically(Path("shadow.html"), page.render())

A page is one file that loads nothing. Its Content-Security-Policy allows no script at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from letsam.languages import gettext, sentences, spoken_language
from letsam.reports.panels import Panel
from letsam.reports.prediction_tables import TextTable
from letsam.results import printable

__all__ = ["CaptionedTable", "PagePart", "StaticPage", "page_environment", "page_style"]

FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class CaptionedTable:
    """A table of a page.

    Args:
        table: its columns and rows.
        caption: what it shows.
        wraps: whether its cells hold texts, which may take several lines.
    """

    table: TextTable
    caption: str
    wraps: bool = False


@dataclass(frozen=True)
class PagePart:
    """A section of a page.

    Args:
        anchor: where links lead; letters, digits and hyphens.
        heading: of the section.
        intro: how to read it.
        panels: figures, not live.
        tables: below the figures.
        absent: what the page says where there are neither figures nor tables.
    """

    anchor: str
    heading: str
    intro: str = ""
    panels: tuple[Panel, ...] = ()
    tables: tuple[CaptionedTable, ...] = ()
    absent: str = ""


@dataclass(frozen=True)
class StaticPage:
    """A page.

    Args:
        title: in the tab of the browser, and the heading if there is no other.
        heading: of the page.
        facts: pairs of a name and a value beneath the heading.
        lead: the main finding in one sentence.
        texts: what supports it, and what it does not say.
        numbers: pairs of a name and a value that the finding rests on.
        parts: the sections.
        definitions: pairs of a term and what it means.
        footer: how the page was made.

    Example:
        >>> page = StaticPage("letsam watch", facts=(("batch", "3"),), lead="No <alarm>.").render()
        >>> "No &lt;alarm&gt;." in page, "<script" in page
        (True, False)
    """

    title: str
    heading: str = ""
    facts: Sequence[tuple[str, str]] = ()
    lead: str = ""
    texts: Sequence[str] = ()
    numbers: Sequence[tuple[str, str]] = ()
    parts: Sequence[PagePart] = field(default_factory=tuple[PagePart, ...])
    definitions: Sequence[tuple[str, str]] = ()
    footer: str = ""

    def render(self) -> str:
        """The page as HTML; the same values always give the same page."""
        page = page_environment().get_template("static_page.html.j2").render(page=self, css=page_style())
        return printable(page, page=True)


def page_environment() -> Environment:
    """Jinja, for the templates of pages; it escapes every value. The messages are in the language that is spoken."""
    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {"_": _message, "sentences": sentences, "language": spoken_language()}
    return environment


def _message(message: str, **values: Any) -> Markup:
    """A message of a template, which may hold HTML, with its values escaped."""
    text = Markup(gettext(message))
    return text.format(**values) if values else text


def page_style() -> Markup:
    """The style sheet of all pages."""
    return Markup((FOLDER / "page.css").read_text(encoding="utf-8"))
