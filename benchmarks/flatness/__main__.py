"""Are the solutions of SGD, SAM and a learned radius flat, and do flat ones generalize?

    python -m benchmarks.flatness run [--again] [digits-0.4 digits-0.0 fashion-mnist-0.4]
    python -m benchmarks.flatness table

`run` trains and measures, some five minutes on one thread; every finished run is kept in docs/evidence/flatness.json at
once, so that an interrupted one goes on where it was, and `--again` measures the settings afresh. `table` makes
docs/flatness.md and its figures from that file alone. Fashion-MNIST: the Debian package `dataset-fashion-mnist`, or
LETSAM_DATA. Needs `pip install "letsam[evidence]"`.
"""

from __future__ import annotations

import time

import torch

from benchmarks import command
from benchmarks.flatness import measure, page


def run(names: list[str], again: bool) -> None:
    """Train and measure what is missing."""
    torch.set_num_threads(1)  # small networks: threads cost more than they bring
    runs = [one for one in page.read() if not (again and one.setting in names)]
    for name in names:
        setting = measure.SETTINGS[name]
        task = measure.load(setting)
        runs = [one for one in runs if one.setting != name or one.epochs == task.epochs]
        done = {(one.method, one.seed) for one in runs if one.setting == name}
        missing = [(m, s) for s in setting.seeds for m in setting.methods if (m, s) not in done]
        for method, seed in missing:
            started = time.perf_counter()
            runs.append(measure.train_and_measure(task, name, method, seed))
            page.write(runs)
            print(f"{name}  {method}  seed {seed}  {time.perf_counter() - started:.1f} s", flush=True)


if __name__ == "__main__":
    command.main("benchmarks.flatness", __doc__, "settings", {name: name for name in measure.SETTINGS}, run, page.make)
