"""The colour, line and marker of each method, in every figure and in the legend of the page.

The family of a method sets the hue (after Okabe and Ito's palette, which colour-blind readers can tell apart), and the
radius sets the shade within the family. A learned radius has a thick line, a refit a dashed one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from matplotlib.colors import to_hex, to_rgb

from letsam.results import MethodName, Results

__all__ = ["MethodStyle", "method_styles"]

# family: (lightest shade, the colour of a family with one member, darkest shade)
_FAMILIES = {
    "sgd": ("#9aa1ab", "#808894", "#666e7a"),
    "sam": ("#7cc4f2", "#2b8fd6", "#1c63b0"),
    "asam": ("#6fd3b0", "#12a37a", "#0a7a5b"),
    "lets-sam": ("#f5a33b", "#e0600d", "#b93c0a"),
    "lets-asam": ("#e6a3cd", "#cc6fa8", "#9c3f7c"),
}
_SPARE = (
    ("#d3bb3c", "#b39a10", "#8a7600"),
    ("#b09bea", "#8a6fd8", "#6647b8"),
    ("#c79a82", "#a5714f", "#7f5136"),
    ("#7fd6dd", "#27a9b3", "#147f88"),
)
_MARKERS = {"sgd": "o", "sam": "s", "asam": "^", "lets-sam": "D", "lets-asam": "P"}


@dataclass(frozen=True)
class MethodStyle:
    """How a method is drawn, in every figure.

    Args:
        color: as ``#rrggbb``.
        linestyle: ``"-"``, or dashed for a refit.
        linewidth: in points; thicker for a learned radius.
        marker: one for each family.
        zorder: a learned radius lies on top.
        learned: whether the radius is learned, or replays a learned one.
    """

    color: str
    linestyle: Literal["-", "--"]
    linewidth: float
    marker: str
    zorder: float
    learned: bool


def method_styles(results: Results) -> dict[str, MethodStyle]:
    """Give each method of a trial its style, in order of first appearance."""
    names = {method: MethodName.parse(method) for method in results.methods}
    spare = iter(_SPARE * len(results.runs))
    ramps = dict(_FAMILIES)
    members: dict[str, dict[str, float]] = {}
    for run in results.runs:
        # A refit has the colour of its search, so both have one shade.
        name = names[run.method]
        members.setdefault(name.family, {}).setdefault(name.search, run.rho_initial or 0.0)
    styles: dict[str, MethodStyle] = {}
    for method, name in names.items():
        if name.family not in ramps:
            ramps[name.family] = next(spare)
        shades = sorted(members[name.family], key=members[name.family].__getitem__)
        styles[method] = MethodStyle(
            color=_shade(ramps[name.family], shades.index(name.search), len(shades)),
            linestyle="--" if name.refit else "-",
            linewidth=2.2 if name.learned else 1.3,
            marker=_MARKERS.get(name.family, "o"),
            zorder=3.0 if name.learned else 2.0,
            learned=name.learned,
        )
    return styles


def _shade(ramp: tuple[str, str, str], index: int, count: int) -> str:
    if count == 1:
        return ramp[1]
    light, dark, share = to_rgb(ramp[0]), to_rgb(ramp[2]), index / (count - 1)
    red, green, blue = (a + share * (b - a) for a, b in zip(light, dark, strict=True))
    return to_hex((red, green, blue))
