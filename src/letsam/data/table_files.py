"""CSV, TSV and Parquet files, read by pandas, with errors of one line."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from letsam.data.problems import DataError
from letsam.results.nearest import did_you_mean
from letsam.tasks.text import load_package

PARQUET = (".parquet", ".pq")

Frame = Any
"""A `pandas.DataFrame`; pandas is imported when a table is read, and its types are not complete."""

Column = Any
"""A `pandas.Series`."""


def import_pandas() -> Any:
    """The module pandas.

    Raises:
        TaskError: it is not installed.
    """
    return load_package("pandas", "tables", extra="trial")


def read_frame(path: str, missing: tuple[str, ...] = ()) -> Frame:
    """Read a table.

    The separator of a CSV file is a comma, or a semicolon or a tab where its first line has that and no comma.

    Args:
        path: of the file.
        missing: texts that stand for missing values, besides empty cells and those that pandas knows (NA, nan, null).

    Returns:
        The table, with at least one row and one column. The names of its columns are strings.

    Raises:
        DataError: the file cannot be read as a table, or has no rows.
    """
    pandas = import_pandas()
    if not Path(path).is_file():
        raise DataError(f"{path}: expected a table, but there is no such file")
    try:
        frame = _parquet(pandas, path) if Path(path).suffix.lower() in PARQUET else _separated(pandas, path, missing)
    except pandas.errors.EmptyDataError:
        raise DataError(f"{path}: expected a table with a header and rows, got an empty file") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: expected UTF-8 text, got the byte {error.object[error.start]:#x}") from None
    except (pandas.errors.ParserError, ValueError, OSError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{path}: expected a table, which pandas can read: {reason}") from error
    names = [str(name).strip() for name in frame.columns]
    if repeated := [name for index, name in enumerate(names) if name in names[:index]]:
        raise DataError(f"{path}: expected columns with different names, got {repeated[0]!r} twice")
    frame.columns = names
    if not len(frame.columns) or not len(frame):
        raise DataError(f"{path}: expected a table with a header and rows, got no rows")
    return frame.reset_index(drop=True)


def need_columns(path: str, frame: Frame, names: dict[str, tuple[str, ...]]) -> None:
    """Raise DataError unless the table has all columns.

    Args:
        path: of the file.
        frame: the table.
        names: columns, by the option that names them.
    """
    for option, columns in names.items():
        for column in columns:
            if column not in frame.columns:
                known = [str(name) for name in frame.columns]
                expected, hint = f"one of its columns {first_names(known, 30)}", did_you_mean(column, known)
                raise DataError(f"{path}: `{option}` must name {expected}, got {column!r}{hint}")


def _parquet(pandas: Any, path: str) -> Frame:
    load_package("pyarrow", "Parquet files", extra="trial")
    frame = pandas.read_parquet(path)
    named = [name for name in frame.index.names if name is not None]
    return frame.reset_index() if named else frame


def _separated(pandas: Any, path: str, missing: tuple[str, ...]) -> Frame:
    options = {"na_values": list(missing), "skipinitialspace": True, "low_memory": False, "encoding": "utf-8-sig"}
    if ".tsv" in [suffix.lower() for suffix in Path(path).suffixes]:
        return pandas.read_csv(path, sep="\t", **options)
    whole = {"header": None, "sep": "\x1f", "quoting": csv.QUOTE_NONE, "dtype": str, "engine": "python"}
    header = pandas.read_csv(path, nrows=1, encoding="utf-8-sig", **whole)
    line = str(header.iloc[0, 0])
    separator = next((mark for mark in (",", ";", "\t") if mark in line), ",")
    frame = pandas.read_csv(path, sep=separator, **options)
    if separator == ",":
        return frame
    with_comma = pandas.read_csv(path, sep=separator, decimal=",", **options)  # as where a comma marks decimals
    numbers = [len(table.select_dtypes("number").columns) for table in (frame, with_comma)]
    return with_comma if numbers[1] > numbers[0] else frame


def first_names(names: Sequence[str], most: int) -> str:
    """The first names, and how many there are more.

    Example:
        >>> first_names(["a", "b", "c"], 2)
        'a, b and 1 more'
    """
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
