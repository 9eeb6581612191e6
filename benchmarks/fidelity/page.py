"""docs/fidelity.md and its figures, from docs/evidence/fidelity.json alone. No sentence here knows a result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from benchmarks.fidelity import record
from benchmarks.fidelity.estimates import ESTIMATORS, VARIANTS, Variant
from benchmarks.fidelity.record import CURVES, EVERY, Compared, Row
from letsam.results import write_atomically

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "fidelity.md"
IMAGES = ROOT / "docs" / "images"

COLOURS = {"secant": "#e0600d", "finite_difference": "#1c63b0", "diagonal": "#12a37a"}
FAITHFUL = 0.9  # share of equal signs from which an estimator counts as faithful in the summary

INTRODUCTION = """\
# Fidelity: how true the hypergradient is

A learned radius moves along d upper / d rho, which needs H eps_hat, a curvature at the perturbed weights. The
estimators in `letsam.hypergradient` replace it by something cheap. This page compares them with the exact derivative
along real training runs; it is made from [evidence/fidelity.json](evidence/fidelity.json).

```
python -m benchmarks.fidelity run      # some two minutes on one idle thread; resumable; --again measures afresh
python -m benchmarks.fidelity table    # this page
```

- **The runs**: digits with 40% wrong labels, 60 epochs, float64, SAM with a fixed radius or with the default
  `LearnedRadius` started at 0.05; one seed, {count} steps of each run, one in {every}.
- **The estimate**: the real optimizer makes the step on a copy of the run; `opt.metrics["hypergradient"]` is read.
- **The exact value**: the same step, on the same batches, written out as a function of rho and differentiated twice by
  autograd, with nothing of letsam in it ([benchmarks/fidelity/exact.py](../benchmarks/fidelity/exact.py)). With
  `length_invariant` the exact step keeps the length of its gradient, which is what the projection stands for.

In each cell: the **ratio** (median size of the estimate over median size of the exact value), the share of equal
**signs** (steps on which both would move rho the same way) and **r** (Pearson's correlation). A steady ratio does no
harm, because Adam divides it out; a wrong sign does.
"""


def make() -> None:
    """Write the page and its figures."""
    runs = record.read()
    _quality(runs).savefig(IMAGES / "fidelity.png", dpi=110)
    _curves(runs).savefig(IMAGES / "fidelity-curves.png", dpi=110)
    parts = [
        INTRODUCTION.format(count=len(runs[0].rho), every=EVERY),
        _summary(runs),
        "![Ratio, sign agreement and correlation over radii](images/fidelity.png)\n",
        "![Estimates and the exact value over training](images/fidelity-curves.png)\n",
    ]
    groups = {(v.objective, v.training_batch): None for v in VARIANTS}
    for objective, batch in groups:
        where = f", training batch `{batch}`" if objective == "squared_gap" else ""
        parts.append(f"## Objective `{objective}`{where}\n\n{_table(runs, objective, batch)}\n")
    parts.append(
        "`validation_loss` has no training loss in it, so `training_batch` makes no difference to it where both see\n"
        "the same held-out batch, as here. `diagonal` with `squared_gap`, `same` and no length invariance is the\n"
        "paper's reading.\n"
    )
    write_atomically(PAGE, "\n".join(parts))


def _row(run: Compared, variant: Variant) -> Row:
    return next(row for row in run.rows if row.variant == variant)


def _summary(runs: Sequence[Compared]) -> str:
    """Where each estimator may be trusted, as measured."""
    lines = [f"Faithful here means: the right sign on at least {FAITHFUL:.0%} of the steps. As measured:", ""]
    lines += ["| estimator | objective | length invariant | faithful at | not at |", "| --- | --- | --- | --- | --- |"]
    for variant in sorted(VARIANTS, key=lambda v: (ESTIMATORS.index(v.estimator), v.objective != "validation_loss")):
        signs = {str(run.radius): _row(run, variant).sign for run in runs}
        good = ", ".join(radius for radius, sign in signs.items() if sign >= FAITHFUL) or "none"
        bad = ", ".join(f"{radius} ({sign:.0%})" for radius, sign in signs.items() if sign < FAITHFUL) or "none"
        objective = variant.objective + (f", {variant.training_batch}" if variant.objective == "squared_gap" else "")
        lines.append(
            f"| {variant.estimator} | {objective} | {'yes' if variant.length_invariant else 'no'} | {good} | {bad} |"
        )
    return "\n".join(lines) + "\n"


def _table(runs: Sequence[Compared], objective: str, batch: str) -> str:
    head = ["estimator", "length invariant", *(_radius(run) for run in runs)]
    rows = [f"| {' | '.join(head)} |", f"| --- | --- |{' --- |' * len(runs)}"]
    for variant in VARIANTS:
        if (variant.objective, variant.training_batch) != (objective, batch):
            continue
        cells = [variant.estimator, "yes" if variant.length_invariant else "no"]
        for run in runs:
            row = _row(run, variant)
            cells.append(f"{row.ratio:.2g}, {row.sign:.0%}, r {row.correlation:.2f}")
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def _radius(run: Compared) -> str:
    if isinstance(run.radius, float):
        return f"rho {run.radius:g}"
    return f"learned, {run.rho[0]:.2g} → {run.rho[-1]:.2g}"


def _quality(runs: Sequence[Compared]) -> Figure:
    """The three numbers over the fixed radii; with the projection solid, without it dashed."""
    fixed = [run for run in runs if isinstance(run.radius, float)]
    radii = [run.rho[0] for run in fixed]
    figure = Figure(figsize=(10.5, 3.3), layout="constrained")
    panels = figure.subplots(1, 3)
    for name, colour in COLOURS.items():
        for projected in (True, False):
            rows = [_row(run, replace(CURVES, estimator=name, length_invariant=projected)) for run in fixed]
            style = {"color": colour, "ls": "-" if projected else "--", "marker": "o", "ms": 4}
            label = name if projected else None
            panels[0].loglog(radii, [row.ratio for row in rows], label=label, **style)
            panels[1].semilogx(radii, [100 * row.sign for row in rows], **style)
            panels[2].semilogx(radii, [row.correlation for row in rows], **style)
    titles = ("size: estimate / exact", "equal signs (%)", "correlation")
    for axes, title, ideal in zip(panels, titles, (1, 100, 1), strict=True):
        axes.axhline(ideal, color="#010203", lw=0.8, alpha=0.4)
        axes.set_title(title, fontsize=9)
        axes.set_xlabel("rho", fontsize=8)
        axes.set_xticks(radii, [f"{rho:g}" for rho in radii])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].legend(frameon=False, fontsize=8)
    figure.suptitle("Objective validation_loss; solid: length invariant, dashed: not", fontsize=9)
    return figure


def _curves(runs: Sequence[Compared]) -> Figure:
    """The hypergradient of each compared step: exact, secant and finite difference."""
    figure = Figure(figsize=(10.5, 5.2), layout="constrained")
    for axes, run in zip(figure.subplots(2, 3).flat, runs, strict=False):
        steps = [i * EVERY for i in range(len(run.rho))]
        axes.axhline(0, color="#010203", lw=0.6, alpha=0.4)
        axes.plot(steps, run.curves["exact"], color="#010203", lw=2.4, alpha=0.35, label="exact")
        axes.plot(steps, run.curves["secant"], color=COLOURS["secant"], lw=1.2, label="secant")
        finite = run.curves["finite_difference"]
        axes.plot(steps, finite, color=COLOURS["finite_difference"], lw=0, marker=".", ms=4, label="finite difference")
        axes.set_title(_radius(run), fontsize=9)
        axes.tick_params(labelsize=7)
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].legend(frameon=False, fontsize=7)
    figure.supxlabel("step", fontsize=8)
    figure.suptitle("d validation loss / d rho, length invariant", fontsize=9)
    return figure
