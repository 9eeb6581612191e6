"""The site is built without a warning, all links within it lead somewhere, and a further language is one folder."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from site_cases import ROOT, built, pages_of, tool


def test_every_page_of_the_repository_is_on_the_site(site: Path) -> None:
    pages = pages_of(site)
    sources = [path.relative_to(ROOT / "docs") for path in (ROOT / "docs").rglob("*.md")]
    expected = {str(path.with_suffix("")) for path in sources if path.stem != "index"}
    assert len(expected) > 40
    assert expected <= set(pages)
    assert {"", "changelog", "contributing", "source/examples/my_task.py"} <= set(pages)


def test_links_and_places_are_there(site: Path) -> None:
    assert list(tool("build_site").broken_links(site)) == []


def test_links_out_of_docs_lead_to_pages(site: Path) -> None:
    page = (site / "how-a-step-works" / "index.html").read_text(encoding="utf-8")
    assert 'href="../source/src/letsam/optimizer.py/"' in page
    assert 'href="../contributing/"' in page
    example = (site / "source" / "examples" / "my_task.py" / "index.html").read_text(encoding="utf-8")
    assert "make_task" in example
    start = (site / "index.html").read_text(encoding="utf-8")
    assert 'href="adoption/"' in start
    assert 'src="images/report.png"' in start


def test_nothing_comes_from_elsewhere(site: Path) -> None:
    """Scripts, styles, fonts and pictures are files of the site."""
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        loaded = re.findall(r"<(?:script|img|iframe|source)[^>]*\bsrc=[\"']?(https?:[^\"'> ]+)", text)
        loaded += re.findall(r"<link[^>]*\brel=[\"']?stylesheet[^>]*\bhref=[\"']?(https?:[^\"'> ]+)", text)
        assert not loaded, page


def test_a_link_that_leads_nowhere_is_found(tmp_path: Path) -> None:
    (tmp_path / "part").mkdir()
    (tmp_path / "index.html").write_text('<a href="part/#here">1</a> <a href="part/#there">2</a> <a href="no/">3</a>')
    (tmp_path / "part" / "index.html").write_text('<h1 id="here"></h1> <img src="../x.png"> <a href="../">4</a>')
    assert list(tool("build_site").broken_links(tmp_path)) == [
        "index.html: part/#there leads to a place that is not there",
        "index.html: no/ leads nowhere",
        "part/index.html: ../x.png leads nowhere",
    ]


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A repository with two pages, the same tools and the same settings."""
    root = tmp_path / "small"
    shutil.copytree(ROOT / "tools", root / "tools")
    settings = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").split("\nnav:\n")[0]
    (root / "docs").mkdir()
    (root / "src").mkdir()
    for name, text in {
        "mkdocs.yml": settings
        + "\nnav: [index.md, adoption.md, contributing.md, changelog.md, reference/command-line.md]\n",
        "README.md": "# Small\n\n[Adopt](docs/adoption.md#why)\n",
        "CHANGELOG.md": "# Changes\n",
        "CONTRIBUTING.md": "# Contributing\n",
        "docs/adoption.md": "# Adoption\n\n## Why\n\nMetal. [Start](../README.md)\n",
        "docs/site.css": "",
    }.items():
        (root / name).write_text(text, encoding="utf-8")
    return root


def test_a_further_language_is_one_folder(small: Path, tmp_path: Path) -> None:
    folder = small / "docs" / "ja"
    folder.mkdir()
    for name, text in {
        "site.yml": "name: 日本語\nnav: [index.md, adoption.md]\n",
        "index.md": "# 概要\n\n[採用](adoption.md), [English](../adoption.md#why)\n",
        "adoption.md": "# 採用\n\n[概要](index.md), [README](../../README.md)\n",
    }.items():
        (folder / name).write_text(text, encoding="utf-8")
    out = tmp_path / "out"
    done = built(out, small)
    assert done.returncode == 0, done.stderr
    assert pages_of(out) == ["", "adoption", "changelog", "contributing", "ja", "ja/adoption", "reference/command-line"]
    page = (out / "ja" / "index.html").read_text(encoding="utf-8")
    assert '<html lang="ja"' in page
    assert '<a href="../adoption/#why">English</a>' in page
    assert re.search(r'href="\.\./(\./)?" hreflang="en"', page)
    assert 'href="ja/" hreflang="ja"' in (out / "index.html").read_text(encoding="utf-8")
    assert "採用" not in (out / "search" / "search_index.json").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[a](nowhere.md)", "contains a link 'nowhere.md'"),
        ("[a](adoption.md#no)", "no such anchor on this page"),
    ],
)
def test_a_warning_is_an_error(small: Path, tmp_path: Path, text: str, message: str) -> None:
    (small / "docs" / "adoption.md").write_text(f"# Adoption\n\n## Why\n\n{text}\n", encoding="utf-8")
    done = built(tmp_path / "out", small)
    assert done.returncode == 1
    assert message in done.stderr
