"""Times, operators and memory of every contender on one workload; alternating, so that a busy machine slows all."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from itertools import product, starmap
from typing import Any

import torch

from benchmarks.speed.contenders import CONTENDERS, PARTS, Passes
from benchmarks.speed.cost import entries, operators, peak

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


def measure(workload: Workload) -> dict[str, Any]:
    """For each contender: milliseconds (median), the median ratio to letsam's of the same round, operators, copies.

    For each of `PARTS` the first two.
    """
    shapes, dtype = WORKLOADS[workload.shapes], DTYPES[workload.dtype]
    adaptive = workload.variant == "ASAM"
    passes = {name: Passes(shapes, dtype) for name in (*CONTENDERS, *PARTS)}
    steps = {name: make(passes[name], adaptive) for name, make in CONTENDERS.items()}
    running = {name: step for name, step in steps.items() if step is not None}
    running |= {name: torch.no_grad()(make(passes[name], adaptive)) for name, make in PARTS.items()}
    counts = {name: operators(step) for name, step in running.items()}
    times: dict[str, list[float]] = {name: [] for name in running}
    for _ in range(ROUNDS):
        for name, step in running.items():
            passes[name].renew()
            started = time.process_time()
            step()
            times[name].append(time.process_time() - started)
    copy = entries(shapes) * dtype.itemsize
    found: dict[str, Any] = {}
    for name, seconds in times.items():
        row = found[name] = {"ms": 1000 * statistics.median(seconds)}
        ratios = [mine / ours for mine, ours in zip(seconds, times["letsam"], strict=True)]
        row["ratio"] = statistics.median(ratios)
        if name in PARTS:
            continue
        fresh = CONTENDERS[name](Passes(shapes, dtype), adaptive)
        assert fresh is not None
        row["operators"] = counts[name] - (0 if name == "SGD alone" else counts["SGD alone"])
        row["copies"] = peak(fresh) / copy - 1.0  # SGD's own momentum
    return found
