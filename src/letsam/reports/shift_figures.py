"""The figures of the tests under shift: a quantity by severity, for all shifts together and for each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure

from letsam.languages import N_, gettext, ngettext, sentences
from letsam.reports.drawing import INK, drawable, empty_figure, limit_losses, loss_limit
from letsam.reports.panels import Panel, panel_of
from letsam.reports.shift_numbers import Quantity, ShiftNumbers
from letsam.reports.styles import method_styles
from letsam.results import Results, finite_mean, finite_spread, printable

__all__ = ["ShiftPanels", "severity_curve", "severity_figure", "shift_data", "shift_panels"]

Points = Sequence[tuple[int, str]]

SMALL = (3.1, 2.2)  # inches


@dataclass(frozen=True)
class ShiftPanels:
    """The figures of the section.

    Args:
        together: one for each quantity, a mean over the shifts that were tested at all five severities.
        kinds: one for each shift.
    """

    together: tuple[Panel, ...]
    kinds: tuple[Panel, ...]


def shift_panels(results: Results, found: ShiftNumbers) -> ShiftPanels:
    """The figures, each as a still picture that the script replaces."""
    complete = list(found.complete.values())
    together = [
        panel_of(
            f"shift-{one.name}",
            _title(one),
            sentences(
                gettext("{title}, a mean over {count} shifts.", title=_title(one), count=len(complete)),
                _ends(found, one, complete),
            ),
            sentences(
                gettext(_MEANING[one.name]),
                gettext("Severity 0: the test data as they are."),
                ngettext(
                    "Mean over {count} shift and all seeds.", "Mean over {count} shifts and all seeds.", len(complete)
                ),
            ),
            severity_figure(results, found, one, complete, _title(one)),
        )
        for one in found.quantities
        if complete
    ]
    first = found.quantities[0]
    limits = _limits(found, first)
    kinds = [
        panel_of(
            f"shift-kind-{place}",
            found.title(kind),
            sentences(
                gettext("{title} of the shift {kind}.", title=_title(first), kind=kind), _ends(found, first, [points])
            ),
            "",
            severity_figure(results, found, first, [points], found.title(kind), small=True, limits=limits),
        )
        for place, (kind, points) in enumerate(found.drawn.items())
    ]
    return ShiftPanels(tuple(together), tuple(kinds))


_MEANING = {
    "metric": N_("A flat line is a model that the shift does not harm."),
    "error": N_("A line that rises is a model that stays sure of answers that become wrong."),
    "gap": N_("Loss on the shifted test data minus training loss."),
}


def severity_curve(
    found: ShiftNumbers, one: Quantity, method: str, kinds: Sequence[Points]
) -> list[tuple[int, float, float]]:
    """Severity, mean and standard deviation over seeds, of a mean over kinds; without what cannot be drawn."""
    curve: list[tuple[int, float, float]] = []
    for severity in sorted({severity for points in kinds for severity, _ in points}):
        names = [name for points in kinds for place, name in points if place == severity]
        values = [one.factor * finite_mean([one.of(run, name) for name in names]) for run in found.runs_of(method)]
        if all(map(drawable, values)):
            curve.append((severity, finite_mean(values), finite_spread(values)))
    return curve


def severity_figure(
    results: Results,
    found: ShiftNumbers,
    one: Quantity,
    kinds: Sequence[Points],
    title: str,
    *,
    small: bool = False,
    limits: tuple[float, float] | None = None,
) -> Figure | None:
    """Draw a quantity by severity, a line for each method.

    Args:
        results: the trial.
        found: its tests under shift.
        one: the quantity.
        kinds: severities and tests of the shifts that the mean is taken over.
        title: of the figure.
        small: for one of many figures side by side.
        limits: of the vertical axis, which the figures share.

    Returns:
        The figure, or None if there is nothing to draw.
    """
    styles = method_styles(results)
    figure, axes = empty_figure(printable(title))
    if small:
        figure.set_size_inches(*SMALL)
    drawn = False
    for method in found.methods:
        curve = severity_curve(found, one, method, kinds)
        if not curve:
            continue
        drawn, style = True, styles[method]
        mark = style.marker if len(curve) <= 2 else None
        axes.plot(
            [severity for severity, _, _ in curve],
            [mean for _, mean, _ in curve],
            style.linestyle,
            color=style.color,
            lw=style.linewidth,
            zorder=style.zorder,
            marker=mark,
            ms=4,
        )
    if not drawn:
        return None
    axes.set_xticks(range(6))
    axes.set_xlim(-0.15, 5.15)
    axes.set_xlabel(gettext("severity"), fontsize=9, color=INK)
    if limits is not None:
        axes.set_ylim(*limits)
    if one.name == "gap":
        limit_losses(axes, results)
    return figure


def shift_data(results: Results, found: ShiftNumbers) -> dict[str, Any]:
    """What the script draws and writes: values of each run, and what the figures and tables are made of."""
    names = list(dict.fromkeys(name for run in found.runs for name in run.shifted))
    place = {name: index for index, name in enumerate(names)}
    limit = loss_limit(results)
    drawn = {kind: [[severity, place[name]] for severity, name in points] for kind, points in found.drawn.items()}
    return {
        "quantities": [
            {
                "name": one.name,
                "label": one.label,
                "title": _title(one),
                "factor": one.factor,
                "digits": one.digits,
                "shared": one.shared,
                "limit": limit if one.name == "gap" and drawable(limit) else None,
                "corruption": one.name == "metric" and results.metric == "accuracy",
            }
            for one in found.quantities
        ],
        "methods": [results.methods.index(method) for method in found.methods],
        "kinds": [[place[name] for name in kind] for kind in found.kinds.values()],
        "drawn": list(drawn.values()),
        "complete": [drawn[kind] for kind in found.complete],
        "titles": [found.title(kind) for kind in drawn],
        "runs": [
            {
                "method": results.methods.index(run.method),
                "seed": run.seed,
                "values": [[_exact(one.of(run, name)) for name in names] for one in found.quantities],
            }
            for run in found.runs
        ],
    }


def _limits(found: ShiftNumbers, one: Quantity) -> tuple[float, float] | None:
    """The axis that all figures of kinds share, where a quantity has the same range under all shifts."""
    if not one.shared:
        return None
    curves = [
        severity_curve(found, one, method, [points]) for method in found.methods for points in found.drawn.values()
    ]
    values = [mean for curve in curves for _, mean, _ in curve]
    if not values:
        return None
    pad = 0.05 * (max(values) - min(values)) or 1.0
    return min(values) - pad, max(values) + pad


def _title(one: Quantity) -> str:
    return gettext("{quantity} by severity", quantity=one.heading)


def _ends(found: ShiftNumbers, one: Quantity, kinds: Sequence[Points]) -> str:
    """The ends of all lines in one sentence, for those who do not see them."""
    texts: list[str] = []
    for method in found.methods:
        curve = severity_curve(found, one, method, kinds)
        if curve:
            (first, start, _), (last, end, _) = curve[0], curve[-1]
            texts.append(
                gettext(
                    "{method} from {start} at severity {first} to {end} at {last}",
                    method=method,
                    start=f"{start:.4g}",
                    first=first,
                    end=f"{end:.4g}",
                    last=last,
                )
            )
    return gettext("{sentence}.", sentence="; ".join(texts)) if texts else gettext("Nothing can be drawn.")


def _exact(value: float) -> float | None:
    return value if drawable(value) else None
