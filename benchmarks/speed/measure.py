"""Times, operators and memory of every contender on one workload; alternating, so that a busy machine slows all."""

from __future__ import annotations

from itertools import product

import torch

from benchmarks.speed.contenders import CONTENDERS, LEARNED, PARTS, Passes
from benchmarks.speed.cost import entries, operators, peak
from benchmarks.speed.turns import Rows, in_rows, seconds

WORKLOADS: dict[str, list[tuple[int, ...]]] = {
    "few large": [(2048, 1024)] * 8,
    "many small": [(16, 16)] * 2000,
}
DTYPES = {"float32": torch.float32, "bf16": torch.bfloat16}
ROUNDS = 7


ALL = {f"{one[0].replace(' ', '-')}/{one[1]}/{one[2]}": one for one in product(WORKLOADS, ("SAM", "ASAM"), DTYPES)}
"""What is measured together: weights, variant and precision."""


def measure(weights: str, variant: str, precision: str) -> Rows:
    """For each contender: milliseconds (median), the median ratio to letsam's of the same round, operators, copies.

    For each of `PARTS` the first two.
    """
    shapes, dtype, adaptive = WORKLOADS[weights], DTYPES[precision], variant == "ASAM"
    whole = CONTENDERS | LEARNED
    passes = {name: Passes(shapes, dtype) for name in (*whole, *PARTS)}
    steps = {name: make(passes[name], adaptive) for name, make in whole.items()}
    running = {name: step for name, step in steps.items() if step is not None}
    running |= {name: torch.no_grad()(make(passes[name], adaptive)) for name, make in PARTS.items()}
    counts = {name: operators(step) for name, step in running.items()}
    times = seconds(running, ROUNDS, before=lambda name: passes[name].renew())
    copy = entries(shapes) * dtype.itemsize
    found = in_rows(times, "letsam")
    for name in whole.keys() & found:
        fresh = whole[name](Passes(shapes, dtype), adaptive)
        assert fresh is not None
        found[name]["operators"] = counts[name] - (0 if name == "SGD alone" else counts["SGD alone"])
        found[name]["copies"] = peak(fresh) / copy - 1.0  # SGD's own momentum
    return found
