"""The results of a run: three numbers for each variant, and the curves of the default variant of `LearnedRadius`."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from benchmarks.fidelity.estimates import ESTIMATORS, LEARNED, VARIANTS, Variant, compare, moments
from benchmarks.harness import Benchmark, Row, Unit
from benchmarks.harness.page import BLACK, BLUE, GREEN, ORANGE, dress, table

EVERY = 25
CURVES = Variant("validation_loss", "next", True, "secant")  # the other estimators' curves are drawn with it
COLOURS = {"secant": ORANGE, "finite_difference": BLUE, "diagonal": GREEN}
FAITHFUL = 0.9  # share of equal signs from which an estimator counts as faithful in the summary


@dataclass(frozen=True)
class Faithful:
    """One variant along one run."""

    variant: Variant
    ratio: float  # median of |estimate| over median of |exact|, 1 where the size is right
    sign: float  # share of equal signs, 1 where the radius moves the right way
    correlation: float  # Pearson's, 1 where the estimate is exact up to a factor > 0; 0 where one is constant

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Faithful:
        """The rows that `asdict` wrote."""
        return cls(**fields | {"variant": Variant(**fields["variant"])})


@dataclass(frozen=True)
class Compared(Row):
    """One training run."""

    parts: ClassVar = ("radius",)

    radius: float | str  # the fixed radius, or "learned"
    rho: list[float]  # the radius used at each compared step
    rows: list[Faithful]  # every variant
    curves: dict[str, list[float]]  # "exact" and each estimator at each compared step, for the target of `CURVES`

    @property
    def title(self) -> str:
        """The title in tables and figures."""
        learned = f"learned, {self.rho[0]:.2g} → {self.rho[-1]:.2g}"
        return f"rho {self.radius:g}" if isinstance(self.radius, float) else learned

    def row(self, variant: Variant) -> Faithful:
        """Of a variant."""
        return next(row for row in self.rows if row.variant == variant)


def fidelity(pairs: Sequence[tuple[float, float]]) -> dict[str, float]:
    """How well estimates follow exact values, given pairs of them, in the three numbers of `Faithful`."""
    estimates, truths = [e for e, _ in pairs], [t for _, t in pairs]
    scale = statistics.median(map(abs, truths))
    try:
        correlation = statistics.correlation(estimates, truths)
    except statistics.StatisticsError:
        correlation = 0.0
    return {
        "ratio": statistics.median(map(abs, estimates)) / scale if scale else float("nan"),
        "sign": statistics.fmean((e > 0) == (t > 0) for e, t in pairs),
        "correlation": correlation,
    }


class Fidelity(Benchmark[Compared]):
    """Train, and compare estimates with exact values every few steps."""

    name, depth, head = "fidelity", 4, {"schema": 1, "every": EVERY}
    settings: Mapping[str, float | str] = {str(radius): radius for radius in (0.02, 0.05, 0.1, 0.2, 0.5, LEARNED)}
    every, epochs = EVERY, None

    def units(self) -> list[Unit]:
        """A run for each radius."""
        return [Unit(name, (name,), radius) for name, radius in self.settings.items()]

    def measure(self, unit: Unit) -> list[Compared]:
        """Train once and compare every variant at every `every`-th step."""
        rho: list[float] = []
        pairs: dict[Variant, list[tuple[float, float]]] = {}
        for moment, value in moments(unit.work, seed=0, every=self.every, epochs=self.epochs):
            rho.append(value)
            for variant, pair in compare(moment, value).items():
                pairs.setdefault(variant, []).append(pair)
        curves = {name: [e for e, _ in pairs[replace(CURVES, estimator=name)]] for name in ESTIMATORS}
        curves["exact"] = [truth for _, truth in pairs[CURVES]]
        rows = [Faithful(variant, **fidelity(found)) for variant, found in pairs.items()]
        return [Compared(unit.work, rho, rows, curves)]

    def from_json(self, content: dict[str, Any]) -> list[Compared]:
        """The runs; each has a row for each variant, and curves."""
        return [Compared(**run | {"rows": list(map(Faithful.from_json, run["rows"]))}) for run in content["runs"]]

    def sections(self, rows: Sequence[Compared]) -> Mapping[str, object]:
        """The radii at which each estimator is faithful, and all numbers."""
        groups = dict.fromkeys((v.objective, v.training_batch) for v in VARIANTS)
        return {
            "count": len(rows[0].rho),
            "every": EVERY,
            "faithful": f"{FAITHFUL:.0%}",
            "summary": _summary(rows),
            "objectives": "\n\n".join(_objective(rows, objective, batch) for objective, batch in groups),
        }

    def figures(self, rows: Sequence[Compared]) -> Mapping[str, Figure]:
        """The three numbers over the radii, and hypergradients over training."""
        return {"images/fidelity.png": _quality(rows), "images/fidelity-curves.png": _curves(rows)}


def _summary(runs: Sequence[Compared]) -> str:
    rows: list[list[str]] = []
    for variant in sorted(VARIANTS, key=lambda v: (ESTIMATORS.index(v.estimator), v.objective != "validation_loss")):
        signs = {run.key: run.row(variant).sign for run in runs}
        good = ", ".join(radius for radius, sign in signs.items() if sign >= FAITHFUL) or "none"
        bad = ", ".join(f"{radius} ({sign:.0%})" for radius, sign in signs.items() if sign < FAITHFUL) or "none"
        objective = variant.objective + (f", {variant.training_batch}" if variant.objective == "squared_gap" else "")
        rows.append([variant.estimator, objective, _yes(variant.length_invariant), good, bad])
    return table(["estimator", "objective", "length invariant", "faithful at", "not at"], rows, "l")


def _objective(runs: Sequence[Compared], objective: str, batch: str) -> str:
    rows = [
        [
            variant.estimator,
            _yes(variant.length_invariant),
            *(f"{row.ratio:.2g}, {row.sign:.0%}, r {row.correlation:.2f}" for run in runs if (row := run.row(variant))),
        ]
        for variant in VARIANTS
        if (variant.objective, variant.training_batch) == (objective, batch)
    ]
    where = f", training batch `{batch}`" if objective == "squared_gap" else ""
    numbers = table(["estimator", "length invariant", *(run.title for run in runs)], rows, "l")
    return f"## Objective `{objective}`{where}\n\n{numbers}"


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _quality(runs: Sequence[Compared]) -> Figure:
    """The three numbers over the fixed radii; with the projection solid, without it dashed."""
    fixed = [run for run in runs if isinstance(run.radius, float)]
    radii = [run.rho[0] for run in fixed]
    figure = Figure(figsize=(10.5, 3.3), layout="constrained")
    panels = figure.subplots(1, 3)
    for name, colour in COLOURS.items():
        for projected in (True, False):
            rows = [run.row(replace(CURVES, estimator=name, length_invariant=projected)) for run in fixed]
            style = {"color": colour, "ls": "-" if projected else "--", "marker": "o", "ms": 4}
            label = name if projected else None
            panels[0].loglog(radii, [row.ratio for row in rows], label=label, **style)
            panels[1].semilogx(radii, [100 * row.sign for row in rows], **style)
            panels[2].semilogx(radii, [row.correlation for row in rows], **style)
    titles = ("size: estimate / exact", "equal signs (%)", "correlation")
    for axes, title, ideal in zip(panels, titles, (1, 100, 1), strict=True):
        axes.axhline(ideal, color=BLACK, lw=0.8, alpha=0.4)
        dress(axes, title, "rho")
        axes.set_xticks(radii, [f"{rho:g}" for rho in radii])
        axes.xaxis.set_minor_locator(NullLocator())
    panels[0].legend(frameon=False, fontsize=8)
    figure.suptitle("Objective validation_loss; solid: length invariant, dashed: not", fontsize=9)
    return figure


def _curves(runs: Sequence[Compared]) -> Figure:
    """The hypergradient of each compared step: exact, secant and finite difference."""
    figure = Figure(figsize=(10.5, 5.2), layout="constrained")
    for axes, run in zip(figure.subplots(2, 3).flat, runs, strict=False):
        steps = [i * EVERY for i in range(len(run.rho))]
        axes.axhline(0, color=BLACK, lw=0.6, alpha=0.4)
        axes.plot(steps, run.curves["exact"], color=BLACK, lw=2.4, alpha=0.35, label="exact")
        axes.plot(steps, run.curves["secant"], color=COLOURS["secant"], lw=1.2, label="secant")
        finite = run.curves["finite_difference"]
        axes.plot(steps, finite, color=COLOURS["finite_difference"], lw=0, marker=".", ms=4, label="finite difference")
        dress(axes, run.title, size=7)
    figure.axes[0].legend(frameon=False, fontsize=7)
    figure.supxlabel("step", fontsize=8)
    figure.suptitle("d validation loss / d rho, length invariant", fontsize=9)
    return figure
