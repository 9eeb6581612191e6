"""Draw docs/images/how-a-step-works.svg from the names in the code: `python docs/draw_step.py`.

Every name is read from the class or function itself, so a renamed method stops this script instead of leaving a stale
picture. `tests/test_how_a_step_works.py` compares the picture with the one in the repository, and the order of its
boxes with the calls of a real step.
"""

from __future__ import annotations

import inspect
import io
import re
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Rectangle
from torch.optim import Optimizer

from letsam import SharpnessAware
from letsam.hypergradient import FiniteDifference
from letsam.perturbations import Perturbation
from letsam.radius import Ascent, Evidence, Radius, Wants
from letsam.step.ascent import AscentPhase
from letsam.step.clipping import clipping
from letsam.step.descent import DescentPhase
from letsam.step.parts import Parts
from letsam.step.passes import Passes
from letsam.step.record import StepRecord
from letsam.step.undo import StepGuard
from letsam.tangent import Tangent

PICTURE = Path(__file__).parent / "images" / "how-a-step-works.svg"

# All lengths are pixels of a picture that is shown 800 pixels wide.
WIDTH = 800
LANES = {"weights": (66, 312), "tangent": (346, 544), "radius": (578, 792)}
TITLES = {"weights": "weights and passes", "tangent": "tangent", "radius": "radius"}
COLORS = {"weights": ("#0072b2", "#e6f1f8"), "tangent": ("#b04a00", "#fbeadf"), "radius": ("#2f7d4f", "#e5f2ea")}
PLAIN, PALE, BAND = "#222222", "#777777", "#f5f5f5"
NAME, NOTE, TITLE = 11.0, 10.5, 13.0  # heights of text
LINE, PADDING, GAP, TOP = 15, 6, 13, 64
STYLE: dict[Any, Any] = {"svg.hashsalt": "letsam", "svg.fonttype": "none", "font.family": "sans-serif"}


@dataclass
class Box:
    """One box of the picture.

    Attributes:
        lane: a key of `LANES`.
        first: the first row that it covers, from 0.
        last: the last one.
        calls: methods and functions of the code, in the order in which a step calls them.
        notes: lines of plain text.
        always: whether every step has it; if not, its edge is dashed.
    """

    lane: str
    first: int
    last: int
    calls: tuple[Callable[..., Any], ...]
    notes: Sequence[str]
    always: bool

    @property
    def names(self) -> list[str]:
        """The names of the calls, as the code has them."""
        return [call.__qualname__ for call in self.calls]

    @property
    def height(self) -> int:
        """What its lines need."""
        return 2 * PADDING + LINE * (len(self.calls) + len(self.notes))


def always(lane: str, row: int, *calls: Callable[..., Any], notes: Sequence[str], last: int | None = None) -> Box:
    """A box of every step."""
    return Box(lane, row, row if last is None else last, calls, notes, True)


def sometimes(lane: str, row: int, *calls: Callable[..., Any], notes: Sequence[str]) -> Box:
    """A box of some steps: of a learned radius, or of an option."""
    return Box(lane, row, row, calls, notes, False)


def with_fields(kind: type, names: Sequence[str]) -> list[str]:
    """Lines with fields of a dataclass."""
    return textwrap.wrap(f"{kind.__name__}: {', '.join(names)}", 34)


def boxes() -> list[Box]:
    """All boxes, in the order in which a step comes to them."""
    wants = [item.name for item in fields(Wants)]
    evidence = [item.name for item in fields(Evidence)]
    losses, ascent = evidence[evidence.index("training_loss") : -4], evidence[-4:-1]
    assert ascent == ["reach", "climbs", "growth"]
    return [
        always("weights", 0, Parts.record, notes=["decides what the step measures"]),
        always("radius", 0, Radius.wants, notes=with_fields(Wants, wants)),
        sometimes("weights", 1, Passes.validate, notes=["validation batch at theta,", "if an update is due"]),
        sometimes("tangent", 1, Tangent.slope, notes=["gradient . Z of the step before"]),
        always("weights", 2, AscentPhase.first_pass, notes=["training batch at theta: loss, g_0"]),
        always(
            "weights",
            3,
            AscentPhase.set_radius,
            notes=[
                "in this order:",
                "- the update, if one is due",
                "- g_0 for the tangent",
                "- rho",
                "- a copy of theta",
            ],
            last=5,
        ),
        sometimes("radius", 3, Radius.update, notes=with_fields(Evidence, losses)),
        sometimes("tangent", 4, Tangent.begin, notes=["holds g_0"]),
        always("radius", 5, Radius.at, notes=[f"{Ascent.__name__} in, rho out"]),
        always("weights", 6, AscentPhase.move, Perturbation.direction, notes=["climbs to theta + rho eps_hat"]),
        sometimes("tangent", 6, Tangent.climb, notes=["may hold eps_hat instead"]),
        sometimes("tangent", 7, Tangent.probe, notes=[f"{FiniteDifference.__name__}: one more", "pass, at rho + h"]),
        always("weights", 8, Passes.train, notes=["the training batch again, at", "theta + rho eps_hat: g_rho"]),
        always("weights", 9, StepRecord.restore, DescentPhase.descend, notes=["back to theta, from the copy"]),
        sometimes("radius", 9, Radius.update, notes=with_fields(Evidence, ascent)),
        sometimes("tangent", 10, Tangent.differentiate, notes=["holds H_rho eps_hat"]),
        always("weights", 11, Perturbation.descent, notes=["g_rho becomes the descent gradient"]),
        sometimes("tangent", 11, Tangent.project, notes=["on the complement of it"]),
        sometimes("weights", 12, clipping, notes=["with max_grad_norm"]),
        sometimes("tangent", 12, Tangent.clip, notes=["the derivative of clipping"]),
        always(
            "weights",
            13,
            Passes.conclude,
            StepGuard.save,
            Optimizer.step,
            notes=["state and random numbers are those", "of one pass; then on to theta'"],
        ),
        sometimes("tangent", 13, Tangent.step, notes=["holds Z = d theta' / d rho"]),
        always("weights", 14, StepGuard.settle, notes=["back to theta where not finite"]),
        sometimes(
            "weights", 15, DescentPhase.evaluate_update, notes=['training_batch="same":', "both batches at theta'"]
        ),
        sometimes("tangent", 15, Tangent.slope, notes=["gradients . Z of this step"]),
        sometimes("radius", 15, Radius.update, notes=["here instead of above"]),
        always("weights", 16, Passes.end, Parts.commit, notes=["the end of the step: counters"]),
        always(
            "radius",
            16,
            Radius.commit,
            notes=["the new rho, where finite;", "half the old one where only", "the perturbed pass was not"],
        ),
        sometimes("tangent", 16, Tangent.commit, notes=["Z waits for the next step"]),
        always("weights", 17, Perturbation.commit, notes=["its memory, where finite"]),
    ]


FLOWS = [  # (lane, row) to (lane, row): what one lane gives to another
    (("radius", 0), ("weights", 0)),
    (("weights", 1), ("tangent", 1)),
    (("tangent", 1), ("radius", 3)),
    (("weights", 3), ("radius", 3)),
    (("weights", 3), ("tangent", 4)),
    (("radius", 5), ("weights", 3)),
    (("weights", 6), ("tangent", 6)),
    (("tangent", 7), ("weights", 8)),
    (("weights", 9), ("radius", 9)),
    (("weights", 9), ("tangent", 10)),
    (("weights", 11), ("tangent", 11)),
    (("weights", 12), ("tangent", 12)),
    (("weights", 13), ("tangent", 13)),
    (("weights", 15), ("tangent", 15)),
    (("tangent", 15), ("radius", 15)),
]
PLACES = [  # where the weights are, and from which row to which
    ("theta", 1, 5),
    ("theta + rho eps_hat", 6, 8),
    ("theta", 9, 12),
    ("theta'", 13, 17),
]
PHASES: list[tuple[str, type, int, int]] = [
    ("begin", SharpnessAware, 0, 1),
    ("ascent", AscentPhase, 2, 8),
    ("descent", DescentPhase, 9, 15),
    ("end", SharpnessAware, 16, 17),
]


def tangent_steps() -> list[str]:
    """The methods of `Tangent` that build Z, as far as `commit`, in the order in which the class has them."""
    methods = [name for name in vars(Tangent) if not name.startswith("_") and inspect.isfunction(vars(Tangent)[name])]
    return [getattr(Tangent, name).__qualname__ for name in methods[: methods.index(Tangent.discard.__name__)]]


def rows_of(found: Sequence[Box]) -> list[tuple[int, int]]:
    """Top and bottom of each row."""
    heights = [0] * (1 + max(box.last for box in found))
    for box in found:
        if box.first == box.last:
            heights[box.first] = max(heights[box.first], box.height)
    rows: list[tuple[int, int]] = []
    top = TOP
    for height in heights:
        rows.append((top, top + height))
        top += height + GAP
    return rows


def draw() -> Figure:
    """The picture."""
    found = boxes()
    drawn = [name for box in found if box.lane == "tangent" for name in box.names]
    if [name for name in drawn if name != Tangent.slope.__qualname__] != tangent_steps():
        raise AttributeError(f"the picture must show the methods of Tangent in their order, {tangent_steps()}")
    rows = rows_of(found)
    height = rows[-1][1] + 34
    figure = Figure(figsize=(WIDTH / 72, height / 72), dpi=72)
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, WIDTH), ylim=(height, 0))
    axes.set_axis_off()
    figure.patch.set_facecolor("white")
    for lane, (left, right) in LANES.items():
        axes.text((left + right) / 2, 22, TITLES[lane], size=TITLE, weight="bold", color=COLORS[lane][0], ha="center")
        folder = {"weights": DescentPhase, "tangent": Tangent, "radius": Radius}[lane].__module__.split(".")[1]
        axes.text((left + right) / 2, 40, f"letsam/{folder}/", size=NAME, family="monospace", color=PALE, ha="center")
    for name, kind, first, last in PHASES:
        module = "/".join(kind.__module__.split(".")[1:]) + ".py"
        _bar(axes, 6, 28, rows[first][0], rows[last][1], f"{name}: {module}", BAND)
    for name, first, last in PLACES:
        _bar(axes, 34, 56, rows[first][0], rows[last][1], name, COLORS["weights"][1])
    for box in found:
        _box(axes, box, rows)
    place = {(box.lane, box.first): box for box in found}
    for start, end in FLOWS:
        _flow(axes, place[start], place[end], rows)
    legend = "solid: every step     dashed: a learned radius, or an option     an arrow: what one lane gives to another"
    axes.text(WIDTH / 2, height - 12, legend, size=NOTE, color=PLAIN, ha="center")
    return figure


def _bar(axes: Axes, left: float, right: float, top: float, bottom: float, text: str, color: str) -> None:
    axes.add_patch(Rectangle((left, top), right - left, bottom - top, facecolor=color, edgecolor="none"))
    center = (left + right) / 2, (top + bottom) / 2
    axes.text(*center, text, size=NOTE, rotation=90, ha="center", va="center", color=PLAIN)


def _extent(box: Box, rows: Sequence[tuple[int, int]]) -> tuple[float, float]:
    """Top and bottom of a box: as high as its text, in the middle of its row, or all of several rows."""
    top, bottom = rows[box.first][0], rows[box.last][1]
    if box.last > box.first:
        return top, bottom
    spare = (bottom - top - box.height) / 2
    return top + spare, bottom - spare


def _box(axes: Axes, box: Box, rows: Sequence[tuple[int, int]]) -> None:
    (left, right), (top, bottom) = LANES[box.lane], _extent(box, rows)
    edge, fill = COLORS[box.lane]
    style: dict[str, Any] = {"facecolor": fill if box.always else "white", "edgecolor": edge, "linewidth": 1}
    style["linestyle"] = "-" if box.always else (0, (4, 3))
    shape = FancyBboxPatch((left, top), right - left, bottom - top, boxstyle="round,pad=0,rounding_size=4", **style)
    axes.add_patch(shape)
    line = top + PADDING + LINE - 4
    for name in box.names:
        axes.text(left + 8, line, name, size=NAME, family="monospace", color=edge, weight="bold")
        line += LINE
    for note in box.notes:
        axes.text(left + 8, line, note, size=NOTE, color=PLAIN)
        line += LINE


def _flow(axes: Axes, start: Box, end: Box, rows: Sequence[tuple[int, int]]) -> None:
    """An arrow from the side of one box to that of another, by a corner between the lanes where rows differ."""
    order = list(LANES)
    right = order.index(end.lane) > order.index(start.lane)
    x0, x1 = LANES[start.lane][int(right)], LANES[end.lane][int(not right)]
    y0, y1 = (sum(_extent(box, rows)) / 2 for box in (start, end))
    if start.last > start.first or end.last > end.first:  # level with the smaller one
        y0 = y1 = y1 if start.last > start.first else y0
    if y0 != y1:
        corner = x1 - 14 if right else x1 + 14
        axes.plot([x0, corner, corner], [y0, y0, y1], color=PALE, linewidth=1, solid_joinstyle="round")
        x0 = corner
    axes.annotate("", (x1, y1), (x0, y1), arrowprops={"arrowstyle": "-|>", "color": PALE, "shrinkA": 0, "shrinkB": 1})


def svg() -> str:
    """The picture as the file has it."""
    with mpl.rc_context(STYLE):
        stream = io.StringIO()
        draw().savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    text = stream.getvalue().replace(f'width="{WIDTH}pt"', f'width="{WIDTH}"', 1)
    text = re.sub(r'(<svg\b[^>]*?height="\d+)pt"', r'\1"', text, count=1)
    text = re.sub(r" <metadata>.*?</metadata>\n", "", text, flags=re.DOTALL)
    return "\n".join(line.rstrip() for line in text.splitlines()) + "\n"


if __name__ == "__main__":
    PICTURE.write_text(svg(), encoding="utf-8")
    print(f"wrote {PICTURE}")
