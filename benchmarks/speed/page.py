"""docs/speed.md and its figure, from docs/evidence/speed.json alone. No sentence here knows a result."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from benchmarks.speed.contenders import CONTENDERS, PARTS
from benchmarks.speed.measure import ALL, ROUNDS
from letsam.results import write_atomically

ROOT = Path(__file__).resolve().parents[2]
RECORD = ROOT / "docs" / "evidence" / "speed.json"
PAGE = ROOT / "docs" / "speed.md"
IMAGES = ROOT / "docs" / "images"
PEERS = [name for name in CONTENDERS if name != "SGD alone"]
COLOURS = ("#e0600d", "#808894", "#7cc4f2", "#1c63b0", "#12a37a")

INTRODUCTION = """\
# Speed: what a step costs beside its passes

Two forward and backward passes are the price of SAM. This page measures everything else of a step: the ascent, the way
back, the base optimizer. It is made from [evidence/speed.json](evidence/speed.json).

```
python -m benchmarks.speed run      # some minutes on one idle thread; resumable; --again measures afresh
python -m benchmarks.speed table    # this page
```

- **What is timed**: one whole step, whose closures put gradients in place that were computed before. Base optimizer of
  all: SGD with momentum, by `foreach`; `SGD alone` is its share. The contenders take turns, {rounds} rounds on one CPU
  thread. In a cell stand the median in milliseconds of processor time (so that other work on the machine counts less)
  and the median ratio to letsam's step of the same round. The machine was busy: trust the ratios, not the milliseconds.
- **Only letsam checks** that a step is finite, and can undo it; this is in its times, operators and memory.
- **Operators**: dispatched by PyTorch in one step, without views and without those of SGD.
- **Copies**: the most memory beyond weights, gradients and SGD's momentum, temporary tensors included, in copies of the
  weights. letsam's are the weights and, for undoing, the momentum; with a base optimizer without state it is one copy
  (`tests/unit/test_cost.py`).
- **The peers**: `pytorch_optimizer` 4.1.0 and `sam-pytorch` 0.0.1 from PyPI (the latter has no ASAM), and the published
  algorithm written out as a loop over the weights. Nothing here has been run on a GPU.

"few large" are 8 matrices of 2048 x 1024, "many small" 2,000 of 16 x 16.
"""

PROTECTION = """\
Two parts of letsam's step that no peer has, timed alone in the same rounds, with their shares of letsam's step. In low
precision the norms are made in float32, which the CPU does slowly; a peer's norm has the precision of the weights.
"""


def read() -> dict[str, dict[str, Any]]:
    """What is measured, by workload."""
    return json.loads(RECORD.read_text(encoding="utf-8"))["workloads"] if RECORD.exists() else {}


def write(found: dict[str, dict[str, Any]]) -> None:
    """Save, numbers with 4 digits."""
    lines = []
    for name in [name for name in ALL if name in found]:
        rows = ",\n   ".join(
            f"{json.dumps(contender)}: {json.dumps({key: float(f'{value:.4g}') for key, value in row.items()})}"
            for contender, row in found[name].items()
        )
        lines.append(f"  {json.dumps(name)}: {{\n   {rows}}}")
    write_atomically(RECORD, '{\n "schema": 1,\n "workloads": {\n' + ",\n".join(lines) + "\n }\n}\n")


def make() -> None:
    """Write the page and its figure."""
    found = read()
    _figure(found).savefig(IMAGES / "speed.png", dpi=110)
    parts = [
        INTRODUCTION.format(rounds=ROUNDS),
        "![Time of a step relative to letsam's](images/speed.png)\n",
        _summary(found),
        f"## Time\n\n{_table(found, _time)}\n",
        f"## What it costs to check and to undo\n\n{PROTECTION}\n{_table(found, _time, PARTS)}\n",
        f"## Operators\n\n{_table(found, _operators)}\n",
        f"## Memory, in copies of the weights\n\n{_table(found, _copies)}",
    ]
    write_atomically(PAGE, "\n".join(parts) + "\n")


def _time(row: dict[str, float]) -> str:
    return f"{row['ms']:.3g} ({row['ratio']:.2f})"


def _operators(row: dict[str, float]) -> str:
    return f"{row['operators']:,.0f}"


def _copies(row: dict[str, float]) -> str:
    return f"{row['copies']:.2f}"


def _summary(found: dict[str, dict[str, Any]]) -> str:
    """Where letsam is not the fastest, as measured."""
    slower = [
        f"- {name}: `{peer}` takes {row['ratio']:.2f} times as long as letsam"
        for name, rows in found.items()
        for peer, row in rows.items()
        if peer in PEERS[1:] and row["ratio"] < 1
    ]
    first = len(found) - len({line.split(":")[0] for line in slower})
    head = f"letsam has the shortest step in {first} of {len(found)} workloads."
    return "\n".join([f"{head} The others:\n" if slower else head, *slower]) + "\n"


def _table(
    found: dict[str, dict[str, Any]], cell: Callable[[dict[str, float]], str], columns: Iterable[str] = CONTENDERS
) -> str:
    columns = list(columns)
    rows = [f"| workload | {' | '.join(columns)} |", f"| --- |{' ---: |' * len(columns)}"]
    for name, measured in found.items():
        cells = [cell(measured[one]) if one in measured else "" for one in columns]
        rows.append(f"| {' | '.join([name, *cells])} |")
    return "\n".join(rows)


def _figure(found: dict[str, dict[str, Any]]) -> Figure:
    """The ratio to letsam's time, a group of bars for each workload."""
    figure = Figure(figsize=(10.5, 3.8), layout="constrained")
    axes = figure.subplots()
    width = 0.8 / len(PEERS)
    for i, (peer, colour) in enumerate(zip(PEERS, COLOURS, strict=True)):
        places = [(x + (i - 2) * width, rows[peer]["ratio"]) for x, rows in enumerate(found.values()) if peer in rows]
        axes.bar([x for x, _ in places], [ratio for _, ratio in places], width, color=colour, label=peer)
    axes.axhline(1, color="#010203", lw=0.8, alpha=0.4)
    axes.set_xticks(range(len(found)), [name.replace("/", "\n") for name in found], fontsize=7)
    axes.set_ylabel("time of a step / letsam's", fontsize=8)
    axes.tick_params(axis="y", labelsize=7)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=7, ncols=len(PEERS))
    return figure
