"""docs/search.md, from docs/evidence/search.json alone. No sentence here knows a result."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean

from benchmarks.search import record
from benchmarks.search.claims import ACCURACY, CLAIMS, RADIUS, SPREAD, Answer, Claim, answer, values
from benchmarks.search.ideas import IDEAS
from benchmarks.search.record import GRID, Row
from benchmarks.search.settings import SETTINGS
from letsam.results import write_atomically

PAGE = Path(__file__).resolve().parents[2] / "docs" / "search.md"

INTRODUCTION = """\
# The search: which ideas for the learned radius were tried

`LearnedRadius` has a prior, a burn-in, cosines in the place of slopes and length invariance. This page shows what each
of them gives and what was tried beside them; it is made from [evidence/search.json](evidence/search.json).

```
python -m benchmarks.search run      # some twelve minutes on one thread; resumable; --again NAME measures afresh
python -m benchmarks.search table    # this page
```

The prior and its two weights were chosen on the settings of the [evidence](evidence.md), where convolutional networks
with wrong labels lose most from a radius that falls early. On these small perceptrons a lighter prior is as good, on
the deep one better.

How it is measured:

- **Ideas**: each is the default with one thing changed, or, as its name says, an earlier form of it
  ([ideas](../benchmarks/search/ideas.py)). The rule is the library's own, run on all replicas at once; a test compares
  radii and weights with those of `letsam.SAM`.
- **Settings**: multilayer perceptrons, SAM on SGD; the number is the share of wrong training labels. `digits`: all
  1,000 training images, 2 x 128 units, 60 epochs, seeds 0 to 2. `fashion`: 2,000 images of Fashion-MNIST at 14 x 14,
  2 x 128 units, 30 epochs, seeds 0 and 1, 4,000 test images. `deep`: the same data, 5 x 64 units, which do not start to
  train under a large radius. Not every idea was tried everywhere.
- **Accuracy**: the radius is learned with a tenth of the data held out, from 0.01 and from 1; the network is then
  trained on all data with the learned schedule. Test accuracy, mean over seeds and starts.
- **Yardstick**: the best of SGD and SAM with 4 fixed radii, chosen on the test data, with the same seeds.

The settings are small and few, and the same test data chose among the ideas: read differences of some tenths as none.
"""


def make() -> None:
    """Write the page."""
    rows = record.read()
    parts = [
        INTRODUCTION,
        "## The yardstick\n\nTest accuracy in percent, mean over seeds.\n\n" + _grid(rows),
        "## The ideas\n\n"
        "Accuracy less that of the best of the yardstick, in points; in brackets the difference between the two\n"
        "starts, mean over seeds. `mean`: over the settings, for the ideas that were tried in all. `kept`: the\n"
        "default; `argument`: not the default, but left to choose; `dropped`: no argument of `LearnedRadius`.\n\n"
        + _ideas(rows),
        "## The radii\n\nRadius at half of the run, from the start 0.01 / from 1; geometric mean over seeds.\n\n"
        + _radii(rows),
        "## What was learned\n\n"
        "The claims come from earlier and rougher trials; here they are put to the record. `seen`: all seeds go that\n"
        "way in all settings named; `seen in part`: in some of them; `not seen`: in none. In brackets how many seeds\n"
        "do. Points of accuracy, or the factor of the radius (there the two starts are counted), against the default\n"
        "where nothing else is said.\n\n" + _claims(rows),
    ]
    write_atomically(PAGE, "\n".join(parts))


def _measured(rows: Sequence[Row]) -> list[str]:
    return [name for name in SETTINGS if any(row.setting == name for row in rows)]


def _table(
    first: Sequence[str], rows: Sequence[Row], lines: Sequence[tuple[str, Sequence[str]]], cell: Callable[[Row], str]
) -> str:
    """A line a name, a column a setting; empty where it was not tried."""
    settings = _measured(rows)
    by_place = {(row.setting, row.name): row for row in rows}
    out = ["| " + " | ".join([*first, *settings]) + " |"]
    out.append("| " + " | ".join([*["---"] * len(first), *["---:"] * len(settings)]) + " |")
    for name, before in lines:
        found = [by_place.get((setting, name)) for setting in settings]
        if any(found):
            out.append("| " + " | ".join([name, *before, *(cell(row) if row else "" for row in found)]) + " |")
    return "\n".join(out) + "\n"


def _grid(rows: Sequence[Row]) -> str:
    return _table(["method"], rows, [(name, ()) for name in GRID], lambda row: f"{_accuracy(row):.1f}")


def _ideas(rows: Sequence[Row]) -> str:
    best = {
        setting: max(_accuracy(row) for row in rows if row.setting == setting and row.name in GRID)
        for setting in _measured(rows)
    }

    def cell(row: Row) -> str:
        return f"{_accuracy(row) - best[row.setting]:+.1f} ({fmean(values(row, SPREAD)):.1f})"

    def mean(name: str) -> str:
        found = [_accuracy(row) - best[row.setting] for row in rows if row.name == name]
        return f"{fmean(found):+.1f}" if len(found) == len(best) else ""

    lines = [(idea.name, (idea.predicts, idea.decision, mean(idea.name))) for idea in IDEAS]
    table = _table(["idea", "what it predicts", "decision", "mean"], rows, lines, cell)
    means = {idea.name: float(mean(idea.name)) for idea in IDEAS if mean(idea.name)}
    top = max(means, key=lambda name: means[name])
    return f"{table}\nThe highest mean has *{top}* ({means[top]:+.1f}).\n"


def _radii(rows: Sequence[Row]) -> str:
    def cell(row: Row) -> str:
        return " / ".join(f"{rho:.2g}" for rho in values(row, RADIUS))

    return _table(["idea"], rows, [(idea.name, ()) for idea in IDEAS], cell)


def _claims(rows: Sequence[Row]) -> str:
    lines: list[str] = []
    for claim in CLAIMS:
        answers = answer(claim, rows)
        if answers:
            numbers = "; ".join(_one(claim, one) for one in answers)
            than = "" if claim.than == "default" else f", against *{claim.than}*"
            lines.append(f"- **{claim.text}**: {_verdict(answers)} ({claim.measure}{than}). {numbers}.")
    return "\n".join(lines) + "\n"


def _verdict(answers: Sequence[Answer]) -> str:
    seen = [one.seen for one in answers]
    if all(seen):
        return "seen"
    return "seen in part" if any(seen) else "not seen"


def _one(claim: Claim, one: Answer) -> str:
    change = f"x{one.change:.2f}" if claim.measure == RADIUS else f"{one.change:+.1f}"
    return f"{one.setting} {change} ({one.agree} of {one.count})"


def _accuracy(row: Row) -> float:
    return fmean(values(row, ACCURACY))
