"""Pages in further languages are in step with the English ones; each language is a folder with `site.yml`."""

from __future__ import annotations

import re

import pytest
from markdown_it import MarkdownIt

from page_versions import FENCE, SPAN, Version, differences, different_numbers, version
from site_cases import ROOT, tool

LANGUAGES = tool("build_site").languages(ROOT / "docs")
TERMS = "terms.md"  # for translators; each language has its own
PAGES = [
    (code, path.relative_to(ROOT / "docs" / code).as_posix())
    for code in LANGUAGES
    for path in sorted((ROOT / "docs" / code).rglob("*.md"))
]
TRANSLATED = [(code, name) for code, name in PAGES if name != TERMS]


def test_the_languages_and_their_pages_are_found() -> None:
    assert "ja" in LANGUAGES
    for code in LANGUAGES:
        names = {name for one, name in PAGES if one == code}
        assert {"README.md", "start.md", "adoption.md", "operation.md", "operation-checklist.md", TERMS} <= names


@pytest.mark.parametrize(("code", "name"), TRANSLATED)
def test_a_page_has_the_headings_code_numbers_and_links_of_the_english_one(code: str, name: str) -> None:
    assert list(differences(version("en", name), version(code, name))) == []


# Each of these changes to the English page must be seen on the Japanese one.
CHANGES = {
    "a number": ("start.md", "1,000 handwritten", "1,200 handwritten", ["number 1,200"]),
    "a number that is gone": ("operation.md", "of 95.7 %", "of much", ["number 95.7"]),
    "a number in words": ("start.md", "over three seeds", "over four seeds", ["number 3"]),
    "a number of a table": ("README.md", "| +1.6 | -1.6 |", "| +1.7 | -1.6 |", ["number +1.7"]),
    "its sign": ("README.md", "| +1.6 | -1.6 |", "| +1.6 | +1.6 |", ["number +1.6"]),
    "a command": ("adoption.md", "letsam decide runs/adoption", "letsam decide runs/other", ["code:"]),
    "an option in the text": ("adoption.md", "`--minimum-effect 2`", "`--minimum 2`", ["code in the text"]),
    "code": ("start.md", "def fit(rho, epochs=60)", "def fit(rho, *, epochs=60)", ["code:"]),
    "what is printed": ("adoption.md", "> Go: use", "> Go: take", ["quotes"]),
    "a heading": ("operation.md", "\n## 2. Every", "\n### 2. Every", ["headings"]),
    "a further section": ("start.md", "\n## 4. Check it", "\n## Between\n\n## 4. Check it", ["headings"]),
    "an item": ("operation-checklist.md", "- [ ] **The end**", "- [ ] **More**\n- [ ] **The end**", ["items"]),
    "a row": ("operation.md", "\n| always |", "\n| never | | |\n| always |", ["cells"]),
    "a link": ("adoption.md", "](evidence.md)", "](speed.md)", ["link docs/speed.md"]),
    "a name": ("start.md", "On Linux, pip", "On Linux and WSL, pip", ["names that are missing: [] are ['WSL']"]),
    "a place": ("README.md", "radii.md#clean-validation-labels", "radii.md", ["link docs/how-to/radii.md"]),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_of_the_english_page_is_seen(change: str) -> None:
    name, before, after, expected = CHANGES[change]
    english = version("en", name)
    assert before in english.text
    changed = Version("en", name, english.text.replace(before, after))
    found = list(differences(changed, version("ja", name)))
    for part in expected:
        assert any(part in line for line in found), found


def test_a_change_of_the_other_page_is_seen() -> None:
    english, other = version("en", "start.md"), version("ja", "start.md")
    changes = {
        "1,000": "1,100",
        "3 シード": "4 シード",
        "](adoption.md)": "](../adoption.md)",
        "`rho=0.05`": "",
        "--no-refit": "--refit",
        "- **rho**": "**rho**",
    }
    for before, after in changes.items():
        assert before in other.text
        assert list(differences(english, Version("ja", "start.md", other.text.replace(before, after, 1)))), before


def test_comments_in_code_may_be_translated_and_the_code_before_them_not() -> None:
    english = Version("en", "start.md", "# A\n\n```\nmake demo   # installs\n```\n")
    for line, same in [("make demo   # 準備", True), ("make test   # installs", False), ("make demo", False)]:
        other = Version("ja", "start.md", f"# い\n\n```\n{line}\n```\n")
        assert (list(differences(english, other)) == []) is same


def test_words_for_numbers() -> None:
    assert different_numbers("Two of twelve, a tenth, in May", "2, 12, 10 分の 1, 5 月") == []
    assert different_numbers("Two of 24", "3 / 24") == ["3"]
    assert different_numbers("24 and 24 of [x](page-7.md)", "24, [x](page-8.md)") == ["24"]


@pytest.mark.parametrize("code", LANGUAGES)
def test_each_readme_is_short_and_leads_to_the_other(code: str) -> None:
    assert len(version(code, "README.md").text.splitlines()) <= 120
    assert f"[{LANGUAGES[code]['name']}](docs/{code}/README.md)" in version("en", "README.md").text
    assert "[English](../../README.md)" in version(code, "README.md").text


@pytest.mark.parametrize(("code", "name"), PAGES)
def test_a_page_is_shown_alike_everywhere(code: str, name: str) -> None:
    """Emphasis beside punctuation without spaces is none in CommonMark; a break of a line is a space on some sites."""
    text = version(code, name).text
    shown = [child for token in MarkdownIt().enable("table").parse(text) for child in token.children or ()]
    assert [child.content for child in shown if child.type == "text" and "**" in child.content] == []
    wide = "\u3041-\u30ff\u3400-\u9fff"  # without their punctuation
    assert re.findall(rf"^.*[{wide}]\n *(?=[^\s\-#|>`])", FENCE.sub("", text), re.M) == []


@pytest.mark.parametrize("code", LANGUAGES)
def test_one_word_stands_for_one_term(code: str) -> None:
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in version(code, TERMS).text.splitlines()]
    rows = [row for row in rows if len(row) == 3][2:]
    assert len(rows) > 30
    assert [row[0].lower() for row in rows] == sorted(row[0].lower() for row in rows)
    avoided = {word for row in rows for word in re.split("[、,] *", row[2]) if word}
    assert len(avoided) > 20
    for one, name in TRANSLATED:
        text = SPAN.sub("", FENCE.sub("", version(one, name).text)) if one == code else ""
        assert [word for word in sorted(avoided) if word in text] == [], name
