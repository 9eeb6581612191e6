"""How long does a step take, with its passes and beside them, and how much memory, next to other implementations?

    python -m benchmarks.speed run [--again] [whole forward few-large/SAM/float32 ...]
    python -m benchmarks.speed table

`run` measures, a quarter of an hour on one thread; every finished piece is kept in docs/evidence/speed.json at once, so
that an interrupted run goes on where it was, and `--again` measures afresh. `table` makes docs/speed.md and its figures
from that file alone. Needs `pip install "letsam[evidence]"`; what is said of `betty-ml` on the page needs that, too.
"""

from __future__ import annotations

import importlib.util
import time

import torch

from benchmarks import command
from benchmarks.speed import page
from benchmarks.speed.parts import ALL


def run(names: list[str], again: bool) -> None:
    """Measure what is missing."""
    torch.set_num_threads(1)
    found = page.read()
    missing = [name for name in names if again or name not in found]
    if any(name.startswith("whole/") for name in missing) and importlib.util.find_spec("betty") is None:
        print("betty-ml is not installed (docs/speed.md says how): its rows will be missing", flush=True)
    for name in missing:
        started = time.perf_counter()
        found[name] = ALL[name]()
        page.write(found)
        print(f"{name}  {time.perf_counter() - started:.1f} s", flush=True)


if __name__ == "__main__":
    command.main("benchmarks.speed", __doc__, "pieces", {name: name for name in ALL}, run, page.make)
