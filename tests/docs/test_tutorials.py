"""The notebooks run, and print what their committed outputs say, up to the digits of measurements."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest

from site_cases import ROOT, tool

TUTORIALS = sorted((ROOT / "docs" / "tutorials").glob("*.ipynb"))


def words_of(book: nbformat.NotebookNode) -> list[list[str]]:
    """The words of the outputs of each cell; of measurements only that they are there."""
    found = []
    for cell in book.cells:
        texts = [one.get("text") or one.get("data", {}).get("text/plain", "") for one in cell.get("outputs", [])]
        found.append(re.sub(r"[-+±]?[\d.,]*\d%?", "#", " ".join(texts)).split())
    return found


def test_there_is_a_notebook_for_each_kind_of_user() -> None:
    assert {path.stem for path in TUTORIALS} == {
        "own-csv",
        "image-folder",
        "noisy-labels",
        "lora",
        "lightning",
        "trainer",
    }
    index = (ROOT / "docs" / "tutorials" / "index.md").read_text(encoding="utf-8")
    assert all(f"({path.name})" in index for path in TUTORIALS)


@pytest.mark.slow
@pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)
def test_the_notebook_prints_what_it_says(path: Path, tmp_path: Path) -> None:
    before = nbformat.read(path, as_version=4)
    after = tool("run_notebooks").executed(path, tmp_path)  # raises what a cell raises
    assert any(words_of(before))
    for old, new in zip(words_of(before), words_of(after), strict=True):
        assert len({*old} & {*new}) >= 0.8 * len({*old} | {*new}), f"python tools/run_notebooks.py {path.stem}"


def test_the_outputs_are_committed_without_what_changes_from_run_to_run() -> None:
    for path in TUTORIALS:
        book = nbformat.read(path, as_version=4)
        assert {cell.execution_count for cell in book.cells if cell.cell_type == "code"} == {None}
        assert all(one.get("name") != "stderr" for cell in book.cells for one in cell.get("outputs", []))
        assert "/tmp/" not in path.read_text(encoding="utf-8")


def test_a_terminal_text_is_what_is_left_on_the_terminal() -> None:
    printed = tool("run_notebooks").printed
    assert printed("\x1b[1mone\x1b[0m  \r\n10%\r100%\nx: 1/2 runs, 0:30 elapsed, about 0:01 left\nlast") == (
        "one\n100%\nlast"
    )


def test_the_site_shows_inputs_outputs_and_pictures(site: Path) -> None:
    page = (site / "tutorials" / "noisy-labels" / "index.html").read_text(encoding="utf-8")
    assert "wrong labels learned by heart" in page
    assert 'class="language-text highlight"' in page
    (picture,) = re.findall(r'<img alt="What the code above draws" src="([^"]+)"', page)
    assert (site / "tutorials" / "noisy-labels" / picture).is_file()
    assert (site / "tutorials" / "noisy-labels.ipynb").is_file()
    assert "%%sh" not in (site / "tutorials" / "own-csv" / "index.html").read_text(encoding="utf-8")
