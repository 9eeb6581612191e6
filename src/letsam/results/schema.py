"""The checks of a ``results.json`` that is read, and how its values are written.

``docs/results-schema.md`` documents the fields, with their units.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

from letsam.results.printable import encodable

__all__ = ["SCHEMA", "SchemaError", "checked", "dumped", "refuse_constant"]

SCHEMA = 2
"""The number of the schema that this version writes."""

READABLE = (1, 2)
"""The schemas that it reads. In schema 1, `rho_schedule` had one number for each step: with many radii, their mean."""

HISTORY_NUMBERS = ("train_loss", "test_loss", "test_accuracy", "generalization_gap")
"""History columns that every method has: ``null`` means non-finite and is read as NaN."""

HISTORY_OPTIONAL = ("validation_loss", "rho", "hypergradient")
"""History columns that some methods do not have: ``null`` stays None."""


LEVELS = 100
"""How deep lists and objects of a file may be nested. A file that letsam writes has 5 levels."""

Reader = Callable[[Any, str], Any]
"""Checks a value; the string says where in the file it is."""


class SchemaError(Exception):
    """The JSON does not follow the schema; `Results.load` makes it a `ValueError` that names the file."""


def dumped(value: Any) -> str:
    """The value as strict JSON in one line, with null in place of every non-finite number."""
    return json.dumps(_finite(value), allow_nan=False, ensure_ascii=False)


def refuse_constant(name: str) -> None:
    """Refuse NaN and Infinity, which Python's JSON reader would accept; for its `parse_constant`."""
    raise ValueError(f"{name}, which JSON does not have (write null)")


def checked(value: Any) -> dict[str, Any]:
    """Check what was read.

    Args:
        value: the content of a file, as `json.loads` gives it.

    Returns:
        The fields of `Results`; each of its runs is a dictionary with the fields of `Run`.

    Raises:
        SchemaError: one line that names the field, what was expected and what came.
    """
    _check_text_and_nesting(value)
    fields = _object(value, "the file")
    schema = _field(fields, "schema", "", _integer)
    if schema not in READABLE:
        raise SchemaError(f"expected schema {' or '.join(map(str, READABLE))}, got schema {_shown(schema)}")
    seen: set[tuple[str, int]] = set()
    runs: list[dict[str, Any]] = []
    for index, item in enumerate(_field(fields, "runs", "", _array)):
        run = _run(item, f"runs[{index}]")
        key = run["method"], run["seed"]
        if key in seen:
            raise SchemaError(f"expected one run for each method and seed, got {key[0]!r} with {key[1]} twice")
        seen.add(key)
        runs.append(run)
    return {
        "task": _field(fields, "task", "", _string),
        "config": _field(fields, "config", "", _object),
        "environment": _field(fields, "environment", "", _object),
        "runs": runs,
        "name": _string(fields["name"], "name") if "name" in fields else None,
        "inferred": _pairs(fields["inferred"], "inferred") if "inferred" in fields else (),
        "decision": _object(fields["decision"], "decision") if "decision" in fields else None,
        "audit": _audit(fields["audit"]) if "audit" in fields else None,
    }


def _finite(value: Any) -> Any:
    """The same value with None in place of every non-finite number, and text that UTF-8 can hold."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str):
        return encodable(value)
    if isinstance(value, Mapping):
        return {encodable(key) if isinstance(key, str) else key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def _check_text_and_nesting(value: Any) -> None:
    """Refuse what cannot be written again: lone surrogates, and lists within lists without end."""
    level: list[tuple[str, Any]] = [("the file", value)]
    for _ in range(LEVELS):
        below: list[tuple[str, Any]] = []
        for where, container in level:
            items = container.items() if isinstance(container, dict) else enumerate(container)
            for key, item in items:
                for text in (key, item):
                    if isinstance(text, str) and encodable(text) != text:
                        raise SchemaError(f"expected {where} to hold Unicode text, got {_shown(text)}")
                if isinstance(item, dict | list):
                    below.append((f"{where}.{key}" if isinstance(key, str) else f"{where}[{key}]", item))
        level = [(where.removeprefix("the file."), item) for where, item in below]
        if not level:
            return
    name = level[0][0][:40]
    raise SchemaError(f"expected at most {LEVELS} levels of lists and objects, got more in {name}...")


def _run(value: Any, where: str) -> dict[str, Any]:
    fields = _object(value, where)
    values = {name: _field(fields, name, where, reader) for name, reader in _RUN_FIELDS.items()}
    if "metric" in fields:  # older files lack it
        values["metric"] = _string(fields["metric"], f"{where}.metric")
    for name in ("steps", "skipped_steps"):
        if name in fields:
            values[name] = _integer(fields[name], f"{where}.{name}")
    if fields.get("radius_warning") is not None:
        values["radius_warning"] = _string(fields["radius_warning"], f"{where}.radius_warning")
    if "metrics" in fields:
        named = _object(fields["metrics"], f"{where}.metrics")
        values["metrics"] = {name: _number(value, f"{where}.metrics.{name}") for name, value in named.items()}
    if "hyperparameters" in fields:
        named = _object(fields["hyperparameters"], f"{where}.hyperparameters")
        values["hyperparameters"] = {n: _number(v, f"{where}.hyperparameters.{n}") for n, v in named.items()}
    if "continued_at" in fields:
        where_at = f"{where}.continued_at"
        items = _array(fields["continued_at"], where_at)
        values["continued_at"] = tuple(_integer(item, f"{where_at}[{i}]") for i, item in enumerate(items))
    if "shifted" in fields:
        tests = _object(fields["shifted"], f"{where}.shifted")
        values["shifted"] = {name: _shifted(test, f"{where}.shifted.{name}") for name, test in tests.items()}
    if "lower_is_better" in fields:
        values["lower_is_better"] = _boolean(fields["lower_is_better"], f"{where}.lower_is_better")
    return values


def _shifted(value: Any, where: str) -> dict[str, float | None]:
    fields = _object(value, where)
    numbers = {name: _field(fields, name, where, _number) for name in ("metric", "loss")}
    return numbers | {"calibration_error": _field(fields, "calibration_error", where, _optional_number)}


def _pairs(value: Any, where: str) -> tuple[tuple[str, str], ...]:
    pairs: list[tuple[str, str]] = []
    for index, item in enumerate(_array(value, where)):
        pair = _array(item, f"{where}[{index}]")
        if len(pair) != 2:
            raise SchemaError(f"expected {where}[{index}] to hold two strings, got {len(pair)}")
        pairs.append((_string(pair[0], f"{where}[{index}][0]"), _string(pair[1], f"{where}[{index}][1]")))
    return tuple(pairs)


def _audit(value: Any) -> dict[str, Any]:
    fields = _object(value, "audit")
    found: list[dict[str, Any]] = []
    for index, item in enumerate(_field(fields, "findings", "audit", _array)):
        where = f"audit.findings[{index}]"
        finding = _object(item, where)
        texts = {name: _field(finding, name, where, _string) for name in ("code", "severity", "what", "change")}
        numbers = {name: _field(finding, name, where, _optional_integer) for name in ("count", "total")}
        samples = _field(finding, "samples", where, _array)
        names = [_string(sample, f"{where}.samples[{i}]") for i, sample in enumerate(samples)]
        found.append({**finding, **texts, **numbers, "samples": names})
    return {**fields, "findings": found, "measures": _field(fields, "measures", "audit", _object)}


def _history(value: Any, where: str) -> dict[str, list[Any]]:
    columns = _object(value, where)
    readers: dict[str, Reader] = {
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
            raise SchemaError(f"expected {where}.{name} to hold {expected}, got {len(items)}")
    if "rho_schedule" in columns:
        history["rho_schedule"] = _schedule(columns["rho_schedule"], f"{where}.rho_schedule")
    return history


def _schedule(value: Any, where: str) -> list[Any]:
    """One radius for each step, or one list of radii for each step, all of one length."""
    items = _array(value, where)
    if not (items and isinstance(items[0], list)):
        return [_number(item, f"{where}[{i}]") for i, item in enumerate(items)]
    rows = [_array(item, f"{where}[{i}]") for i, item in enumerate(items)]
    count = max(len(rows[0]), 1)
    for i, row in enumerate(rows):
        if len(row) != count:
            raise SchemaError(f"expected {where}[{i}] to hold {count} radii, as many as the first, got {len(row)}")
    return [[_number(rho, f"{where}[{i}][{j}]") for j, rho in enumerate(row)] for i, row in enumerate(rows)]


def _field(fields: Mapping[str, Any], name: str, where: str, reader: Reader) -> Any:
    full = f"{where}.{name}" if where else name
    if name not in fields:
        raise SchemaError(f"expected the field {full}, but it is missing")
    return reader(fields[name], full)


def _object(value: Any, where: str) -> dict[str, Any]:
    return _typed(value, where, "an object", dict)


def _array(value: Any, where: str) -> list[Any]:
    return _typed(value, where, "a list", list)


def _string(value: Any, where: str) -> str:
    return _typed(value, where, "a string", str)


def _boolean(value: Any, where: str) -> bool:
    if not isinstance(value, bool):
        raise SchemaError(f"expected {where} to be true or false, got {_shown(value)}")
    return value


def _integer(value: Any, where: str) -> int:
    if abs(_typed(value, where, "an integer", int)) >= 2**63:
        raise SchemaError(f"expected {where} to be an integer of less than 64 bits, got {_shown(value)}")
    return value


def _optional_integer(value: Any, where: str) -> int | None:
    return None if value is None else _integer(value, where)


def _epoch(value: Any, where: str) -> float:
    _number(_typed(value, where, "a number", (int, float)), where)
    return value


def _number(value: Any, where: str) -> float:
    """The number as a float; `json` reads 1e999 as infinity, and integers of any size."""
    if value is None:
        return math.nan
    try:
        number = float(_typed(value, where, "a number", (int, float)))
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise SchemaError(f"expected {where} to be a number that a double can hold, got {_shown(value)}")
    return number


def _optional_number(value: Any, where: str) -> float | None:
    return None if value is None else _number(value, where)


def _typed(value: Any, where: str, expected: str, kind: type | tuple[type, ...]) -> Any:
    # In Python a bool is an int, but in a file true is not a number.
    if not isinstance(value, kind) or isinstance(value, bool):
        raise SchemaError(f"expected {where} to be {expected}, got {_shown(value)}")
    return value


def _shown(value: Any) -> str:
    shown = json.dumps(value)
    return shown if len(shown) <= 40 else f"{shown[:37]}..."


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
