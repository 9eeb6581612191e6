"""Every variant, fixed and learned, on four settings; and the errors of their hypergradients.

    python -m benchmarks.variants run [--jobs N] [--quick]
    python -m benchmarks.variants errors [--quick]
    python -m benchmarks.variants table

`run` trains what is not in docs/evidence/variants.json, keeps every finished run there at once, and may be killed at
any moment; `errors` measures the hypergradients (float64, a minute or two); `table` makes docs/variants.md from that
file alone. `--quick` makes one epoch of one setting, in runs/variants-quick.json, to see that all works. Fashion-MNIST:
the Debian package `dataset-fashion-mnist`, or LETSAM_DATA.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.variants import errors, page, record
from letsam.training.parallel import run_in_parallel


def run(path: Path, jobs: int, *, quick: bool) -> None:
    """Train what is missing."""
    rows, found = record.read(path)
    waiting = record.orders(rows, quick=quick)
    print(f"{len(waiting)} runs are to be made", flush=True)
    for count, (order, new) in enumerate(run_in_parallel(record.perform, waiting, jobs), start=1):
        fresh = {(row.setting, row.method, row.seed) for row in new}
        rows = [row for row in rows if (row.setting, row.method, row.seed) not in fresh] + new
        record.write(path, rows, found)
        print(f"{count}/{len(waiting)} {order.setting.name} {order.method} {order.seed}", flush=True)


def main(arguments: list[str] | None = None) -> int:
    """Read the command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.variants", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("action", choices=("run", "errors", "table"))
    parser.add_argument("--jobs", type=int, default=1, help="worker processes, each with one thread")
    parser.add_argument("--quick", action="store_true", help="tiny, and kept apart")
    options = parser.parse_args(arguments)
    if options.jobs < 1:
        parser.error(f"`jobs` must be a whole number >= 1, got {options.jobs}")
    path = record.QUICK if options.quick else record.RECORD
    if options.action == "run":
        run(path, options.jobs, quick=options.quick)
    elif options.action == "errors":
        record.write(path, record.read(path)[0], list(errors.measure()))
    else:
        page.make(*record.read(path))
    return 0


if __name__ == "__main__":
    sys.exit(main())
