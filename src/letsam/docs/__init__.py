"""The pages of the documentation, which `letsam docs` shows, with torch alone installed as well.

A wheel has them in this folder; in a clone they are in the folder `docs` at its top.
"""

from __future__ import annotations

import posixpath
import re
import sys
from pathlib import Path

from letsam.results import printable
from letsam.results.nearest import did_you_mean

_LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s#]*)(#[^)\s]*)?\)")
_LEFT_OUT = "reference"  # what the site makes of docstrings


def pages() -> dict[str, Path]:
    """The files of the pages by their names, such as "how-to/doctor"; those of the top folder first."""
    here = Path(__file__).parent
    folder = here if (here / "how-to").is_dir() else here.parents[2] / "docs"
    found = {path.relative_to(folder).with_suffix("").as_posix(): path for path in folder.rglob("*.md")}
    names = sorted(found, key=lambda name: (name.count("/"), name))
    return {name: found[name] for name in names if name.partition("/")[0] != _LEFT_OUT}


def complete_pages(incomplete: str) -> list[str]:
    """For the shell: the pages whose name begins so.

    Example:
        >>> complete_pages("how-to/doct")
        ['how-to/doctor']
    """
    return [name for name in pages() if name.startswith(incomplete)]


def print_pages(folder: str = "") -> None:
    """Print the names of all pages with their titles, or of those in a folder such as "how-to"."""
    found = {name: path for name, path in pages().items() if name.startswith(f"{folder}/" if folder else "")}
    width = max(map(len, found), default=0)
    for name, path in found.items():
        print(f"{name:{width}}  {_title(path)}")
    print("\nRead one: letsam docs PAGE")


def print_page(asked: str) -> None:
    """Print a page: formatted on a terminal, where links are the names of pages; its source elsewhere.

    Args:
        asked: a name that `pages` has, with or without its folder; or a folder, whose pages are listed.

    Raises:
        ValueError: there is no such page.
    """
    found = pages()
    wanted = asked.removesuffix(".md").strip("/")
    alike = [name for name in found if name.rpartition("/")[2] == wanted]
    name = wanted if wanted in found or not alike else alike[0]
    if name not in found and any(one.startswith(f"{name}/") for one in found):
        print_pages(name)
        return
    if name not in found:
        hint = did_you_mean(wanted, found) or did_you_mean(wanted, [one.rpartition("/")[2] for one in found])
        raise ValueError(f"`page` must be one of those that `letsam docs` lists, got {asked!r}{hint}")
    text = found[name].read_text(encoding="utf-8")
    if not sys.stdout.isatty():
        print(text, end="")
        return
    text = _named_links(printable(text, page=True), name)
    try:
        from rich.console import Console
        from rich.markdown import Markdown
    except ModuleNotFoundError:
        print(text, end="")
    else:
        console = Console()
        console.print(Markdown(text), width=min(console.width, 120))


def _title(path: Path) -> str:
    with path.open(encoding="utf-8") as lines:
        return next((line.removeprefix("# ").strip() for line in lines if line.startswith("# ")), "")


def _named_links(text: str, page: str) -> str:
    """The text with links to pages written as what shows them, and with pictures as what they show."""

    def named(link: re.Match[str]) -> str:
        picture, words, target, _ = link.groups()
        if picture:
            return f"*{words}*"
        if ":" in target or not target.endswith(".md"):
            return link[0] if ":" in target else words
        name = posixpath.normpath(posixpath.join(posixpath.dirname(page), target)).removesuffix(".md")
        return f"{words} (`letsam docs {name}`)"

    return _LINK.sub(named, text)
