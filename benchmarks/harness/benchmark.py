"""What a benchmark is: settings, units of work, rows of results, and a page made of the rows."""

from __future__ import annotations

import argparse
import inspect
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import torch
from matplotlib.figure import Figure

from benchmarks.harness.page import filled_in, folded, save
from benchmarks.harness.store import Store
from letsam.results import write_atomically
from letsam.tasks import TaskError
from letsam.training.executors import Backend, Here, Tell, make_backend, run_all

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
R = TypeVar("R", bound="Row")


class Row:
    """Base class of the rows of results, which are dataclasses."""

    parts: ClassVar[tuple[str, ...]] = ("setting", "method", "seed")  # fields that make up its key

    @property
    def key(self) -> str:
        """Identifies the row: no two rows have the same key."""
        return "/".join(str(getattr(self, part)) for part in self.parts)


@dataclass(frozen=True)
class Unit:
    """The smallest piece of work: it is measured in one go, and its rows are kept at once."""

    name: str  # for the command line; parts with slashes between them, such as setting/method/seed
    keys: tuple[str, ...]  # of the rows that it gives
    work: Any = None  # what `measure` has to know


class Benchmark(ABC, Generic[R]):
    """Base class of the benchmarks; `docs` is where the pages are, and the results in its folder `evidence`."""

    name: ClassVar[str]  # of the package, of the page, and of the result file where there is one for all
    page: ClassVar[str | None] = None  # the page's own name; None: that of the package
    settings: Mapping[str, Any]  # what is measured on
    row: ClassVar[Any]  # class of the rows
    rows: ClassVar[str] = "runs"  # under what name they stand in the result file, and what comes before them
    head: ClassVar[Mapping[str, Any]] = {}
    digits: ClassVar[int | None] = 4  # as `Store` takes it, as `depth`
    depth: ClassVar[int] = 2

    def __init__(self, docs: Path = DOCS) -> None:
        self.docs = docs

    @classmethod
    def add_options(cls, parser: argparse.ArgumentParser) -> None:
        """Add options of its own to the command line."""

    @classmethod
    def from_options(cls, options: argparse.Namespace) -> Benchmark[Any]:
        """The benchmark with these options."""
        return cls()

    @abstractmethod
    def units(self) -> list[Unit]:
        """All units of work, in order."""

    @abstractmethod
    def measure(self, unit: Unit) -> list[R]:
        """Measure one unit."""

    @abstractmethod
    def sections(self, rows: Sequence[R]) -> Mapping[str, object]:
        """The texts that fill the placeholders of `page.md`, by name."""

    def figures(self, rows: Sequence[R]) -> Mapping[str, Figure]:
        """The figures by their paths below `docs`."""
        return {}

    def from_json(self, content: dict[str, Any]) -> list[R]:
        """The rows of a result file."""
        return [self.row(**fields) for fields in content[self.rows]]

    def to_json(self, rows: Sequence[R]) -> dict[str, Any]:
        """A result file, its rows in the order of the units."""
        keys = [key for unit in self.units() for key in unit.keys]
        return {**self.head, self.rows: [asdict(row) for row in sorted(rows, key=lambda row: keys.index(row.key))]}

    def fits(self, row: R) -> bool:
        """Whether a row belongs to a setting in its current form; other rows count as not measured."""
        return True

    def stems(self) -> Iterable[str]:
        """The names of the result files."""
        return (self.name,)

    def stem(self, row: R) -> str:
        """The name of the file in which a row is kept."""
        return self.name

    @property
    def store(self) -> Store:
        """Where the rows are kept."""
        return Store(self.docs / "evidence", self.digits, self.depth)

    def read(self) -> list[R]:
        """The rows that are finished."""
        contents = (self.store.read(stem) for stem in self.stems())
        return [row for content in contents if content for row in self.from_json(content) if self.fits(row)]

    def write(self, rows: Sequence[R], stems: Iterable[str] | None = None) -> None:
        """Keep these rows and no others in the files of these names; in all files without names."""
        for stem in self.stems() if stems is None else stems:
            mine = [row for row in rows if self.stem(row) == stem]
            self.store.write(stem, self.to_json(mine) if mine else None)

    def run(self, units: Sequence[Unit], *, again: bool = False, jobs: int = 1) -> int:
        """Measure units that are missing, or all of them again; returns how many failed, after saying why.

        Every finished unit is kept at once. With several jobs each is a worker process with one thread.
        """
        rows = self.read()
        waiting = list(units) if again else missing(units, rows)
        print(f"{len(waiting)} of {len(units)} units are to be measured", flush=True)
        started, failures = time.perf_counter(), list[str]()
        for count, (unit, found) in enumerate(self._measured(waiting, jobs), start=1):
            if isinstance(found, str):
                if found not in failures:
                    print(f"not measured: {found}", file=sys.stderr, flush=True)
                failures.append(found)
                continue
            fresh = {row.key for row in found}
            rows = [*(row for row in rows if row.key not in fresh), *found]
            self.write(rows, dict.fromkeys(map(self.stem, found)))
            print(f"{count}/{len(waiting)} {(time.perf_counter() - started) / 60:.1f} min: {unit.name}", flush=True)
        if failures:
            print(f"{len(failures)} units could not be measured", file=sys.stderr)
        return len(failures)

    def _measured(self, units: Sequence[Unit], jobs: int) -> Iterator[tuple[Unit, list[R] | str]]:
        """Each unit with its rows, or with what went wrong."""
        backend: Backend = make_backend("joblib", jobs) if jobs > 1 else Here()
        if jobs == 1:
            torch.set_num_threads(1)  # small networks: threads cost more than they bring
        yield from ((unit, found) for (_, unit), found in run_all(_perform, [(self, unit) for unit in units], backend))

    def forget(self, units: Sequence[Unit]) -> int:
        """Remove the results of units, so that they are measured again; returns how many rows that were."""
        rows, keys = self.read(), {key for unit in units for key in unit.keys}
        gone = [row for row in rows if row.key in keys]
        self.write([row for row in rows if row.key not in keys], dict.fromkeys(map(self.stem, gone)))
        return len(gone)

    def status(self, units: Sequence[Unit]) -> Iterator[str]:
        """How many units are finished: a line for the first part of their names, a count for the second."""
        left = {unit.name for unit in missing(units, self.read())}
        lines: dict[str, dict[str, list[bool]]] = {}
        for unit in units:
            first, *more = unit.name.split("/")
            lines.setdefault(first, {}).setdefault(more[0] if len(more) > 1 else "", []).append(unit.name not in left)
        for first, counts in lines.items():
            yield f"{first:22} " + "  ".join(f"{name} {sum(one)}/{len(one)}".strip() for name, one in counts.items())

    def make_page(self) -> None:
        """Write the page and its figures, from the result files and `page.md` alone."""
        rows = self.read()
        for path, figure in self.figures(rows).items():
            save(figure, self.docs / path)
        template = Path(inspect.getfile(type(self))).with_name("page.md").read_text(encoding="utf-8")
        write_atomically(self.docs / f"{self.page or self.name}.md", folded(filled_in(template, self.sections(rows))))


def missing(units: Iterable[Unit], rows: Iterable[Any]) -> list[Unit]:
    """The units that are not finished."""
    done = {row.key for row in rows}
    return [unit for unit in units if not done.issuperset(unit.keys)]


def _perform(work: tuple[Benchmark[Any], Unit], tell: Tell) -> list[Any] | str:
    """Measure, in any process; a unit that fails must not end the whole run."""
    benchmark, unit = work
    try:
        return benchmark.measure(unit)
    except TaskError as error:  # the data is missing: the same for all units of a setting
        return str(error)
    except Exception as error:
        return f"{unit.name}: {type(error).__name__}: {error}"
