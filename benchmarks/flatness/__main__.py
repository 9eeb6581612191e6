"""Are the solutions of SGD, SAM and a learned radius flat, and do flat ones generalize?

    python -m benchmarks.flatness run [--again] [digits-0.4 digits-0.0 fashion-mnist-0.4]
    python -m benchmarks.flatness table

`run` trains and measures, some five minutes on one thread; every finished run is kept in docs/evidence/flatness.json at
once, so that an interrupted one goes on where it was, and `--again` measures the settings afresh. `table` makes
docs/flatness.md and its figures from that file alone. Fashion-MNIST: the Debian package `dataset-fashion-mnist`, or
LETSAM_DATA. Needs `pip install "letsam[evidence]"`.
"""

from __future__ import annotations

import argparse
import time

import torch

from benchmarks.flatness import measure, page


def run(names: list[str], *, again: bool) -> None:
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


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.flatness", description=str(__doc__).splitlines()[0])
    parser.add_argument("action", choices=("run", "table"))
    parser.add_argument("settings", nargs="*", help=f"of {', '.join(measure.SETTINGS)}; all without")
    parser.add_argument("--again", action="store_true", help="measure what is finished once more")
    arguments = parser.parse_args()
    if unknown := set(arguments.settings) - set(measure.SETTINGS):
        parser.error(f"unknown settings {', '.join(sorted(unknown))}, expected {', '.join(measure.SETTINGS)}")
    if arguments.action == "run":
        run(arguments.settings or list(measure.SETTINGS), again=arguments.again)
    else:
        page.make()


if __name__ == "__main__":
    main()
