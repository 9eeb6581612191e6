"""Pages in Markdown: templates, tables, numbers, and figures."""

from __future__ import annotations

import io
import re
import statistics
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from letsam.results import write_atomically

COLOURS = ORANGE, GREY, LIGHT_BLUE, BLUE, GREEN, _ = "#e0600d", "#808894", "#7cc4f2", "#1c63b0", "#12a37a", "#7a4fa3"
BLACK = "#010203"


def filled_in(template: str, sections: Mapping[str, object]) -> str:
    """The template with each `{name}` replaced; placeholders and sections must match."""
    places = set(re.findall(r"\{(\w+)\}", template))
    if places != set(sections):
        raise ValueError(f"the template has {sorted(places)}, expected {sorted(sections)}")
    text = re.sub(r"\{(\w+)\}", lambda match: str(sections[match[1]]), template)
    return re.sub(r"\n{3,}", "\n\n", text)


def table(head: Sequence[str], rows: Iterable[Sequence[str]], align: str = "lr") -> str:
    """A table, aligned l or r by column; the last letter holds for all further columns."""
    align += align[-1] * (len(head) - len(align))
    rule = ["---:" if one == "r" else "---" for one in align]
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, rule, *rows))


def folded(page: str, longest: int = 6, widest: int = 8) -> str:
    """The page with each table of more rows or columns than these behind a fold, on a forge and on the site.

    A table stays open under the line `<!-- open -->`.
    """
    grid = r"(?<!<!-- open -->\n\n)^(\|.*\|)\n\|(?: ?:?-+:? ?\|)+\n(?:\|.*\|(?:\n|\Z))+"
    return re.sub(grid, lambda match: _fold(match[0], longest, widest), page, flags=re.M)


def _fold(lines: str, longest: int, widest: int) -> str:
    head, _, *rows = lines.splitlines()
    if len(rows) <= longest and head.count("|") <= widest + 1:
        return lines
    columns = [cell.strip() for cell in head.strip("|").split("|") if cell.strip()]
    more = ", ..." if len(columns) > 5 else ""
    count = f"{len(rows)} row{'s' if len(rows) > 1 else ''}"
    summary = f"{count}: {', '.join(columns[:5])}{more}".replace("`", "")
    return f'<details markdown="1">\n<summary>{summary}</summary>\n\n{lines.rstrip()}\n\n</details>\n'


def spread(values: Sequence[float], mean: str, deviation: str) -> str:
    """Mean and sample standard deviation, each in its format; the deviation only of several values."""
    more = f" ± {statistics.stdev(values):{deviation}}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):{mean}}{more}"


def filled(text: str) -> str:
    """A paragraph or a list item, wrapped at 120 columns."""
    indent = "  " if text.startswith("- ") else ""
    return textwrap.fill(text, 120, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def named(names: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def dress(axes: Any, title: str = "", x: str = "", y: str = "", size: int = 8) -> None:
    """Titles, small numbers, and no frame on top and to the right."""
    if title:
        axes.set_title(title, fontsize=9)
    axes.set_xlabel(x, fontsize=8)
    axes.set_ylabel(y, fontsize=8)
    axes.tick_params(labelsize=size)
    axes.spines[["top", "right"]].set_visible(False)


def save(figure: Figure, path: Path) -> None:
    """As PNG or SVG, by the name; the same SVG each time for the same data."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".svg":
        stream = io.StringIO()
        figure.savefig(stream, format="svg", metadata={"Date": None})
        write_atomically(path, stream.getvalue())
    else:
        figure.savefig(path, dpi=110)
