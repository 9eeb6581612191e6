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
    expected = {str(path.with_suffix("")) for path in sources if path.stem not in ("index", "README")}
    assert len(expected) > 40
    assert expected <= set(pages)
    assert {"", "ja", "changelog", "contributing", "source/examples/my_task.py"} <= set(pages)


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
        "site.yml": "name: 日本語\nnav: [README.md, adoption.md]\nsite_description: 説明\n"
        "texts: {Switch to the dark theme: 暗く}\n",
        "README.md": "# 概要\n\n[導入](adoption.md), [Adoption](../adoption.md#why)\n",
        "adoption.md": "# 導入\n\n一行目。\n`code`、**二行**\n目。a\nb\n\n"
        "## なぜ\n\n[概要](README.md), [README](../../README.md)\n",
    }.items():
        (folder / name).write_text(text, encoding="utf-8")
    with (small / "README.md").open("a", encoding="utf-8") as readme:
        readme.write("\n[日本語](docs/ja/README.md), [Adopt](docs/ja/adoption.md#why)\n")
    out = tmp_path / "out"
    done = built(out, small)
    assert done.returncode == 0, done.stderr
    assert list(tool("build_site").broken_links(out)) == []
    assert pages_of(out) == ["", "adoption", "changelog", "contributing", "ja", "ja/adoption", "reference/command-line"]
    names = ("ja/index.html", "ja/adoption/index.html", "index.html", "adoption/index.html", "changelog/index.html")
    first, page, english, adoption, alone = ((out / name).read_text(encoding="utf-8") for name in names)
    for text in (
        '<html lang="ja"',
        '<meta name="description" content="説明"',
        "暗く",
        '<a href="../adoption/#why" hreflang="en">Adoption</a>',
        '<a href="../" hreflang="en" class="md-select__link">',
    ):
        assert text in first
    for text in (
        '<p class="versions"><a href="../../adoption/" hreflang="en" lang="en">English</a></p>',
        '<a href="../../adoption/" hreflang="en" class="md-select__link">',
        '<h2 id="why">なぜ',  # the anchor of the English heading
        "一行目。<code>code</code>、<strong>二行</strong>目。a\nb",
    ):
        assert text in page
    assert '<a href="./ja/" hreflang="ja" class="md-select__link">' in english
    assert '<a href="ja/" hreflang="ja" lang="ja">日本語</a>, <a href="ja/adoption/#why" hreflang="ja">' in english
    assert '<a href=".././ja/adoption/" hreflang="ja" lang="ja">日本語</a>' in adoption
    assert '<a href=".././ja/" hreflang="ja" class="md-select__link">' in alone  # which is not in Japanese
    assert "versions" not in alone
    assert (
        'rel="alternate"' not in first + page + english + adoption + alone
    )  # the theme's script would take their clicks
    assert "概要" not in (out / "search" / "search_index.json").read_text(encoding="utf-8")


def test_a_page_of_a_further_language_has_the_headings_of_the_english_one(small: Path, tmp_path: Path) -> None:
    (small / "docs" / "ja").mkdir()
    (small / "docs" / "ja" / "site.yml").write_text("name: 日本語\nnav: [adoption.md]\n", encoding="utf-8")
    (small / "docs" / "ja" / "adoption.md").write_text("# 導入\n", encoding="utf-8")
    done = built(tmp_path / "out", small)
    assert done.returncode == 1
    assert "adoption.md has 1 headings, the English page has 2: each of them needs one" in done.stderr


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
