"""docs/flatness.md and its figures, from docs/evidence/flatness.json alone. No sentence here knows a result."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.stats import rankdata

from benchmarks.flatness.measure import DIRECTIONS, RADII, SETTINGS, Measured
from letsam.results import write_atomically

ROOT = Path(__file__).resolve().parents[2]
RECORD = ROOT / "docs" / "evidence" / "flatness.json"
PAGE = ROOT / "docs" / "flatness.md"
IMAGES = ROOT / "docs" / "images"

SHOWN_RADII = (0.05, 0.2, 1.0)
COLOURS = ("#808894", "#7cc4f2", "#1c63b0", "#e0600d")  # SGD, two SAMs, the learned radius: as in the reports


def _ascent(rho: float) -> Callable[[Measured], float]:
    index = RADII.index(rho)
    return lambda run: run.ascent[index]


MEASURES: dict[str, Callable[[Measured], float]] = {
    "top eigenvalue": lambda run: run.eigenvalue,
    "trace": lambda run: run.trace,
    **{f"ascent {rho}": _ascent(rho) for rho in SHOWN_RADII},
}

INTRODUCTION = """\
# Flatness: what the methods find, and whether it matters

SAM is motivated by flat minima. Are the solutions flat, and is the flatter one the better one? This page measures it on
what `letsam trial` trains, good and bad; it is made from [evidence/flatness.json](evidence/flatness.json).

```
python -m benchmarks.flatness run      # some five minutes on one thread; resumable; --again measures afresh
python -m benchmarks.flatness table    # this page
```

How it is measured, with `letsam.sharpness`, on training samples (wrong labels included) that all methods trained on:

- **top eigenvalue, trace**: of the Hessian of the training loss (`hessian_spectrum`: Lanczos and Hutch++).
- **ascent rho**: how much the training loss rises over one step of length rho uphill (`ascent_sharpness`), the quantity
  that SAM itself keeps low at its own radius.
- **slice**: the training loss along {directions} random directions, filter-normalized (`landscape_slice`), averaged.

Read with care. Curvature of a cross-entropy falls on its own where the loss is near 0 (training samples fitted with
confidence) and where nothing is fitted, so a small eigenvalue is no merit by itself; the training loss stands beside
it. Neither eigenvalue nor trace survives a rescaling of the weights that leaves the function as it is (Dinh et al.,
arXiv:1703.04933). The learned radius trains on a tenth less data here (held out, no refit).
"""


def read() -> list[Measured]:
    """The runs that are finished; none where there is no record yet."""
    if not RECORD.exists():
        return []
    return [Measured(**fields) for fields in json.loads(RECORD.read_text(encoding="utf-8"))["runs"]]


def write(runs: Sequence[Measured]) -> None:
    """Save the runs in the order of `SETTINGS`, one a line."""
    order = {(n, m): i for i, (n, m) in enumerate((n, m) for n, s in SETTINGS.items() for m in s.methods)}
    rows = sorted(runs, key=lambda run: (order.get((run.setting, run.method), -1), run.seed))
    lines = ",\n  ".join(json.dumps(run.as_json()) for run in rows)
    text = f'{{\n "schema": 1,\n "radii": {json.dumps(RADII)},\n "runs": [\n  {lines}\n ]\n}}\n'
    write_atomically(RECORD, text)


def make() -> None:
    """Write the page and its figures."""
    runs = read()
    parts = [INTRODUCTION.format(directions=DIRECTIONS), _findings(runs)]
    for name in _settings(runs):
        mine = [run for run in runs if run.setting == name]
        image = IMAGES / f"flatness-{name}.png"
        _figure(name, mine).savefig(image, dpi=110)
        picture = f"![Loss slice and ascent sharpness, {name}](images/{image.name})"
        parts.append(f"## {_title(name, mine[0].epochs)}\n\n{_table(mine)}\n\n{picture}\n")
    write_atomically(PAGE, "\n".join(parts))


def _settings(runs: Sequence[Measured]) -> list[str]:
    return [name for name in SETTINGS if any(run.setting == name for run in runs)]


def _title(name: str, epochs: int) -> str:
    setting = SETTINGS[name]
    size = f", {setting.train_size:,} labels" if setting.train_size else ""
    return f"{setting.task}{size}, {setting.label_noise:.0%} label noise, {epochs} epochs"


def _methods(runs: Sequence[Measured]) -> list[str]:
    return list(dict.fromkeys(run.method for run in runs))


def _mean(runs: Sequence[Measured], method: str, measure: Callable[[Measured], float]) -> float:
    return statistics.fmean(measure(run) for run in runs if run.method == method)


def _findings(runs: Sequence[Measured]) -> str:
    """Which method is flattest, which is best, and how the two orders go together over all runs."""
    rows = [
        "## Does flatter mean better here?",
        "",
        "Rank correlation of each measure with the test accuracy, over the runs of a setting: -1 where flatter is",
        "always better, 0 where it says nothing, above 0 where the flatter run is the worse one. Few runs: read the",
        "sign, not the digits. Part of any correlation is the training loss: what fits less is often flatter.",
        "",
        f"| setting | runs | {' | '.join(MEASURES)} | flattest (eigenvalue) | most accurate |",
        f"| --- | ---: | {' | '.join('---:' for _ in MEASURES)} | --- | --- |",
    ]
    for name in _settings(runs):
        mine = [run for run in runs if run.setting == name]
        methods = _methods(mine)
        flattest = min(methods, key=lambda m: _mean(mine, m, lambda run: run.eigenvalue))
        best = max(methods, key=lambda m: _mean(mine, m, lambda run: run.test_accuracy))
        accuracy = [run.test_accuracy for run in mine]
        signs = [f"{rank_correlation([measure(r) for r in mine], accuracy):+.2f}" for measure in MEASURES.values()]
        rows.append(f"| {name} | {len(mine)} | {' | '.join(signs)} | `{flattest}` | `{best}` |")
    return "\n".join(rows) + "\n"


def rank_correlation(left: Sequence[float], right: Sequence[float]) -> float:
    """Spearman's: Pearson's correlation of the ranks; 0 where one side is constant."""
    try:
        return statistics.correlation(list(rankdata(left)), list(rankdata(right)))
    except statistics.StatisticsError:
        return 0.0


def _table(runs: Sequence[Measured]) -> str:
    head = ("method", "seeds", "test accuracy %", "train loss", "final rho", *MEASURES)
    rows = [f"| {' | '.join(head)} |", f"| --- |{' ---: |' * (len(head) - 1)}"]
    for method in _methods(runs):
        mine = [run for run in runs if run.method == method]
        radii = [run.rho_final for run in mine if run.rho_final is not None]
        cells = [
            f"`{method}`",
            str(len(mine)),
            _spread([100 * run.test_accuracy for run in mine]),
            f"{statistics.fmean(run.train_loss for run in mine):.3g}",
            f"{statistics.fmean(radii):.3g}" if radii else "",
            *(_spread([measure(run) for run in mine]) for measure in MEASURES.values()),
        ]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def _spread(values: Sequence[float]) -> str:
    """Mean and sample standard deviation."""
    deviation = f" ± {statistics.stdev(values):.2g}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.3g}{deviation}"


def _figure(name: str, runs: Sequence[Measured]) -> Figure:
    """The slice, its rise above the middle, and ascent sharpness over radii."""
    figure = Figure(figsize=(10.5, 3.4), layout="constrained")
    whole, rise, ascent = figure.subplots(1, 3)
    points = len(runs[0].slice)
    offsets = [2 * i / (points - 1) - 1 for i in range(points)]
    for method, colour in zip(_methods(runs), COLOURS, strict=False):
        mine = [run for run in runs if run.method == method]
        losses = [statistics.fmean(column) for column in zip(*(run.slice for run in mine), strict=True)]
        line = {"color": colour, "label": method, "lw": 2.2 if method.startswith("lets") else 1.5}
        whole.plot(offsets, losses, **line)
        rise.plot(offsets, [loss - losses[points // 2] for loss in losses], **line)
        means = [statistics.fmean(column) for column in zip(*(run.ascent for run in mine), strict=True)]
        ascent.loglog(RADII, means, **line)
    _dress(whole, "training loss along random directions", "offset (1: every filter's own length)")
    _dress(rise, "its rise above the middle", "offset")
    _dress(ascent, "ascent sharpness", "rho")
    whole.legend(frameon=False, fontsize=8)
    figure.suptitle(_title(name, runs[0].epochs), fontsize=10)
    return figure


def _dress(axes: Axes, title: str, along: str) -> None:
    axes.set_title(title, fontsize=9)
    axes.set_xlabel(along, fontsize=8)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
