"""What the site must have: its parts, the questions that users ask, formulas, tables behind folds."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from site_cases import ROOT

PARTS = [
    "Start",
    "Tutorials",
    "How-to",
    "Concepts",
    "Reference",
    "Evidence",
    "Adoption",
    "Operation",
    "FAQ",
    "Glossary",
]


def html_of(site: Path, page: str) -> str:
    return (site / page / "index.html").read_text(encoding="utf-8")


def test_the_parts_of_the_site_are_its_tabs(site: Path) -> None:
    tabs = re.findall(r'class="md-tabs__link">\s*(.*?)\s*</a>', html_of(site, "faq"), re.S)
    assert [re.sub(r"<.*?>", "", tab).strip() for tab in tabs] == [*PARTS, "Changelog"]


QUESTIONS = {
    "Which rho?": "LearnedRadius(0.05)",
    "Does it help my transformer?": "On images yes, on text hardly",
    "NaN, overflow, collapse": "skipped_steps",
    "It is slower. How much, and can I help it?": "twice the passes",
    "BatchNorm": "model=model",
    "What differs from the paper, and why?": "secant",
    "... clean, and my training labels are noisy": "Nothing has to be done",
    "... small": "validation-too-small",
    "... unlike the data of operation": "--validation-shift",
}


@pytest.mark.parametrize("question", QUESTIONS)
def test_the_faq_begins_each_answer_with_what_to_do(question: str) -> None:
    text = (ROOT / "docs" / "faq.md").read_text(encoding="utf-8")
    (answer,) = re.findall(rf"^##+ {re.escape(question)}$\n\n(.*?)(?=^##|\Z)", text, re.M | re.S)
    assert answer.startswith("**")
    assert QUESTIONS[question] in " ".join(answer.split())


def test_numbers_of_the_faq_are_those_of_the_evidence() -> None:
    evidence = (ROOT / "docs" / "evidence.md").read_text(encoding="utf-8")
    text = " ".join((ROOT / "docs" / "faq.md").read_text(encoding="utf-8").split())
    assert "1.3 to 1.6 points above the best radius of each setting's own grid" in text
    assert "1.3 to 1.6 above that best radius" in " ".join(evidence.split())
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in evidence.splitlines()]
    part = evidence.splitlines().index("### One number for all tasks, SAM")
    mean = {row[0]: row[1] for row in cells[part:] if len(row) > 6}
    learned = [float(mean[f"`lets-sam:{start}+refit`"]) for start in ("0.01", "0.05", "0.2", "1.0")]
    assert (min(learned), max(learned)) == (1.3, 1.6)
    assert round(float(mean["`sam:0.05`"])) == -10
    rows = {row[0]: row for row in cells[: evidence.splitlines().index("### ASAM")] if len(row) > 6}
    gains = []
    for noise in (0, 20, 40, 60):
        row = rows[f"Fashion-MNIST, 2,000 labels, vit, {noise}% label noise"]
        gains.append(float(row[3].split()[0]) - float(row[2]))
    assert [round(gain) for gain in gains] == [2, 10, 18, 27]  # "2 points with clean labels and 10 to 27"


def test_terms_of_the_glossary_are_in_order() -> None:
    terms = re.findall(r"^\*\*(.+)\*\*$", (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8"), re.M)
    assert len(terms) > 30
    assert terms == sorted(terms, key=str.lower)


def test_formulas_are_mathml(site: Path) -> None:
    page = html_of(site, "concepts/learned-radius")
    assert page.count("<math") > 20
    assert page.count('display="block"') == 4
    assert "$$" not in page
    assert "\\rho" not in page
    style = (site / "site.css").read_text(encoding="utf-8")
    (font,) = re.findall(r'url\("([^"]+)"\)', style)
    assert (site / font).stat().st_size < 100_000


def test_long_tables_are_folded_and_short_ones_are_not(site: Path) -> None:
    page = html_of(site, "evidence")
    assert page.count("<details>") > 20
    assert all("<table>" in fold or "<li>" in fold for fold in re.findall(r"<details>(.*?)</details>", page, re.S))
    assert "<summary>24 rows: setting, seeds, base, best of grid, mean, ...</summary>" in page


@pytest.mark.parametrize(
    "page", ["evidence", "fidelity", "flatness", "robustness", "search", "speed", "reading", "variants"]
)
def test_a_page_of_measurements_begins_with_its_conclusion(page: str) -> None:
    text = (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")
    assert text.split("\n\n")[1].startswith("**")
