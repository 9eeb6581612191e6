"""The languages of the documentation site; mkdocs calls these functions (`mkdocs.yml`).

- A page and its versions in other languages lead to each other, below the title and in the header.
- They have the same anchors, those of the English headings. The headings are one to one.
- A line may be broken between two sentences of Japanese or Chinese: on the site there is no space between them.
"""

from __future__ import annotations

import re
from pathlib import Path

from markdown import Markdown
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
DOCS = "docs"
DOCUMENTS = {"README.md": "index.md", "CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md"}
HEADING = re.compile(r"^(```.*?^```$|#+ [^\n]*$)", re.M | re.S)
# Where a break of a line would be a space: between two Japanese or Chinese characters, or after their punctuation.
WIDE = "[\u3000-\u30ff\u3400-\u9fff\uff00-\uffef]"
BREAK = re.compile(
    rf"(?:(?<=[\u3001\u3002\uff09\uff1a\u300d])(?P<ends>(?:</\w+>)*)\n *(?=[^\s<]|<(?:a|code|em|strong)\b)"
    rf"|(?<={WIDE})(?P<between>(?:</\w+>)*)\n *(?=(?:<(?:a|em|strong)\b[^>]*>)*{WIDE}))"
)


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Give the headings of a page in a further language the anchors of the English page."""
    english = ROOT / origin_of(DOCS, page.file.src_uri)
    if home_of(config) == DOCS or not english.is_file():
        return markdown
    options = {"toc": config.mdx_configs["toc"]}
    made = Markdown(extensions=["attr_list", "fenced_code", "toc"], extension_configs=options)
    anchors = re.findall(r'<h\d id="([^"]*)"', made.convert(english.read_text(encoding="utf-8")))
    headings = [found for found in HEADING.finditer(markdown) if found[0].startswith("#")]
    if len(anchors) != len(headings):
        counts = f"{len(headings)} headings, the English page has {len(anchors)}"
        raise PluginError(f"{page.file.src_uri} has {counts}: each of them needs one")
    for heading, anchor in reversed([*zip(headings, anchors, strict=True)]):
        markdown = f"{markdown[: heading.end()]} {{ #{anchor} }}{markdown[heading.end() :]}"
    return markdown


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Join lines of Japanese and Chinese, and lead to the other versions of a page below its title."""
    parts = re.split(r"<pre\b(.*?</pre>)", html, flags=re.S)
    code = '<pre lang="en"'  # what commands print is aligned, which fonts of other languages may not be
    html = "".join(code + part if place % 2 else BREAK.sub(_joined, part) for place, part in enumerate(parts))
    links = [
        f'<a href="{_address_in(one, page, config)}" {language_attributes(one["lang"], one["name"], config)}>'
        f"{one['name']}</a>"
        for one in _versions(page, config)
        if page.url and one["lang"] != config.theme["language"]  # the first page has the line of the README
    ]
    return html.replace("</h1>", f'</h1>\n<p class="versions">{" ".join(links)}</p>', 1) if links else html


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:
    """Let the choice of the language in the header lead to the same page, where the language has it."""
    for one in _languages(config):
        rest = f'hreflang="{one["lang"]}" class="md-select__link">'
        output = re.sub(f'<a href="[^"]*" {rest}', f'<a href="{_address_in(one, page, config)}" {rest}', output)
    # With these, the theme's script takes clicks on links to other languages, and may lead to their first page instead.
    return re.sub(r'<link rel="alternate" href="[^"]*" hreflang="[^"]*">', "", output)


def _joined(match: re.Match[str]) -> str:
    return match["ends"] or match["between"] or ""


def home_of(config: MkDocsConfig) -> str:
    """The folder of the pages in the repository: that of English or of a further language."""
    return Path(config.docs_dir).relative_to(ROOT).as_posix()


def origin_of(home: str, page: str) -> str:
    """The path in the repository of what a page is made of."""
    if home == DOCS:
        for name, made in DOCUMENTS.items():
            if page in (name, made):
                return name
    return f"{home}/{page}"


def _languages(config: MkDocsConfig) -> list[dict[str, str]]:
    """Name, link and code of each language, English first, from `tools/build_site.py`; empty if it is the only one."""
    return config.extra.get("languages", [])


def _folder(language: str) -> str:
    return DOCS if language == "en" else f"{DOCS}/{language}"


def language_of(path: str, config: MkDocsConfig) -> tuple[str, str]:
    """The language of a file of the repository, and the folder of that language."""
    for one in _languages(config)[1:]:
        if path.startswith(f"{DOCS}/{one['lang']}/"):
            return one["lang"], _folder(one["lang"])
    return "en", DOCS


def language_attributes(language: str, text: str, config: MkDocsConfig) -> str:
    """The attributes of a link to a page in a language; the name of the language is written in that language."""
    named = {one["lang"]: one["name"] for one in _languages(config)}
    return f'hreflang="{language}"' + f' lang="{language}"' * (named.get(language) == text)


def _versions(page: Page, config: MkDocsConfig) -> list[dict[str, str]]:
    """The languages that have this page."""
    name = page.file.src_uri if page.url else "README.md"
    return [one for one in _languages(config) if (ROOT / origin_of(_folder(one["lang"]), name)).is_file()]


def _address_in(language: dict[str, str], page: Page, config: MkDocsConfig) -> str:
    """Where a page leads for its version in a language: to the first page of the language, if it has none."""
    own = page.url if language in _versions(page, config) else ""
    return "../" * page.url.count("/") + language["link"] + own
