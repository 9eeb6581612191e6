"""The page "How a step works": its picture is of today's code, in the order of a real step, and every name exists."""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
import re
import sys
from dataclasses import is_dataclass
from itertools import combinations
from pathlib import Path
from types import FrameType
from typing import Any
from xml.etree import ElementTree

import matplotlib as mpl
import pytest
import torch
from matplotlib.patches import FancyBboxPatch
from torch.optim import Optimizer

import letsam
from letsam.perturbations import Perturbation
from letsam.radius import Radius
from page_code import blocks_of, run_code
from site_cases import tool

ROOT = Path(__file__).parents[1]
PAGE = "docs/how-a-step-works.md"


DRAW = tool("draw_step", "docs")

# --- the picture ------------------------------------------------------------------------------------------------------


def texts(svg: str) -> list[str]:
    return ["".join(node.itertext()) for node in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]


def test_the_picture_in_the_repository_is_the_one_that_the_script_draws() -> None:
    found = texts(DRAW.PICTURE.read_text(encoding="utf-8"))
    assert len(found) > 50
    assert found == texts(DRAW.svg()), "run python docs/draw_step.py"


def test_no_text_of_the_picture_leaves_its_box_and_no_boxes_overlap() -> None:
    with mpl.rc_context(DRAW.STYLE):
        figure = DRAW.draw()
        axes, renderer = figure.axes[0], figure.canvas.get_renderer()
        shapes = [patch.get_window_extent(renderer) for patch in axes.patches]
        drawn = [text for text in axes.texts if text.get_text()]
        inside = [text for text in drawn if text.get_horizontalalignment() == "left" or text.get_rotation()]
        assert len(inside) > 50
        for text in inside:
            extent = text.get_window_extent(renderer)
            assert any(
                shape.x0 <= extent.x0 and extent.x1 <= shape.x1 and shape.y0 <= extent.y0 and extent.y1 <= shape.y1
                for shape in shapes
            ), text.get_text()
        for one, other in combinations(axes.patches, 2):
            assert not one.get_window_extent(renderer).overlaps(other.get_window_extent(renderer))
        assert sum(isinstance(patch, FancyBboxPatch) for patch in axes.patches) == len(DRAW.boxes())


def in_the_words_of_the_contract(name: str) -> str:
    """`LearnedRadius.at` is `Radius.at`, whichever radius it is; the same for perturbations and base optimizers."""
    owner, _, method = name.partition(".")
    for base in (Radius, Perturbation, Optimizer):
        if owner in KINDS[base]:
            return f"{base.__name__}.{method}"
    return name


def kinds(base: type) -> set[str]:
    return {base.__name__}.union(*(kinds(kind) for kind in base.__subclasses__() if kind.__name__ != "Wrapper"))


KINDS = {base: kinds(base) for base in (Radius, Perturbation, Optimizer)}


def calls_of_a_step(rho: float | Radius, **options: Any) -> list[str]:
    """Names of all functions that the third step of a small network calls, in their order."""
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 2)
    opt = letsam.SAM(torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9), rho, **options)

    def closure_on(inputs: torch.Tensor) -> Any:
        def closure() -> torch.Tensor:
            opt.zero_grad()
            loss = model(inputs).square().mean()
            loss.backward()
            return loss

        return closure

    training, validation = closure_on(torch.randn(8, 3)), closure_on(torch.randn(8, 3))
    for _ in range(2):
        opt.step(training, validation)
    calls: list[str] = []

    def note(frame: FrameType, event: str, argument: object) -> None:
        if event == "call":
            calls.append(in_the_words_of_the_contract(frame.f_code.co_qualname))

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        opt.step(training, validation)
    finally:
        sys.setprofile(before)
    return calls


def assert_in_this_order(names: list[str], calls: list[str]) -> None:
    place = 0
    for name in names:
        assert name in calls[place:], f"{name} is not called after {calls[place - 1]}"
        place = calls.index(name, place) + 1


def names_in(chosen: list[Any]) -> list[str]:
    return [name for box in chosen for name in box.names]


LATE_ROW = next(box.first for box in DRAW.boxes() if DRAW.DescentPhase.evaluate_update.__qualname__ in box.names)
LATE = [box for box in DRAW.boxes() if box.first == LATE_ROW]
EARLY = [box for box in DRAW.boxes() if DRAW.Passes.validate.__qualname__ in box.names]
EARLY += [box for box in DRAW.boxes() if box.first == EARLY[0].first and box not in EARLY]
EARLY += [box for box in DRAW.boxes() if DRAW.Radius.update.__qualname__ in box.names][:1]


def test_the_boxes_are_in_the_order_of_a_learned_step() -> None:
    radius = letsam.LearnedRadius(0.05, hypergradient=letsam.FiniteDifference())
    calls = calls_of_a_step(radius, max_grad_norm=0.1)
    assert_in_this_order(names_in([box for box in DRAW.boxes() if box not in LATE]), calls)
    building = DRAW.tangent_steps()
    assert [name for name in calls if name in building] == building
    assert LATE[0].names[0] not in calls


def test_the_boxes_are_in_the_order_of_a_step_that_learns_on_its_own_batch() -> None:
    radius = letsam.LearnedRadius(0.05, objective=letsam.SquaredGap("same"), interval=1)
    calls = calls_of_a_step(radius, max_grad_norm=0.1)
    assert_in_this_order(names_in([box for box in DRAW.boxes() if box not in EARLY]), calls)


def test_a_step_with_a_fixed_radius_has_the_solid_boxes_only() -> None:
    calls = calls_of_a_step(0.05)
    solid = names_in([box for box in DRAW.boxes() if box.always])
    assert_in_this_order(solid, calls)
    dashed = set(names_in([box for box in DRAW.boxes() if not box.always])) - set(solid)
    assert len(dashed) > 10
    assert not dashed & set(calls)


def test_a_wrong_order_is_seen() -> None:
    calls = calls_of_a_step(0.05)
    solid = names_in([box for box in DRAW.boxes() if box.always])
    with pytest.raises(AssertionError):
        assert_in_this_order(solid[::-1], calls)


# --- the page ---------------------------------------------------------------------------------------------------------

PACKAGES = ("closures", "optimizer", "perturbations", "radius", "step", "tangent", "tensors")


def classes() -> dict[str, type]:
    """The classes of a step by name; they are unique in letsam (tests/test_names.py)."""
    found: dict[str, type] = {}
    for package in PACKAGES:
        module = importlib.import_module(f"letsam.{package}")
        names = [item.name for item in pkgutil.iter_modules(getattr(module, "__path__", []))]
        for part in [module, *(importlib.import_module(f"letsam.{package}.{name}") for name in names)]:
            found |= {name: value for name, value in vars(part).items() if isinstance(value, type)}
    return found


def exists(name: str, known: dict[str, Any]) -> bool:
    owner, _, attribute = name.partition(".")
    if owner not in known:
        return False
    kind = known[owner]
    is_field = is_dataclass(kind) and attribute in kind.__dataclass_fields__
    return not attribute or is_field or hasattr(kind, attribute)


def wrong_names(page: str) -> list[str]:
    """Names in backticks on a page that the code does not have."""
    known, wrong = classes(), []
    text = re.sub(r"```.*?```", "", page, flags=re.DOTALL)
    for span in re.findall(r"`([^`]+)`", text):
        path, _, name = re.sub(r"\s+", " ", span).partition(": ")
        if re.fullmatch(r"[\w/-]+(\.(py|md)|/)", path):
            place = next((folder / path for folder in (ROOT / "src", ROOT) if (folder / path).exists()), None)
            if place is None:
                wrong.append(span)
            elif name:
                module = importlib.import_module(".".join(Path(path).with_suffix("").parts))
                own = {
                    key for key, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__
                }
                if name.partition(".")[0] not in own or not exists(name, vars(module)):
                    wrong.append(span)
        elif re.fullmatch(r"[A-Z][A-Za-z]+[a-z](\.\w+)?", span) and not exists(span, known):
            wrong.append(span)
    return wrong


def test_every_name_on_the_page_is_in_the_code() -> None:
    page = (ROOT / PAGE).read_text(encoding="utf-8")
    assert len(re.findall(r"`letsam/[\w/]+\.py:\s", page)) > 15
    assert len(re.findall(r"`[A-Z]\w+\.\w+`", page)) > 25
    assert wrong_names(page) == []


@pytest.mark.parametrize(
    "name",
    [
        "letsam/step/nowhere.py",
        "letsam/nowhere/",
        "letsam/step/ascent.py: AscentPhase.fall",
        "letsam/step/ascent.py:\nDescentPhase.descend",
        "letsam/step/ascent.py: Closure",
        "AscentPhase.fall",
        "Evidence.opinion",
        "NoSuchClass",
    ],
)
def test_a_name_that_is_gone_is_seen(name: str) -> None:
    assert wrong_names(f"See `letsam/step/ascent.py` and `{name}`.") == [name]


def test_the_page_shows_the_picture_and_is_linked() -> None:
    page = (ROOT / PAGE).read_text(encoding="utf-8")
    assert f"({DRAW.PICTURE.relative_to(ROOT / 'docs')})" in page
    assert PAGE in (ROOT / "README.md").read_text(encoding="utf-8")
    assert PAGE in (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def test_the_parts_on_the_page_work() -> None:
    (block,) = blocks_of(PAGE)
    names = run_code(block, PAGE, {})
    for radius in (names["scheduled"], names["learned"]):
        torch.manual_seed(0)
        weight = torch.nn.Parameter(torch.randn(5))
        opt = letsam.SAM(torch.optim.SGD([weight], lr=0.1), radius)

        def loss_on(scale: float, weight: torch.Tensor = weight, opt: Any = opt) -> torch.Tensor:
            opt.zero_grad()
            loss = (weight * scale).sin().sum() + scale
            loss.backward()
            return loss

        for _ in range(3):
            opt.step(lambda loss_on=loss_on: loss_on(1.0), lambda loss_on=loss_on: loss_on(2.0))
        assert opt.metrics["rho"] != radius.rho
        assert opt.metrics["skipped_steps"] == 0
