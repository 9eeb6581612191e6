"""Times, operators and memory of every contender on one workload; alternating, so that a busy machine slows all."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product, starmap

import torch

from benchmarks.speed.contenders import CONTENDERS, LEARNED, PARTS, Passes
from benchmarks.speed.cost import entries, operators, peak
from benchmarks.speed.turns import Rows, milliseconds, ratio, seconds

WORKLOADS: dict[str, list[tuple[int, ...]]] = {
    "few large": [(2048, 1024)] * 8,
    "many small": [(16, 16)] * 2000,
}
DTYPES = {"float32": torch.float32, "bf16": torch.bfloat16}
ROUNDS = 7


@dataclass(frozen=True)
class Workload:
    """What is measured together, in one run."""

    shapes: str
    variant: str
    dtype: str

    @property
    def name(self) -> str:
        """As on the command line."""
        return f"{self.shapes}, {self.variant}, {self.dtype}".replace(" ", "-").replace(",-", "/")


VARIANTS = ("SAM", "ASAM")
ALL = {one.name: one for one in starmap(Workload, product(WORKLOADS, VARIANTS, DTYPES))}


def measure(workload: Workload) -> Rows:
    """For each contender: milliseconds (median), the median ratio to letsam's of the same round, operators, copies.

    For each of `PARTS` the first two.
    """
    shapes, dtype = WORKLOADS[workload.shapes], DTYPES[workload.dtype]
    adaptive = workload.variant == "ASAM"
    whole = CONTENDERS | LEARNED
    passes = {name: Passes(shapes, dtype) for name in (*whole, *PARTS)}
    steps = {name: make(passes[name], adaptive) for name, make in whole.items()}
    running = {name: step for name, step in steps.items() if step is not None}
    running |= {name: torch.no_grad()(make(passes[name], adaptive)) for name, make in PARTS.items()}
    counts = {name: operators(step) for name, step in running.items()}
    times = seconds(running, ROUNDS, before=lambda name: passes[name].renew())
    copy = entries(shapes) * dtype.itemsize
    found: Rows = {}
    for name, values in times.items():
        row = found[name] = {"ms": milliseconds(values), "ratio": ratio(values, times["letsam"])}
        if name in PARTS:
            continue
        fresh = whole[name](Passes(shapes, dtype), adaptive)
        assert fresh is not None
        row["operators"] = counts[name] - (0 if name == "SGD alone" else counts["SGD alone"])
        row["copies"] = peak(fresh) / copy - 1.0  # SGD's own momentum
    return found
