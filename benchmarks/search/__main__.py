"""Which ideas for the learned radius were tried, and what did they give?

    python -m benchmarks.search run [--again [NAME ...]]
    python -m benchmarks.search table

`run` tries every idea (`benchmarks.search.ideas`) with several seeds from two starts far apart, beside a grid of fixed
radii: some twelve minutes on one thread. Every finished trial is kept in docs/evidence/search.json at once, so that an
interrupted run goes on where it was; `--again` measures the ideas named afresh, or all. A setting whose data are
missing is named and left out. `table` makes docs/search.md from that file alone. Fashion-MNIST: the Debian package
`dataset-fashion-mnist`, or LETSAM_DATA.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

import torch

from benchmarks.command import of
from benchmarks.search import page, record
from benchmarks.search.ideas import BY_NAME
from benchmarks.search.settings import SETTINGS, load
from letsam.tasks import TaskError


def run(again: Sequence[str] = ()) -> None:
    """Measure what is missing."""
    torch.set_num_threads(1)  # small networks: threads cost more than they bring
    rows = [row for row in record.read() if row.name in record.NAMES and row.name not in again]
    for name, setting in SETTINGS.items():
        todo = list(record.missing(rows, name, setting))
        rows = [row for row in rows if row.setting != name or row.name not in todo]  # of other epochs or seeds
        try:
            task = load(setting) if todo else None
        except TaskError as error:
            print(f"{name}: left out, {error}", flush=True)
            continue
        grid = [one for one in todo if one in record.GRID]
        for one in [*grid[:1], *(one for one in todo if one not in grid)]:
            assert task is not None
            started = time.perf_counter()
            if one in grid:
                rows += [row for row in record.measure_grid(task, name, setting) if row.name in grid]
            else:
                rows.append(record.measure(task, name, setting, BY_NAME[one]))
            record.write(rows)
            print(f"{name}  {'grid' if one in grid else one}  {time.perf_counter() - started:.1f} s", flush=True)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.search", description=str(__doc__).splitlines()[0])
    parser.add_argument("action", choices=("run", "table"))
    parser.add_argument("--again", nargs="*", metavar="NAME", help=of(record.NAMES))
    arguments = parser.parse_args()
    again = [] if arguments.again is None else arguments.again or record.NAMES
    if unknown := set(again) - set(record.NAMES):
        parser.error(f"unknown ideas {', '.join(sorted(unknown))}, expected {', '.join(record.NAMES)}")
    if arguments.action == "run":
        run(again)
    else:
        page.make()


if __name__ == "__main__":
    main()
