"""How long does a step take beside its passes, and how much memory, next to other implementations?

    python -m benchmarks.speed run [--again] [few-large/SAM/float32 ...]
    python -m benchmarks.speed table

`run` measures, some minutes on one thread; every finished workload is kept in docs/evidence/speed.json at once, so that
an interrupted run goes on where it was, and `--again` measures afresh. `table` makes docs/speed.md and its figure from
that file alone. Needs `pip install "letsam[evidence]"`.
"""

from __future__ import annotations

import time

import torch

from benchmarks import command
from benchmarks.speed import page
from benchmarks.speed.measure import ALL, Workload, measure


def run(workloads: list[Workload], again: bool) -> None:
    """Measure what is missing."""
    torch.set_num_threads(1)
    found = page.read()
    for workload in workloads:
        if workload.name in found and not again:
            continue
        started = time.perf_counter()
        found[workload.name] = measure(workload)
        page.write(found)
        print(f"{workload.name}  {time.perf_counter() - started:.1f} s", flush=True)


if __name__ == "__main__":
    command.main("benchmarks.speed", __doc__, "workloads", ALL, run, page.make)
