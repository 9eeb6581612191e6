"""docs/speed.md and its figures, from docs/evidence/speed.json alone. No sentence here knows a result."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.speed import beside, figures, forward, growth, messages, parts, passes, scaling, slopes, whole
from benchmarks.speed.measure import ROUNDS
from benchmarks.speed.turns import Rows
from letsam.results import write_atomically

ROOT = Path(__file__).resolve().parents[2]
RECORD = ROOT / "docs" / "evidence" / "speed.json"
PAGE = ROOT / "docs" / "speed.md"
IMAGES = ROOT / "docs" / "images"

INTRODUCTION = """\
# Speed: what a step costs

Two forward and backward passes are the price of SAM. This page measures whole steps, and everything of a step that is
not a pass: the ascent, the way back, the base optimizer. It is made from [evidence/speed.json](evidence/speed.json).

```
python -m benchmarks.speed run              # a quarter of an hour on one idle thread; resumable
python -m benchmarks.speed run --again whole    # one part once more; the parts are named at each section
python -m benchmarks.speed table            # this page
```

Times are processor time on one CPU thread, so that other work on the machine counts less, and the contenders take
turns; milliseconds are medians, and ratios are medians of the ratios of each round. The machine was busy: trust the
ratios, not the milliseconds. Nothing here has been run on a GPU.
"""


def read() -> dict[str, Rows]:
    """What is measured, by name."""
    return json.loads(RECORD.read_text(encoding="utf-8"))["workloads"] if RECORD.exists() else {}


def write(found: dict[str, Rows]) -> None:
    """Save, numbers with 4 digits, counts with all."""
    lines = []
    for name in [name for name in parts.ALL if name in found]:
        rows = ",\n   ".join(
            f"{json.dumps(contender)}: {json.dumps({key: _rounded(value) for key, value in row.items()})}"
            for contender, row in found[name].items()
        )
        lines.append(f"  {json.dumps(name)}: {{\n   {rows}}}")
    write_atomically(RECORD, '{\n "schema": 1,\n "workloads": {\n' + ",\n".join(lines) + "\n }\n}\n")


def make() -> None:
    """Write the page and its figures."""
    found = read()

    def of(names: dict[str, object]) -> dict[str, Rows]:
        return {name: found[name] for name in names if name in found}

    steps, weights = of({**whole.ALL}), of({**scaling.ALL})
    figures.beside(of({**parts.BESIDE})).savefig(IMAGES / "speed.png", dpi=110)
    figures.steps(steps).savefig(IMAGES / "speed-steps.png", dpi=110)
    figures.growth(weights).savefig(IMAGES / "speed-growth.png", dpi=110)
    sections = [
        INTRODUCTION,
        passes.section(steps),
        slopes.section(of({**forward.ALL})),
        beside.section(of({**parts.BESIDE}), ROUNDS),
        growth.section(weights),
        growth.messages(of({**messages.ALL})),
    ]
    write_atomically(PAGE, "\n".join(sections))


def _rounded(value: float) -> float:
    return value if isinstance(value, int) else float(f"{value:.4g}")
