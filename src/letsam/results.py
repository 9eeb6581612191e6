"""Frozen records of a trial, and the one JSON file that holds them.

A trial runs methods x seeds on one task. Each finished run is a `Run`, all of them together are a `Results`,
and `Results.save` writes the whole as ``results.json`` in one atomic step, so that an interrupted trial never
leaves half a file behind. Every table, figure and page is made from that file alone:

    results = Results.load("out/results.json")
    for row in summarize(results):
        print(row.method, row.test_accuracy)

The fields, with units, are in ``docs/results-schema.md``. JSON has no NaN: a non-finite number (a diverged
run) is written as ``null``, and ``null`` is read back as NaN where a number is always expected, and as None
where the field may be absent by nature (a radius for SGD, a validation loss for a method that holds nothing out).
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import statistics
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = [
    "SCHEMA",
    "Results",
    "Run",
    "Summary",
    "is_learned",
    "replacing",
    "summarize",
    "write_atomically",
]

SCHEMA = 2
"""The number of the schema this version writes."""

READABLE = (1, 2)
"""The schemas that it reads. In schema 1, `rho_schedule` had one number a step, of many radii their mean."""

HISTORY_NUMBERS = ("train_loss", "test_loss", "test_accuracy", "generalization_gap")
"""History columns that every method has: ``null`` means non-finite and is read as NaN."""

HISTORY_OPTIONAL = ("validation_loss", "rho", "hypergradient")
"""History columns that some methods do not have: ``null`` stays None."""

History = Mapping[str, Sequence[Any]]
"""Columns of numbers or None; of many radii, ``rho_schedule`` has a list of numbers at each step."""


@dataclass(frozen=True)
class Run:
    """One finished training run: one method with one seed.

    Args:
        method: its name, such as ``"sgd"``, ``"sam:0.1"`` or ``"lets-sam+refit"``.
        seed: what the splits, initial weights and batch order depend on.
        rho_initial: the radius before the first step; None for methods without one.
        rho_final: the radius after the last step; None for methods without one.
        test_accuracy: fraction in [0, 1].
        test_loss: mean loss on the test set after training.
        train_loss: mean loss on the training set after training.
        validation_loss: mean loss on the held-out share; None for methods that hold nothing out.
        generalization_gap: ``test_loss - train_loss``.
        gradient_passes: forward and backward passes; a refit counts those of its search as well.
        seconds: wall-clock time of training alone.
        history: columns by name, see ``docs/results-schema.md``.
        metric: what ``test_accuracy`` holds, "accuracy" in most tasks; such as "BLEU", then a fraction of 1 as well.
    """

    method: str
    seed: int
    rho_initial: float | None
    rho_final: float | None
    test_accuracy: float
    test_loss: float
    train_loss: float
    validation_loss: float | None
    generalization_gap: float
    gradient_passes: int
    seconds: float
    history: History
    metric: str = "accuracy"

    @property
    def radii(self) -> list[tuple[float, ...]]:
        """The learned radii of every step, from ``rho_schedule``; NaN where not finite, empty where none was learned.

        Example:
            >>> history = {"rho_schedule": [[0.1, 0.3], [0.2, None]]}
            >>> Run("lets-sam-per-layer", 0, 0.1, 0.2, 0.9, 0.4, 0.1, 0.2, 0.3, 100, 1.5, history).radii
            [(0.1, 0.3), (0.2, nan)]
        """
        schedule = self.history.get("rho_schedule", ())
        steps: list[Sequence[float | None]] = [step if isinstance(step, Sequence) else (step,) for step in schedule]
        return [tuple(math.nan if rho is None else rho for rho in step) for step in steps]

    @property
    def mean_radii(self) -> list[float]:
        """The mean of the learned radii at every step; NaN where one of them is not finite."""
        return [_mean(step) for step in self.radii]

    @property
    def diverged(self) -> bool:
        """Whether a number that every run has is not finite."""
        return not all(map(math.isfinite, (self.test_accuracy, self.test_loss, self.train_loss)))


@dataclass(frozen=True)
class Results:
    """Everything a trial has to show: what was asked for, where it ran, and the runs that have finished.

    Args:
        task: the task's name.
        config: the options of the trial, JSON values only.
        environment: versions, platform and device, JSON values only.
        runs: the finished runs, in the order in which they finished.

    Example:
        >>> empty = Results(task="digits", config={}, environment={}, runs=())
        >>> run = Run("sgd", 0, None, None, 0.9, 0.4, 0.1, None, 0.3, 100, 1.5, {})
        >>> [r.test_accuracy for r in empty.with_run(run).runs]
        [0.9]
    """

    task: str
    config: Mapping[str, Any]
    environment: Mapping[str, Any]
    runs: tuple[Run, ...] = ()

    @classmethod
    def load(cls, path: str | Path) -> Results:
        """Read a ``results.json``.

        Raises:
            ValueError: the file is missing, is not JSON, or does not follow the schema; one line that names
                the file, what was expected and what came.
        """
        path = Path(path)
        try:
            value = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse_constant)
        except FileNotFoundError:
            raise ValueError(f"{path}: expected a results file, but there is no such file") from None
        except OSError as error:
            raise ValueError(f"{path}: expected a readable results file, got: {error.strerror}") from None
        except ValueError as error:
            raise ValueError(f"{path}: expected JSON, got: {error}") from None
        try:
            return _read_results(value)
        except _SchemaError as error:
            raise ValueError(f"{path}: {error}") from None

    def save(self, path: str | Path) -> None:
        """Write ``results.json`` so that a reader sees either the old file or the new one, never a part."""
        head = {
            "schema": SCHEMA,
            "task": self.task,
            "config": dict(self.config),
            "environment": dict(self.environment),
        }
        fields = [f" {json.dumps(name)}: {_dump(value)}" for name, value in head.items()]
        # vars() rather than asdict(): asdict would copy every history only to throw the copy away
        runs = ",\n".join(f"  {_dump(vars(run))}" for run in self.runs)
        fields.append(f' "runs": [\n{runs}\n ]' if runs else ' "runs": []')
        write_atomically(Path(path), "{\n" + ",\n".join(fields) + "\n}\n")

    def with_run(self, run: Run) -> Results:
        """Return results that hold `run` as well; it replaces a run of the same method and seed in place."""
        key = (run.method, run.seed)
        if any((old.method, old.seed) == key for old in self.runs):
            runs = tuple(run if (old.method, old.seed) == key else old for old in self.runs)
        else:
            runs = (*self.runs, run)
        return dataclasses.replace(self, runs=runs)

    def summary(self) -> tuple[Summary, ...]:
        """The same as `summarize`."""
        return summarize(self)

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods with at least one finished run, in order of first appearance."""
        return tuple(dict.fromkeys(run.method for run in self.runs))

    @property
    def metric(self) -> str:
        """The name of what ``test_accuracy`` holds, such as "accuracy" or "BLEU"."""
        return self.runs[0].metric if self.runs else "accuracy"

    def runs_of(self, method: str) -> tuple[Run, ...]:
        """The runs of one method, in order."""
        return tuple(run for run in self.runs if run.method == method)


@dataclass(frozen=True)
class Summary:
    """One method over its seeds; every field but the counts is an arithmetic mean.

    A mean over runs of which one is not finite is NaN: leaving the diverged run out would flatter the method.

    Args:
        method: its name.
        count: number of runs.
        diverged: how many of them ended with a non-finite accuracy or loss.
        test_accuracy: mean, a fraction.
        test_accuracy_std: sample standard deviation over the runs; 0 for one run.
        test_loss: mean.
        train_loss: mean.
        generalization_gap: mean of test loss minus training loss.
        rho_initial: mean; None if the method has no radius.
        rho_final: mean; None if the method has no radius.
        gradient_passes: mean number of forward and backward passes.
        seconds: mean training time.
    """

    method: str
    count: int
    diverged: int
    test_accuracy: float
    test_accuracy_std: float
    test_loss: float
    train_loss: float
    generalization_gap: float
    rho_initial: float | None
    rho_final: float | None
    gradient_passes: float
    seconds: float


def summarize(results: Results) -> tuple[Summary, ...]:
    """Average the runs of each method, in order of the methods' first appearance."""
    return tuple(_summarize(method, results.runs_of(method)) for method in results.methods)


def is_learned(method: str) -> bool:
    """Whether a method's radius is learned, told by its name.

    Example:
        >>> [is_learned(name) for name in ("sam:0.1", "lets-asam:0.1", "lets-sam+refit")]
        [False, True, True]
    """
    return method.startswith("lets-")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A new file beside `path` to write to; it takes the place of `path` in one step when the block ends.

    The folder is made if it is missing. If anything fails, `path` is as it was and no scratch file is left.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not tempfile: its files are private to the user (mode 600), and the rename would carry that over.
    scratch = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        yield scratch
        with scratch.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(scratch, path)
    finally:
        scratch.unlink(missing_ok=True)


def write_atomically(path: Path, text: str) -> None:
    """Write `text` so that a reader sees either the old file or the new one, see `replacing`."""
    with replacing(path) as scratch:
        scratch.write_text(text, encoding="utf-8", newline="\n")


# --- averages ----------------------------------------------------------------------------------------------


def _summarize(method: str, runs: Sequence[Run]) -> Summary:
    accuracies = [run.test_accuracy for run in runs]
    spread = statistics.stdev(accuracies) if len(runs) > 1 and all(map(math.isfinite, accuracies)) else 0.0
    return Summary(
        method=method,
        count=len(runs),
        diverged=sum(run.diverged for run in runs),
        test_accuracy=_mean(accuracies),
        test_accuracy_std=spread if math.isfinite(_mean(accuracies)) else math.nan,
        test_loss=_mean([run.test_loss for run in runs]),
        train_loss=_mean([run.train_loss for run in runs]),
        generalization_gap=_mean([run.generalization_gap for run in runs]),
        rho_initial=_mean_or_none([run.rho_initial for run in runs]),
        rho_final=_mean_or_none([run.rho_final for run in runs]),
        gradient_passes=_mean([run.gradient_passes for run in runs]),
        seconds=_mean([run.seconds for run in runs]),
    )


def _mean(values: Sequence[float]) -> float:
    return statistics.fmean(values) if all(map(math.isfinite, values)) else math.nan


def _mean_or_none(values: Sequence[float | None]) -> float | None:
    present = [value for value in values if value is not None]
    return _mean(present) if present else None


# --- JSON --------------------------------------------------------------------------------------------------


def _dump(value: Any) -> str:
    return json.dumps(_finite(value), allow_nan=False, ensure_ascii=False)


def _finite(value: Any) -> Any:
    """The same value with None in place of every non-finite number."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name}, which JSON does not have (write null)")


class _SchemaError(Exception):
    """The JSON does not follow the schema; becomes a `ValueError` once the file's name is known."""


_Reader = Callable[[Any, str], Any]


def _read_results(value: Any) -> Results:
    fields = _object(value, "the file")
    schema = _field(fields, "schema", "", _integer)
    if schema not in READABLE:
        raise _SchemaError(f"expected schema {' or '.join(map(str, READABLE))}, got schema {schema}")
    runs = _field(fields, "runs", "", _array)
    seen: set[tuple[str, int]] = set()
    records: list[Run] = []
    for index, item in enumerate(runs):
        run = _read_run(item, f"runs[{index}]")
        if (run.method, run.seed) in seen:
            raise _SchemaError(f"expected one run for each method and seed, got {run.method!r} with {run.seed} twice")
        seen.add((run.method, run.seed))
        records.append(run)
    return Results(
        task=_field(fields, "task", "", _string),
        config=_field(fields, "config", "", _object),
        environment=_field(fields, "environment", "", _object),
        runs=tuple(records),
    )


_RUN_FIELDS: dict[str, _Reader]


def _read_run(value: Any, where: str) -> Run:
    fields = _object(value, where)
    values = {name: _field(fields, name, where, reader) for name, reader in _RUN_FIELDS.items()}
    if "metric" in fields:  # younger than schema 1
        values["metric"] = _string(fields["metric"], f"{where}.metric")
    return Run(**values)


def _history(value: Any, where: str) -> dict[str, list[Any]]:
    columns = _object(value, where)
    readers: dict[str, _Reader] = {
        "epoch": _epoch,
        **dict.fromkeys(HISTORY_NUMBERS, _number),
        **dict.fromkeys(HISTORY_OPTIONAL, _optional_number),
    }
    history: dict[str, list[Any]] = {}
    for name, reader in readers.items():
        items = _field(columns, name, where, _array)
        history[name] = [reader(item, f"{where}.{name}[{i}]") for i, item in enumerate(items)]
        if len(items) != len(history["epoch"]):
            expected = f"{len(history['epoch'])} values, one for each epoch"
            raise _SchemaError(f"expected {where}.{name} to hold {expected}, got {len(items)}")
    if "rho_schedule" in columns:
        history["rho_schedule"] = _schedule(columns["rho_schedule"], f"{where}.rho_schedule")
    return history


def _schedule(value: Any, where: str) -> list[Any]:
    """A radius for each step, or lists of equally many."""
    items = _array(value, where)
    if not (items and isinstance(items[0], list)):
        return [_number(item, f"{where}[{i}]") for i, item in enumerate(items)]
    rows = [_array(item, f"{where}[{i}]") for i, item in enumerate(items)]
    count = max(len(rows[0]), 1)
    for i, row in enumerate(rows):
        if len(row) != count:
            raise _SchemaError(f"expected {where}[{i}] to hold {count} radii, as many as the first, got {len(row)}")
    return [[_number(rho, f"{where}[{i}][{j}]") for j, rho in enumerate(row)] for i, row in enumerate(rows)]


def _field(fields: Mapping[str, Any], name: str, where: str, reader: _Reader) -> Any:
    full = f"{where}.{name}" if where else name
    if name not in fields:
        raise _SchemaError(f"expected the field {full}, but it is missing")
    return reader(fields[name], full)


def _object(value: Any, where: str) -> dict[str, Any]:
    return _typed(value, where, "an object", dict)


def _array(value: Any, where: str) -> list[Any]:
    return _typed(value, where, "a list", list)


def _string(value: Any, where: str) -> str:
    return _typed(value, where, "a string", str)


def _integer(value: Any, where: str) -> int:
    return _typed(value, where, "an integer", int)


def _epoch(value: Any, where: str) -> float:
    return _typed(value, where, "a number", (int, float))


def _number(value: Any, where: str) -> float:
    return math.nan if value is None else float(_typed(value, where, "a number", (int, float)))


def _optional_number(value: Any, where: str) -> float | None:
    return None if value is None else _number(value, where)


def _typed(value: Any, where: str, expected: str, kind: type | tuple[type, ...]) -> Any:
    # bool is an int to Python, but true is not a number to anyone who wrote the file
    if not isinstance(value, kind) or isinstance(value, bool):
        shown = json.dumps(value)
        shown = shown if len(shown) <= 40 else f"{shown[:37]}..."
        raise _SchemaError(f"expected {where} to be {expected}, got {shown}")
    return value


_RUN_FIELDS = {
    "method": _string,
    "seed": _integer,
    "rho_initial": _optional_number,
    "rho_final": _optional_number,
    "test_accuracy": _number,
    "test_loss": _number,
    "train_loss": _number,
    "validation_loss": _optional_number,
    "generalization_gap": _number,
    "gradient_passes": _integer,
    "seconds": _number,
    "history": _history,
}
