"""What the documentation site has beside the pages in `docs`; mkdocs calls these functions (`mkdocs.yml`).

- The README is the first page; the changelog and the contributing guide are pages. So is what `letsam COMMAND --help`
  prints.
- Links to other files of the repository, such as examples, lead to pages with their text.
- Notebooks are pages, with their outputs as they are in the repository (`tools/run_notebooks.py`).
- Pages of a further language may link English pages and pictures as they lie in the repository
  (`tools/site_languages.py` has the rest about languages).
- Formulas are written as MathML when the site is built, so that a browser needs no script for them.
"""

from __future__ import annotations

import contextlib
import html as entities
import io
import os
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from site_languages import DOCS, DOCUMENTS, ROOT, home_of, language_attributes, language_of, origin_of

COMMANDS = "reference/command-line.md"
LINK = re.compile(r"(!?)\[((?:[^][]|\[[^][]*\])*)\]\(([^)\s#]+)(#[^)\s]*)?\)")
CODE = re.compile(r"^( *)(`{3,}|~{3,}).*?^\1\2 *$|`[^`\n]+`(?!\])", re.M | re.S)
LANGUAGES = {".py": "python", ".json": "json", ".toml": "toml", ".yml": "yaml", ".md": "markdown"}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the documents of the repository, and a page for each file or folder outside of `docs` that is linked."""
    for notebook in [file for file in files if file.src_uri.endswith(".ipynb")]:
        for name, content in _notebook(notebook).items():
            files.append(File.generated(config, name, content=content))
    if home_of(config) == DOCS:
        for name, page in DOCUMENTS.items():
            files.append(File.generated(config, page, content=(ROOT / name).read_text(encoding="utf-8")))
        files.append(File.generated(config, COMMANDS, content=_commands_text()))
        for path in sorted(set(_linked())):
            files.append(File.generated(config, _page_of(path), content=_source_text(path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links that leave the folder of the pages into links to the pages that stand for their targets."""
    home = home_of(config)
    origin = origin_of(home, page.file.src_uri)

    def changed(match: re.Match[str]) -> str:
        image, text, link, place = match.groups(default="")
        target = _target(origin, link)
        if target is None:
            return match[0]
        language, theirs = language_of(target, config)
        if theirs == home == DOCS:
            path = posixpath.relpath(_page_of(target), posixpath.dirname(page.file.src_uri) or ".")
            return f"{image}[{text}]({path}{place})"
        if theirs == home:
            return match[0]
        up = "../" * (page.url.count("/") + home.count("/"))
        address = up + re.sub(r"(^|/)(index|README)\.md$|\.md$", "/", _page_of(target)).lstrip("/") + place
        if image:
            return f'<img src="{address}" alt="{text}">'
        return f'<a href="{address}" {language_attributes(language, text, config)}>{text}</a>'

    return _outside_of_code(changed, markdown)


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Write formulas as MathML."""
    html = re.sub(r'<span class="arithmatex">\\\((.*?)\\\)</span>', _inline, html, flags=re.S)
    return re.sub(r'<div class="arithmatex">\s*\\\[(.*?)\\\]\s*</div>', _block, html, flags=re.S)


def _inline(match: re.Match[str]) -> str:
    return convert(entities.unescape(match[1]))


def _block(match: re.Match[str]) -> str:
    return convert(entities.unescape(match[1]).strip(), display="block")


def _outside_of_code(replace: Any, text: str) -> str:
    """Replace links in all of a page but its code."""
    parts, start = list[str](), 0
    for code in CODE.finditer(text):
        if LINK.search(text, start) is None:
            break
        if any(link.start() < code.start() < link.end() for link in LINK.finditer(text, start)):
            continue  # code within the text of a link
        parts += [LINK.sub(replace, text[start : code.start()]), code[0]]
        start = code.end()
    return "".join([*parts, LINK.sub(replace, text[start:])])


def _target(origin: str, link: str) -> str | None:
    """The path in the repository that a link leads to; None if it may stay as it is."""
    if ":" in link or link.startswith("/") or origin.startswith(f"{DOCS}/source/"):
        return None
    path = posixpath.normpath(posixpath.join(posixpath.dirname(origin), link))
    if not (ROOT / path).exists() or path.startswith("../"):
        return None  # mkdocs reports it
    return path


def _is_page(path: str) -> bool:
    """Whether a file of the repository is on the site under its own name."""
    return path.startswith(f"{DOCS}/") and (ROOT / path).is_file() and not path.endswith(".py")


def _page_of(path: str) -> str:
    """The page, relative to `docs`, that stands for a path in the repository."""
    if path in DOCUMENTS:
        return DOCUMENTS[path]
    if _is_page(path):
        return re.sub(r"\.ipynb$", ".md", path.removeprefix(f"{DOCS}/"))
    return f"source/{path}/index.md" if (ROOT / path).is_dir() else f"source/{path}.md"


def _linked() -> Iterator[str]:
    """The files and folders of the repository that pages link and that are no pages themselves."""
    names = [*DOCUMENTS, *(str(path.relative_to(ROOT)) for path in sorted((ROOT / DOCS).rglob("*.md")))]
    for name in names:
        for match in LINK.finditer((ROOT / name).read_text(encoding="utf-8")):
            path = _target(name, match[3])
            if path is not None and _page_of(path).startswith("source/"):
                yield path


def _source_text(path: str) -> str:
    """The text of a file as a block of code; the list of what is in a folder."""
    place = ROOT / path
    if place.is_dir():
        names = sorted(one.name for one in place.iterdir() if one.is_file() and one.suffix in LANGUAGES)
        return "\n".join([f"# {path}", "", *(f"- `{name}`{_summary(place / name)}" for name in names), ""])
    text = place.read_text(encoding="utf-8")
    return f"# {path}\n\n``````{LANGUAGES.get(place.suffix, '')}\n{text.rstrip()}\n``````\n"


def _summary(path: Path) -> str:
    """The first line of a module's docstring."""
    found = re.match(r'"""(.+?)(\n|""")', path.read_text(encoding="utf-8")) if path.suffix == ".py" else None
    return f": {found[1]}" if found else ""


def _commands_text() -> str:
    """What each command says about itself."""
    import typer

    from letsam.cli import app, run

    names = list(typer.main.get_command(app).commands)
    parts = ["# Command line", "", "What `letsam --help` and `letsam COMMAND --help` print.", ""]
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = "80"
    try:
        for arguments in [["--help"], *([name, "--help"] for name in names)]:
            text = io.StringIO()
            with contextlib.redirect_stdout(text):
                run(arguments)
            title = "letsam" if len(arguments) == 1 else f"letsam {arguments[0]}"
            parts += [f"## {title}", "", "```text", text.getvalue().strip(), "```", ""]
    finally:
        os.environ.pop("COLUMNS") if before is None else os.environ.update(COLUMNS=before)
    return "\n".join(parts)


def _notebook(file: File) -> dict[str, str | bytes]:
    """The page that a notebook becomes, and its pictures."""
    from nbconvert import MarkdownExporter

    path = posixpath.splitext(file.src_uri)[0]
    name = posixpath.basename(path)
    text, more = MarkdownExporter().from_filename(file.abs_src_path or "", {"output_files_dir": name})
    text = re.sub(r"!\[(png|svg)\]", "![What the code above draws]", text)
    text = re.sub(r"^```\w*\n%%sh\n", "```sh\n", text, flags=re.M)
    parts = re.split(r"(^```.*?^```$)", text, flags=re.M | re.S)  # in between, what is printed is indented
    text = "".join(part if place % 2 else _fenced_outputs(part) for place, part in enumerate(parts))
    title, _, rest = text.lstrip().partition("\n")
    page = f'{title}\n\n<a href="../{name}.ipynb" download>Download the notebook</a>\n{rest}'
    pictures = {posixpath.join(posixpath.dirname(path), one): data for one, data in more["outputs"].items()}
    return {f"{path}.md": page, **pictures}


def _fenced_outputs(text: str) -> str:
    """What cells print, as blocks of their own kind."""

    def fenced(match: re.Match[str]) -> str:
        lines = re.sub(r"^    ", "", match[0], flags=re.M).strip("\n")
        return f"\n```text\n{lines}\n```\n" if lines.strip() else "\n"

    return re.sub(r"(?:^    .*\n|^\n(?=(?:\n)*    ))+", fenced, text, flags=re.M)
