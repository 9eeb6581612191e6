"""How each method looks, in every figure and in the key of the page.

A method's family sets the hue (after Okabe and Ito's palette, whose hues
stay apart for colour-blind readers), its radius the shade within the family, a learned radius a thick line, a
refit a dashed one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from matplotlib.colors import to_hex, to_rgb

from letsam.results import Results, is_learned

__all__ = ["MethodStyle", "method_styles"]

# family -> (light end, the colour of a single member, dark end)
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
    """

    color: str
    linestyle: Literal["-", "--"]
    linewidth: float
    marker: str
    zorder: float


def method_styles(results: Results) -> dict[str, MethodStyle]:
    """Give each method of a trial its look, in order of first appearance."""
    spare = iter(_SPARE * len(results.runs))
    ramps = dict(_FAMILIES)
    styles: dict[str, MethodStyle] = {}
    members: dict[str, dict[str, float]] = {}
    for run in results.runs:
        # A refit shares the colour of its search, so the shade is that of the name before the "+".
        members.setdefault(_family(run.method), {}).setdefault(_parent(run.method), run.rho_initial or 0.0)
    for method in results.methods:
        family = _family(method)
        if family not in ramps:
            ramps[family] = next(spare)
        shades = sorted(members[family], key=lambda name: members[family][name])
        learned = is_learned(method)
        styles[method] = MethodStyle(
            color=_shade(ramps[family], shades.index(_parent(method)), len(shades)),
            linestyle="--" if "+" in method else "-",
            linewidth=2.2 if learned else 1.3,
            marker=_MARKERS.get(family, "o"),
            zorder=3.0 if learned else 2.0,
        )
    return styles


def _parent(method: str) -> str:
    return method.split("+")[0]


def _family(method: str) -> str:
    return _parent(method).split(":")[0]


def _shade(ramp: tuple[str, str, str], index: int, count: int) -> str:
    if count == 1:
        return ramp[1]
    light, dark, share = to_rgb(ramp[0]), to_rgb(ramp[2]), index / (count - 1)
    red, green, blue = (a + share * (b - a) for a, b in zip(light, dark, strict=True))
    return to_hex((red, green, blue))
