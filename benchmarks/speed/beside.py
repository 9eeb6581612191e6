"""The section on a step without its passes."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from benchmarks.speed.contenders import CONTENDERS, LEARNED, PARTS
from benchmarks.speed.table import table
from benchmarks.speed.turns import Rows

PEERS = [name for name in CONTENDERS if name not in ("SGD alone", "letsam")]
COLUMNS = ["SGD alone", "letsam", *LEARNED, *PEERS]
TEXT = """\
## A step without its passes

`python -m benchmarks.speed run few-large many-small`

- **What is timed**: one whole step, whose closures put gradients in place that were computed before. Base optimizer of
  all: SGD with momentum, by `foreach`; `SGD alone` is its share. {rounds} rounds. In a cell stand the median in
  milliseconds and the median ratio to letsam's step of the same round.
- **Only letsam checks** that a step is finite, and can undo it; this is in its times, operators and memory.
- **Only letsam keeps its copies**: the peers make them anew in every step. Where they are large, the kernel then hands
  out its pages again, which is most of the difference in "few large" with float32, and varies between machines.
- **letsam, learned**: the same with `LearnedRadius(interval=1)`, whose step is another one than the peers': it has a
  third pass, and keeps the curvature along the ascent.
- **Precision**: letsam makes its norms of bf16 gradients in float32, which the CPU does in one more pass over them; a
  peer's norm is rounded to bf16. ASAM takes two norms, of the gradient and of the scaled one, and that is what its bf16
  step loses on the loop.
- **Operators**: dispatched by PyTorch in one step, without views and without those of SGD. The goals hold for the 161
  weights of a ResNet-50, and `tests/step/test_cost.py` counts: ascent and way back, at most 12 for SAM (9) and 16 for
  ASAM (13), met; with a learned radius, update included, at most 24: met by those that work on weights (20), missed by
  all of them (95 in the first 25 steps, which measure the curvature, then 82, after the burn-in 77), because slope,
  moments, prior and bounds are worked out on the device, an operator for each sum or product of single numbers, and a
  host that did it would have to wait for the device.
- **Copies**: the most memory beyond weights, gradients and SGD's momentum, temporary tensors included, in copies of the
  weights. letsam's are the weights and, for undoing, the momentum; with a base optimizer without state it is one copy
  (`tests/step/test_cost.py`). A learned radius has one more, Z; with many small weights in bf16 2.6 more, for its sums.
- **The peers**: `pytorch_optimizer` 4.1.0 and `sam-pytorch` 0.0.1 from PyPI (the latter has no ASAM), and the published
  algorithm written out as a loop over the weights.

"few large" are 8 matrices of 2048 x 1024, "many small" 2,000 of 16 x 16.

![Time of a step relative to letsam's](images/speed.png)
"""
PROTECTION = """\
Two parts of letsam's step that no peer has, timed alone in the same rounds, with their shares of letsam's step. A
finite step copies no state: that it could be undone takes two operators which look at a flag on the device.
"""


def section(found: dict[str, Rows], rounds: int) -> str:
    """Who is faster, and the tables."""
    return "\n".join(
        [
            TEXT.format(rounds=rounds),
            _summary(found),
            f"### Time\n\n{_table(found, _time)}\n",
            f"### What it costs to check and to undo\n\n{PROTECTION}\n{_table(found, _time, PARTS)}\n",
            f"### Operators\n\n{_table(found, _operators)}\n",
            f"### Memory, in copies of the weights\n\n{_table(found, _copies)}\n",
        ]
    )


def _time(row: dict[str, float]) -> str:
    return f"{row['ms']:.3g} ({row['ratio']:.2f})"


def _operators(row: dict[str, float]) -> str:
    return f"{row['operators']:,.0f}"


def _copies(row: dict[str, float]) -> str:
    return f"{row['copies']:.2f}"


def _summary(found: dict[str, Rows]) -> str:
    """Where letsam is not the fastest, as measured."""
    slower = [
        f"- {name}: `{peer}` takes {row['ratio']:.2f} times as long as letsam"
        for name, rows in found.items()
        for peer, row in rows.items()
        if peer in PEERS and row["ratio"] < 1
    ]
    first = len(found) - len({line.split(":")[0] for line in slower})
    head = f"letsam has the shortest step in {first} of {len(found)} workloads."
    return "\n".join([f"{head} The others:\n" if slower else head, *slower]) + "\n"


def _table(found: dict[str, Rows], cell: Callable[[dict[str, float]], str], columns: Iterable[str] = COLUMNS) -> str:
    columns = list(columns)
    rows = [[name, *(cell(rows[one]) if one in rows else "" for one in columns)] for name, rows in found.items()]
    return table(["workload", *columns], rows)
