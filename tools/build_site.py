"""Build the documentation site, and check every link within it.

    python tools/build_site.py              # into `site`
    python tools/build_site.py --out DIR

English is in `docs`. A further language is one folder in it, such as `docs/ja`, with its pages and a file `site.yml`:

    name: 日本語
    nav: [README.md, adoption.md]

It becomes a site of its own below the English one, with its own search, and both lead to each other in the header and
on each page (`tools/site_languages.py`). More keys may be in the file: `texts` are translations of texts in
`mkdocs.yml`, `separator` has patterns of what ends a word for the search, and settings of `mkdocs.yml`, such as
`site_description`, are those of this language.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Iterator, Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

os.environ["NO_MKDOCS_2_WARNING"] = "1"

import yaml
from mkdocs.commands.build import build
from mkdocs.config import load_config
from mkdocs.exceptions import Abort

ROOT = Path(__file__).resolve().parents[1]
OWN = ("name", "separator", "texts")  # the keys of `site.yml` that `mkdocs.yml` does not have


def languages(docs: Path) -> dict[str, dict[str, object]]:
    """What `site.yml` says about each further language, by the name of its folder."""
    found = sorted(docs.glob("*/site.yml"))
    return {path.parent.name: yaml.safe_load(path.read_text(encoding="utf-8")) for path in found}


def build_site(out: Path, docs: Path = ROOT / "docs") -> None:
    """Build the site of each language; any warning is an error."""
    further = languages(docs)
    names = {"en": "English", **{code: str(one["name"]) for code, one in further.items()}}
    for code in names:
        _build_language(code, names, further.get(code, {}), docs, out)


def _build_language(code: str, names: Mapping[str, str], own: Mapping[str, Any], docs: Path, out: Path) -> None:
    english = code == "en"
    folder, place = (docs, out) if english else (docs / code, out / code)
    left_out = "\n".join(["*.py", "*.mplstyle", "site.yml", *(f"/{other}/" for other in names if english)])
    settings = {name: value for name, value in own.items() if name not in OWN}
    options = {**settings, "docs_dir": str(folder), "site_dir": str(place), "exclude_docs": left_out}
    config = load_config(str(ROOT / "mkdocs.yml"), strict=True, **options)
    config.theme["language"] = code
    if "separator" in own:  # instead of that of the theme
        config.plugins["material/search"].config.separator = "|".join(own["separator"])
    for palette in config.theme["palette"]:
        palette["toggle"]["name"] = own.get("texts", {}).get(palette["toggle"]["name"], palette["toggle"]["name"])
    if not english:
        config.extra_css = [f"../{path}" for path in config.extra_css]  # one style for all
    if len(names) > 1:
        up = "./" if english else "../"
        links = [(one, up if one == "en" else f"{up}{one}/") for one in names]
        config.extra["languages"] = [{"name": names[one], "link": link, "lang": one} for one, link in links]
        config.extra["alternate"] = config.extra["languages"]
    config.plugins.on_startup(command="build", dirty=False)
    try:
        build(config)
    finally:
        config.plugins.on_shutdown()


class Links(HTMLParser):
    """The links of a page and the places in it that links may lead to."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.places: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep `href`, `src`, `id` and the old `name`."""
        for name, value in attrs:
            if name in ("href", "src") and value:
                self.links.append(value)
            elif value and (name == "id" or (name == "name" and tag == "a")):
                self.places.add(value)


def broken_links(site: Path) -> Iterator[str]:
    """A line for each link within the site that leads nowhere, or to a place that its page does not have."""
    pages = {path: _parsed(path) for path in sorted(site.rglob("*.html"))}
    for path, page in pages.items():
        for link in dict.fromkeys(page.links):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc or path.name == "404.html":
                continue
            target = _file(site, path, unquote(parts.path))
            if not target.is_file():
                yield f"{path.relative_to(site)}: {link} leads nowhere"
            elif parts.fragment and target in pages and not _has(pages[target], unquote(parts.fragment)):
                yield f"{path.relative_to(site)}: {link} leads to a place that is not there"


def _parsed(path: Path) -> Links:
    page = Links()
    page.feed(path.read_text(encoding="utf-8"))
    return page


def _file(site: Path, origin: Path, path: str) -> Path:
    if not path:
        return origin
    target = Path(os.path.normpath(site / path.lstrip("/") if path.startswith("/") else origin.parent / path))
    return target / "index.html" if path.endswith("/") or target.is_dir() else target


def _has(page: Links, place: str) -> bool:
    return place in page.places or place.startswith("__") or place == "top"


def main() -> int:
    """Run the command line; the exit status is 1 if a page has a warning or a link is broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "site", help="the folder of the site; it is replaced")
    out = parser.parse_args().out.resolve()
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    try:
        build_site(out)
    except Abort as error:
        print(error, file=sys.stderr)
        return 1
    wrong = list(broken_links(out))
    for line in wrong:
        print(line, file=sys.stderr)
    if not wrong:
        print(f"{len(list(out.rglob('*.html')))} pages are in {out}; all links within them lead somewhere")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
