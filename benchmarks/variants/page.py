"""docs/variants.md, from docs/evidence/variants.json and the registry alone. No sentence here knows a result."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.variants.record import PLACES, ROOT, SEEDS, Row
from letsam.results import write_atomically
from letsam.training.methods import REFIT
from letsam.variants import VARIANTS

PAGE = ROOT / "docs" / "variants.md"
YARDSTICK = "sam"

INTRODUCTION = """\
# The SAM family

Every variant is a perturbation (`letsam.perturbations`), with any radius, fixed, scheduled or learned, and any base
optimizer: `letsam.GSAM(base, rho=letsam.LearnedRadius(0.05), alpha=0.4)`. What a variant does, its options and its
paper's equations stand in the class named.

`passes` are training passes a step; `copies` are those of the weights that are held beyond the base optimizer's state
and the copy of it that undoes a step. A learned radius adds a copy, and a validation pass where it is updated.
`letsam methods` prints the same.

"""
OWN = """\
## One of one's own

[`examples/custom_variant.py`](../examples/custom_variant.py) is one in under 30 lines. A subclass of
`letsam.perturbations.Perturbation` overrides what it changes: `direction` (which way to climb), `descent` (which
gradient to descend with) and, if it overrides that one, `descent_derivative`, through which a learned radius sees it.
What it remembers from step to step goes into the `memory` of a
`letsam.perturbations.PerturbationWithMemory`, and a skipped step undoes it.

## Learned through the variant's own update

The hypergradient is that of the variant's own step, theta'(rho) = base(theta, D(g_rho)) - lr S(g_rho), with D its
descent rule and S what descends past the base optimizer (WSAM alone). The direction eps_hat is held fixed, as in LETS.
Where only some steps climb (LookSAM, AE-SAM), an update waits for one that does; what such a step leaves to later ones
(LookSAM's g_v) is beyond the one-step objective. With `hypergradient="finite_difference"` it agrees with central
differences of the true one-step objective to 2e-6 in float64, for every variant (`tests/contract/test_variants.py`).

The estimators without a further pass, on digits in float64: median relative error, and the share of equal signs in
brackets, at three radii.

```
python -m benchmarks.variants errors
```

"""
COMPARISON = f"""\
## Compared

Test accuracy in percent, mean over {SEEDS} seeds; fixed at the default radius, learned from the same start and trained
again on all data (`+refit`). Passes and seconds are relative to SAM with a fixed radius on the same setting; those of
`learned` include both trainings. One radius is no tuned radius: the columns compare fixed with learned, less so
variants with each other. SAM-ON needs normalisation layers, which only the last setting's network has.

```
python -m benchmarks.variants run --jobs 2     # resumable
python -m benchmarks.variants table            # this page
```

"""
EMPTY = "Not measured yet.\n\n"


def make(rows: Sequence[Row], errors: Sequence[dict[str, Any]], path: Path | None = None) -> None:
    """Write the page."""
    parts = [INTRODUCTION, _list(), OWN, _errors(errors), COMPARISON, *(_comparison(rows, name) for name in PLACES)]
    write_atomically(path or PAGE, "".join(parts).rstrip() + "\n")


def _table(head: Sequence[str], lines: Sequence[Sequence[str]], numbers: int) -> str:
    rule = ["---"] * (len(head) - numbers) + ["---:"] * numbers
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, rule, *lines)) + "\n\n"


def _list() -> str:
    lines = [
        (
            f"`{name}`",
            f"`letsam.{kind.__name__}`",
            kind.facts.title.partition(": ")[2],
            f"[{kind.facts.paper}](https://arxiv.org/abs/{kind.facts.paper.removeprefix('arXiv:')})",
            f"`{kind.made_of.__module__.removeprefix('letsam.')}`",
            kind.facts.passes,
            str(kind.facts.copies),
            kind.facts.learned,
        )
        for name, kind in VARIANTS.items()
    ]
    return _table(("method", "class", "what", "paper", "told in", "passes", "copies", "learned radius"), lines, 0)


def _errors(errors: Sequence[dict[str, Any]]) -> str:
    if not errors:
        return EMPTY
    radii = sorted({error["rho"] for error in errors})
    estimators = [name for name in ("secant", "diagonal") if name in errors[0]]
    head = ["variant", *(f"{name}, rho {rho:g}" for name in estimators for rho in radii)]
    by_place = {(error["variant"], error["rho"]): error for error in errors}
    lines = [
        [variant, *(_error(by_place.get((variant, rho)), name) for name in estimators for rho in radii)]
        for variant in dict.fromkeys(error["variant"] for error in errors)
    ]
    return _table(head, lines, len(head) - 1)


def _error(error: dict[str, Any] | None, estimator: str) -> str:
    return "" if error is None else f"{error[estimator]['error']:.2g} ({error[estimator]['signs']:.2f})"


def _comparison(rows: Sequence[Row], setting: str) -> str:
    found = [row for row in rows if row.setting == setting]
    title = f"### {setting}\n\n"
    if not found:
        return title + EMPTY
    by_method: dict[str, list[Row]] = {}
    for row in found:
        by_method.setdefault(row.method, []).append(row)
    yardstick = [row for row in by_method.get(YARDSTICK, []) if row.hindered is None]
    head = ("variant", "fixed", "passes", "seconds", "learned", "passes", "seconds", "final rho")
    lines: list[list[str]] = []
    for name in ("sgd", *VARIANTS):
        fixed, learned = by_method.get(name, []), by_method.get(f"lets-{name}{REFIT}", [])
        if fixed or learned:
            lines.append([name, *_cells(fixed, yardstick), *_cells(learned, yardstick), _radius(learned)])
    return title + _table(head, lines, len(head) - 1) + _difference(by_method) + _left_out(found)


def _difference(by_method: dict[str, list[Row]]) -> str:
    """What learning has changed, over all variants."""
    found: dict[str, float] = {}
    for name in VARIANTS:
        fixed, learned = (
            [100 * row.accuracy for row in by_method.get(method, []) if row.hindered is None]
            for method in (name, f"lets-{name}{REFIT}")
        )
        if fixed and learned:
            found[name] = statistics.fmean(learned) - statistics.fmean(fixed)
    if not found:
        return ""
    least, most = min(found, key=found.__getitem__), max(found, key=found.__getitem__)
    above = sum(value > 0 for value in found.values())
    return (
        f"Learned minus fixed: {found[least]:+.1f} (`{least}`) to {found[most]:+.1f} (`{most}`) points, above 0 for "
        f"{above} of {len(found)} variants.\n\n"
    )


def _left_out(rows: Sequence[Row]) -> str:
    reasons: dict[str, dict[str, None]] = {}
    for row in rows:
        if row.hindered:
            reasons.setdefault(row.hindered, {})[row.method.removesuffix(REFIT)] = None
    return "".join(f"Left out: {', '.join(methods)}: {reason}.\n\n" for reason, methods in reasons.items())


def _cells(rows: Sequence[Row], yardstick: Sequence[Row]) -> tuple[str, str, str]:
    rows = [row for row in rows if row.hindered is None]
    if not rows or not yardstick:
        return "-", "-", "-"
    accuracy = [100 * row.accuracy for row in rows]
    spread = f" ± {statistics.stdev(accuracy):.1f}" if len(accuracy) > 1 else ""
    shares = [
        statistics.fmean(getattr(row, what) for row in rows) / statistics.fmean(getattr(row, what) for row in yardstick)
        for what in ("passes", "seconds")
    ]
    return f"{statistics.fmean(accuracy):.1f}{spread}", f"{shares[0]:.2f}", f"{shares[1]:.2f}"


def _radius(rows: Sequence[Row]) -> str:
    radii = [row.rho for row in rows if row.rho is not None]
    return f"{statistics.geometric_mean(radii):.2g}" if radii else "-"
