"""The sections on many weights and on several processes."""

from __future__ import annotations

from benchmarks.speed.messages import WIDTHS, numbers
from benchmarks.speed.scaling import CONTENDERS, NUMBERS, ROUNDS, TENSORS
from benchmarks.speed.table import table
from benchmarks.speed.turns import Rows

WEIGHTS = """\
## As the weights grow

`python -m benchmarks.speed run weights tensors`

A step without its passes, as in the section before: {tensors} tensors with ever more weights, and {numbers:,} weights
in ever more tensors. A cell has milliseconds, nanoseconds for each weight, and the ratio to SGD's step of the same
round; {rounds} rounds. LETS-SAM has an update in every step.

![Nanoseconds for each weight, and milliseconds of a step](images/speed-growth.png)
"""
MESSAGES = """\
## Between processes

`python -m benchmarks.speed run ranks`

What one process hands to `torch.distributed.all_reduce` in a step under DDP, counted in real processes (gloo), for a
network of {numbers:,} weights in float32 ({widths}), whose gradients are {bytes:,} bytes. *Beyond* is what plain SAM,
written out, does not send. Besides gradients only single numbers are averaged: losses, and with m-sharpness what the
radius sees of the ascent. The validation pass of LETS-SAM averages gradients a third time; with m-sharpness those of
the ascent are not averaged, but where the radius learns, the curvature along it is. A test counts again
(`tests/distributed/test_messages.py`).
"""


def section(found: dict[str, Rows]) -> str:
    """By how much an additional weight, or tensor, slows a step."""
    rows: list[list[str]] = []
    for name, measured in found.items():
        kind, _, size = name.partition("/")
        count = int(size) if kind == "weights" else NUMBERS
        cells = [f"{row['ms']:.3g}, {1e6 * row['ms'] / count:.3g} ({row['ratio']:.1f})" for row in measured.values()]
        rows.append([f"{int(size):,} {kind}", *cells])
    text = WEIGHTS.format(tensors=TENSORS, numbers=NUMBERS, rounds=ROUNDS)
    return "\n".join([text, _largest(found), f"{table(['', *CONTENDERS], rows)}\n"])


def messages(found: dict[str, Rows]) -> str:
    """Calls and bytes."""
    once = 4 * numbers()
    silent = [name for name, measured in found.items() if not any(row["calls"] for row in measured.values())]
    said = [f"With {name.removeprefix('ranks/')} rank nothing is sent by any.\n" for name in silent]
    rows = [
        [
            f"{name.removeprefix('ranks/')} ranks, {contender}",
            f"{row['calls']:,}",
            f"{row['bytes']:,}",
            f"{row['beyond']:,}",
            _in_gradients(int(row["beyond"]), once),
        ]
        for name, measured in found.items()
        if name not in silent
        for contender, row in measured.items()
    ]
    text = MESSAGES.format(numbers=numbers(), widths=" - ".join(map(str, WIDTHS)), bytes=once)
    head = ["", "all-reduces", "bytes", "beyond plain SAM", "that is"]
    return "\n".join([text, *said, f"{table(head, rows)}\n"])


def _in_gradients(beyond: int, once: int) -> str:
    """As gradients and single numbers."""
    gradients = round(beyond / once)
    single = (beyond - gradients * once) // 4
    return f"{gradients:+} gradients, {single:+} numbers" if beyond else "nothing"


def _largest(found: dict[str, Rows]) -> str:
    """What a weight costs where there are most of them."""
    most = max((name for name in found if name.startswith("weights/")), key=lambda name: int(name.split("/")[1]))
    count = int(most.split("/")[1])
    each = {name: 1e6 * row["ms"] / count for name, row in found[most].items()}
    costs = ", ".join(f"{value:.2g} ns for {name}" for name, value in each.items())
    return f"At {count:,} weights each costs {costs}.\n"
