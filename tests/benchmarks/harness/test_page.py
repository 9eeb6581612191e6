"""Templates, tables, numbers."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import pytest
from matplotlib.figure import Figure

from benchmarks.harness.page import filled, filled_in, folded, named, save, spread, table


def test_a_template_and_its_sections_fit_together() -> None:
    assert filled_in("# {title}\n\n{empty}\n\nend\n", {"title": "T", "empty": ""}) == "# T\n\nend\n"
    with pytest.raises(ValueError, match=r"the template has \['title'\], expected \['text'\]"):
        filled_in("{title}", {"text": ""})


def test_tables() -> None:
    assert table(["a", "b", "c"], [["1", "2", "3"]], "lrl").splitlines() == [
        "| a | b | c |",
        "| --- | ---: | --- |",
        "| 1 | 2 | 3 |",
    ]
    assert table(["a", "b", "c"], []).splitlines()[1] == "| --- | ---: | ---: |"


def test_long_tables_are_behind_folds() -> None:
    short = table(["a", "b"], [["1", "2"]] * 6)
    long = table(["a", "`b`", "c", "d", "e", "f"], [["1"] * 6] * 7)
    page = folded(f"before\n\n{short}\n\n{long}\n\nafter\n\n<!-- open -->\n\n{long}\n")
    assert page.startswith(f"before\n\n{short}\n\n<details markdown")
    fold = f'<details markdown="1">\n<summary>7 rows: a, b, c, d, e, ...</summary>\n\n{long}\n\n</details>\n'
    assert page.count(fold) == page.count("<details") == 1
    wide = table([f"c{i}" for i in range(9)], [["1"] * 9])
    assert folded(wide).startswith('<details markdown="1">\n<summary>1 row: c0,')
    assert page.endswith(f"<!-- open -->\n\n{long}\n")


def test_words_and_numbers() -> None:
    assert (named(["a"]), named(["a", "b"]), named(["a", "b", "c"])) == ("a", "a and b", "a, b and c")
    assert spread([1.0, 2.0], ".1f", ".2f") == "1.5 ± 0.71"
    assert spread([1.0], ".1f", ".2f") == "1.0"
    lines = filled("- " + "word " * 50).splitlines()
    assert len(lines) > 1
    assert all(line.startswith("  word") for line in lines[1:])


def test_the_same_figure_gives_the_same_svg(tmp_path: Path) -> None:
    paths = [tmp_path / "a.svg", tmp_path / "b.svg"]
    for path in paths:
        figure = Figure()
        figure.subplots().plot([1, 2])
        with mpl.rc_context({"svg.hashsalt": "letsam"}):
            save(figure, path)
    assert paths[0].read_bytes() == paths[1].read_bytes()
