"""The evidence: does a learned radius do as well as the best of a grid?

    python -m benchmarks.evidence run [SETTING ...] [--jobs N] [--seeds K] [--family FAMILY] [--quick | --full]
    python -m benchmarks.evidence status [SETTING ...]
    python -m benchmarks.evidence forget [SETTING ...] --family sam-learned
    python -m benchmarks.evidence table

`run` runs what is not finished (`suite.py` says what there is), keeps every run under runs/evidence and what the tables
need in docs/evidence/*.json; it may be killed at any moment. A setting whose data is missing is named and left out.
`forget` removes results, so that they are run again. `table` makes docs/evidence.md and its figures from
docs/evidence alone. Fashion-MNIST: the Debian package `dataset-fashion-mnist`, or LETSAM_DATA.
"""

from __future__ import annotations

import argparse
import sys

from benchmarks.evidence.records import ROOT, Store
from benchmarks.evidence.suite import ALL_FAMILIES, CLIPPED, FAMILIES, SETTINGS, Setting


def chosen(names: list[str], *, quick: bool, full: bool) -> list[Setting]:
    """The settings of these names, or beginning with them; all without names, with `quick` digits alone.

    Raises:
        ValueError: a name that no setting begins with, or one that has no full size.
    """
    every = [*SETTINGS, *CLIPPED]
    if quick and not names:
        names = ["digits-0.4"]
    for name in names:
        if not any(setting.name.startswith(name) for setting in every):
            raise ValueError(f"unknown setting {name!r}, expected one of {', '.join(s.name for s in every)}")
    found = [s for s in every if not names or any(s.name.startswith(name) for name in names)]
    if full:
        found = [large for setting in found if (large := setting.full()) is not None]
        if not found:
            raise ValueError(f"no full size for {', '.join(names)}")
    return [setting.quick() for setting in found] if quick else found


def main(arguments: list[str] | None = None) -> int:
    """Read the command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.evidence", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("action", choices=("run", "status", "forget", "table"))
    parser.add_argument("settings", nargs="*", help="names or how they begin (digits, fashion-cnn-0.4); all without")
    parser.add_argument(
        "--family",
        action="append",
        choices=ALL_FAMILIES,
        help="these only; may be repeated; all but `tried` without",
    )
    parser.add_argument("--seeds", type=int, help="how many; each setting's own number without")
    parser.add_argument("--jobs", type=int, default=1, help="worker processes, each with one thread")
    parser.add_argument("--device", default="cpu", help="auto, cpu, cuda or mps")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="tiny runs under runs/evidence-quick, to see that all works")
    size.add_argument("--full", action="store_true", help="full sizes, for a GPU")
    options = parser.parse_intermixed_args(arguments)
    for name in ("jobs", "seeds"):
        value = getattr(options, name)
        if value is not None and value < 1:
            parser.error(f"`{name}` must be a whole number >= 1, got {value}")
    try:
        settings = chosen(options.settings, quick=options.quick, full=options.full)
    except ValueError as error:
        parser.error(str(error))
    store = Store.within(ROOT / "runs" / "evidence-quick") if options.quick else Store()
    families = tuple(options.family or FAMILIES)
    try:
        return _act(options, settings, store, families)
    except KeyboardInterrupt:
        print("interrupted; the same command goes on where it was", file=sys.stderr)
        return 130


def _act(options: argparse.Namespace, settings: list[Setting], store: Store, families: tuple[str, ...]) -> int:
    if options.action == "table":
        from benchmarks.evidence.page import write_page

        write_page(store)
        return 0
    from benchmarks.evidence import run

    if options.action == "status":
        print("\n".join(run.status(settings, store, options.seeds)))
        return 0
    if options.action == "forget":
        print(f"{run.forget(settings, store, families, options.seeds)} runs are forgotten")
        return 0
    hindered = run.run(
        settings, store, families=families, seeds=options.seeds, jobs=options.jobs, device=options.device
    )
    if hindered:
        print(f"{hindered} units could not be run", file=sys.stderr)
    return 1 if hindered else 0


if __name__ == "__main__":
    sys.exit(main())
