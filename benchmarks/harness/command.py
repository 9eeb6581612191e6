"""The command line of the benchmarks: `python -m benchmarks.NAME run | status | forget | table`."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from typing import Any

from benchmarks.harness.benchmark import Benchmark, Unit

ACTIONS = """\
`run` measures what is not finished; every finished unit is kept in docs/evidence at once, so that a run may be killed
at any moment. What cannot be measured, such as for want of data, is named and left out. `forget` removes results.
`table` makes docs/{page}.md and its figures from the results alone.
"""


def start(name: str) -> None:
    """Run the command of the package `benchmarks.NAME`."""
    module = importlib.import_module(f"benchmarks.{name}.benchmark")
    sys.exit(main(getattr(module, name.capitalize())))


def main(kind: type[Benchmark[Any]], arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status: 1 if a unit could not be measured."""
    actions = ACTIONS.format(page=kind.page or kind.name)
    parser = argparse.ArgumentParser(
        prog=f"python -m benchmarks.{kind.name}",
        description=f"{sys.modules[kind.__module__.rpartition('.')[0]].__doc__}\n{actions}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("action", choices=("run", "status", "forget", "table"))
    parser.add_argument("names", nargs="*", help="units, by how their names begin (`status` lists them); all without")
    parser.add_argument("--again", action="store_true", help="run: measure what is finished once more")
    parser.add_argument("--jobs", type=int, default=1, help="run: worker processes, each with one thread")
    kind.add_options(parser)
    options = parser.parse_intermixed_args(arguments)  # the names may stand after an option
    if options.jobs < 1:
        parser.error(f"`jobs` must be a whole number >= 1, got {options.jobs}")
    try:
        benchmark = kind.from_options(options)
        units = chosen(options.names, benchmark.units())
    except ValueError as error:
        parser.error(str(error))
    if options.action == "table":
        benchmark.make_page()
    elif options.action == "status":
        print("\n".join(benchmark.status(units)))
    elif options.action == "forget":
        print(f"{benchmark.forget(units)} rows are forgotten")
    else:
        try:
            return 1 if benchmark.run(units, again=options.again, jobs=options.jobs) else 0
        except KeyboardInterrupt:
            print("interrupted; the same command goes on where it was", file=sys.stderr)
            return 130
    return 0


def chosen(names: Sequence[str], units: Sequence[Unit]) -> list[Unit]:
    """The units of these names: the whole name, else its first parts, else how it begins; ValueError without any."""
    found: dict[Unit, None] = {} if names else dict.fromkeys(units)
    for name in names:
        whole = [unit for unit in units if f"{unit.name}/".startswith(f"{name}/")]
        some = whole or [unit for unit in units if unit.name.startswith(name)]
        if not some:
            known = dict.fromkeys(unit.name.split("/")[0] for unit in units)
            raise ValueError(f"unknown name {name!r}, expected how one begins: {', '.join(known)}")
        found |= dict.fromkeys(some)
    return list(found)
