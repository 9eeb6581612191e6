"""How true are the estimators of the hypergradient along real training runs?

    python -m benchmarks.fidelity run [--again] [0.02 0.05 0.1 0.2 0.5 learned]
    python -m benchmarks.fidelity table

`run` trains on digits with 40% wrong labels in float64, stops every few steps and compares what `LearnedRadius` says
with the exact derivative: some two minutes on one thread of an idle machine; every finished radius is kept in
docs/evidence/fidelity.json at once, and `--again` measures it afresh. `table` makes docs/fidelity.md and its figures
from that file alone.
"""

from __future__ import annotations

import time

import torch

from benchmarks import command
from benchmarks.fidelity import page, record


def run(radii: list[float | str], again: bool) -> None:
    """Compare along the runs that are missing."""
    torch.set_num_threads(1)  # small networks: threads cost more than they bring
    runs = [one for one in record.read() if not (again and one.radius in radii)]
    for radius in radii:
        if radius in [one.radius for one in runs]:
            continue
        started = time.perf_counter()
        runs.append(record.run(radius))
        record.write(runs)
        print(f"rho {radius}  {time.perf_counter() - started:.1f} s", flush=True)


if __name__ == "__main__":
    command.main(
        "benchmarks.fidelity", __doc__, "radii", {str(radius): radius for radius in record.RADII}, run, page.make
    )
