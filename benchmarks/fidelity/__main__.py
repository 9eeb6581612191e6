"""How true are the estimators of the hypergradient along real training runs?

    python -m benchmarks.fidelity run [--again] [0.02 0.05 0.1 0.2 0.5 learned]
    python -m benchmarks.fidelity table

`run` trains on digits with 40% wrong labels in float64, stops every few steps and compares what `LearnedRadius` says
with the exact derivative: some two minutes on one thread of an idle machine; every finished radius is kept in
docs/evidence/fidelity.json at once, and `--again` measures it afresh. `table` makes docs/fidelity.md and its figures
from that file alone.
"""

from __future__ import annotations

import argparse
import time

import torch

from benchmarks.fidelity import page, record


def run(radii: list[float | str], *, again: bool) -> None:
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


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fidelity", description=str(__doc__).splitlines()[0])
    parser.add_argument("action", choices=("run", "table"))
    parser.add_argument("radii", nargs="*", help=f"of {', '.join(map(str, record.RADII))}; all without")
    parser.add_argument("--again", action="store_true", help="measure what is finished once more")
    arguments = parser.parse_args()
    known = {str(radius): radius for radius in record.RADII}
    if unknown := set(arguments.radii) - set(known):
        parser.error(f"unknown radii {', '.join(sorted(unknown))}, expected {', '.join(known)}")
    if arguments.action == "run":
        run([known[name] for name in arguments.radii or known], again=arguments.again)
    else:
        page.make()


if __name__ == "__main__":
    main()
