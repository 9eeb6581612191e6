"""Folders of files with labels: one folder for each class, or a table of file names and targets."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from letsam.data.problems import DataError
from letsam.data.table_files import import_pandas
from letsam.results.nearest import did_you_mean

TABLES = ("metadata.csv", "metadata.tsv", "metadata.jsonl", "metadata.parquet")
NAME_COLUMNS = ("file_name", "filename", "file", "path", "image", "audio")
TARGET_COLUMNS = ("label", "target", "class", "category", "y")
_SPLITS = {
    "train": ("train", "training"),
    "test": ("test", "testing"),
    "validation": ("validation", "valid", "val", "dev"),
}


P = TypeVar("P")

Content = Path | bytes
"""An encoded picture or recording."""


def read_content(content: Content) -> tuple[bytes, str]:
    """What an encoded picture or recording holds, and its digest."""
    data = content if isinstance(content, bytes) else content.read_bytes()
    return data, hashlib.sha256(data).hexdigest()


@dataclass
class LabelledFiles:
    """The files of one part of the data, in the order of their names.

    Args:
        place: where they are, for errors, such as their folder.
        contents: the files, or what they hold.
        names: of the files, as seen from the folder.
        labels: one for each file: a class's name, the value in the table, or a row of several values.
        columns: of the table whose values are labels.
        others: files of other kinds, which are not read.
        empty: folders without a file that is read.
        groups: a number for each file, by the column of the group, or None.
        times: a number for each file, by the column of the time, or None.
    """

    place: str
    contents: Sequence[Content]
    names: list[str]
    labels: list[Any]
    columns: tuple[str, ...] = ()
    others: list[str] = field(default_factory=list[str])
    empty: list[str] = field(default_factory=list[str])
    groups: Tensor | None = None
    times: Tensor | None = None

    def select(self, places: Sequence[int]) -> LabelledFiles:
        """Some of the files."""
        chosen = torch.tensor(list(places), dtype=torch.int64)
        return LabelledFiles(
            self.place,
            Picked.of(self.contents, places),
            [self.names[i] for i in places],
            [self.labels[i] for i in places],
            self.columns,
            self.others,
            self.empty,
            None if self.groups is None else self.groups[chosen],
            None if self.times is None else self.times[chosen],
        )

    def rows(self) -> list[tuple[str, str]]:
        """What the table says about files that are not read."""
        rows: list[tuple[str, str]] = []
        if self.others:
            count = len(self.others)
            text = f"{count} files of other kinds, such as" if count > 1 else "1 file of another kind:"
            rows.append(("not read", f"{text} {self.others[0]}"))
        if self.empty:
            rows.append(("empty folders", ", ".join(self.empty[:3]) + (", ..." if len(self.empty) > 3 else "")))
        return rows


class Picked(Sequence[Any]):
    """Some of the elements of a sequence, each read when it is asked for."""

    def __init__(self, elements: Sequence[Any], places: Sequence[int]) -> None:
        self.elements, self.places = elements, list(places)

    @classmethod
    def of(cls, elements: Sequence[Any], places: Sequence[int]) -> Sequence[Any]:
        """A list of a list; else the elements are left where they are."""
        return [elements[i] for i in places] if isinstance(elements, list) else cls(elements, places)

    def __len__(self) -> int:
        """The number of elements."""
        return len(self.places)

    def __getitem__(self, index: Any) -> Any:
        """An element."""
        return self.elements[self.places[index]]


@dataclass(frozen=True)
class WantedFiles:
    """Which files are read, and which columns of a table.

    Args:
        suffixes: of the files, lower case.
        what: the files, for errors, such as "images".
        targets: columns of the target; none: found by its name.
        group: column of the group.
        time: column of the time.
    """

    suffixes: tuple[str, ...]
    what: str
    targets: tuple[str, ...] = ()
    group: str | None = None
    time: str | None = None


def split_of(name: str) -> str | None:
    """The part of the data that a split or folder of this name has; None: no usual name.

    Example:
        >>> split_of("Train"), split_of("val"), split_of("flowers")
        ('train', 'validation', None)
    """
    return next((part for part, names in _SPLITS.items() if name.lower() in names), None)


def with_test(parts: dict[str, P]) -> dict[str, P]:
    """The parts of the data; without test data, validation data are the test data.

    Example:
        >>> with_test({"train": "a", "validation": "b"})
        {'train': 'a', 'test': 'b'}
    """
    if "test" not in parts and "validation" in parts:
        parts["test"] = parts.pop("validation")
    return parts


def part_folders(root: Path) -> dict[str, Path]:
    """The folders of "train", "test" and "validation", or of "train" alone: the folder itself."""
    folders = [path for path in _listed(root) if path.is_dir()]
    found: dict[str, Path] = {}
    for path in folders:
        part = split_of(path.name)
        if part is not None:
            found.setdefault(part, path)
    if "train" not in found or len(found) < len(folders):  # a class may be named "train"
        return {"train": root}
    return with_test(found)


def labelled_files(root: Path, wanted: WantedFiles) -> LabelledFiles:
    """Find the files of one part, and their labels. No file but a table is opened.

    Raises:
        DataError: there are none, or some have no label.
    """
    if not root.is_dir():
        raise DataError(f"{root}: expected a folder of {wanted.what}, got {'a file' if root.exists() else 'none'}")
    for name in TABLES:
        if (root / name).is_file():
            return _from_table(root, root / name, wanted)
    for option in ("targets", "group", "time"):
        if getattr(wanted, option):
            raise DataError(f"{root}: `{option.rstrip('s')}` needs a table {TABLES[0]} in the folder, got none")
    paths: list[Path] = []
    loose: list[str] = []
    found = LabelledFiles(str(root), paths, [], [])
    for path in _listed(root):
        below = list(files_below(path)) if path.is_dir() else [path]
        mine = [one for one in below if one.suffix.lower() in wanted.suffixes]
        found.others += [str(one.relative_to(root)) for one in below if one.suffix.lower() not in wanted.suffixes]
        if not path.is_dir():
            loose += [one.name for one in mine]
            continue
        paths += mine
        found.names += [str(one.relative_to(root)) for one in mine]
        found.labels += [path.name] * len(mine)
        if not mine:
            found.empty.append(path.name)
    if loose and paths:
        raise DataError(
            f"{root}: expected all {wanted.what} in the folders of their classes, got {len(loose)} outside them, "
            f"such as {loose[0]}"
        )
    if not paths:
        got = f"{len(loose)} {wanted.what} without a class" if loose else f"no {wanted.what}"
        also = f" and {len(found.others)} other files, such as {found.others[0]}" if found.others else ""
        raise DataError(f"{root}: expected a folder of {wanted.what} for each class, or {TABLES[0]}, got {got}{also}")
    return found


def unlabelled_files(path: Path, wanted: WantedFiles) -> tuple[list[Path], list[str]]:
    """A file, or all files in a folder and the folders in it, in the order of their names; with the names.

    Raises:
        DataError: there are none.
    """
    if path.is_file():
        return [path], [path.name]
    paths = [one for one in files_below(path) if one.suffix.lower() in wanted.suffixes] if path.is_dir() else []
    if not paths:
        raise DataError(f"{path}: expected {wanted.what}, got {'none' if path.exists() else 'no such file or folder'}")
    return paths, [str(one.relative_to(path)) for one in paths]


def suffixes_below(root: Path) -> set[str]:
    """The suffixes of all files in a folder and the folders in it, lower case."""
    return {path.suffix.lower() for path in files_below(root)}


def _listed(folder: Path) -> list[Path]:
    """What is in a folder, by name, but for hidden files."""
    return sorted((p for p in folder.iterdir() if not p.name.startswith(".")), key=lambda p: p.name)


def files_below(folder: Path) -> Iterable[Path]:
    """All files in a folder and the folders in it, by name, but for hidden ones."""
    for where, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(where) / name for name in sorted(names) if not name.startswith("."))


def _from_table(root: Path, table: Path, wanted: WantedFiles) -> LabelledFiles:
    frame = _frame(table)
    columns = [str(name) for name in frame.columns]
    name_column = next((name for name in NAME_COLUMNS if name in columns), None)
    if name_column is None:
        raise DataError(f"{table}: expected the column file_name, got {', '.join(columns)}")
    targets = _target_columns(table, columns, name_column, wanted)
    for option in (wanted.group, wanted.time):
        if option is not None and option not in columns:
            hint = did_you_mean(option, columns)
            raise DataError(f"{table}: expected the column {option}, got {', '.join(columns)}{hint}")
    names = [str(name) for name in frame[name_column]]
    paths = [root / name for name in names]
    missing = [name for name, path in zip(names, paths, strict=True) if not path.is_file()]
    if missing:
        raise DataError(f"{table}: expected files that exist, got {missing[0]}{_more(missing)}")
    if not names:
        raise DataError(f"{table}: expected at least 1 row, got 0")
    listed = set(paths)
    others = [str(p.relative_to(root)) for p in files_below(root) if p not in listed and p.name not in TABLES]
    return LabelledFiles(
        str(table),
        paths,
        names,
        frame[targets[0]].tolist() if len(targets) == 1 else [*map(tuple, frame[targets].to_numpy().tolist())],
        tuple(targets),
        others,
        groups=None if wanted.group is None else column_codes(frame[wanted.group]),
        times=None if wanted.time is None else column_moments(frame[wanted.time], str(table), wanted.time),
    )


def _target_columns(table: Path, columns: list[str], name_column: str, wanted: WantedFiles) -> list[str]:
    for name in wanted.targets:
        if name not in columns:
            hint = did_you_mean(name, columns)
            raise DataError(f"{table}: expected the column {name}, got {', '.join(columns)}{hint}")
    if wanted.targets:
        return list(wanted.targets)
    left = [name for name in columns if name not in (name_column, wanted.group, wanted.time)]
    named = [name for name in TARGET_COLUMNS if name in left]
    if not named and len(left) != 1:
        raise DataError(f"{table}: expected --target COLUMN, one of {', '.join(left) or 'no columns'}")
    return [named[0] if named else left[0]]


def _frame(table: Path) -> Any:
    pd = import_pandas()

    readers: dict[str, Any] = {
        ".csv": pd.read_csv,
        ".tsv": lambda path: pd.read_csv(path, sep="\t"),
        ".jsonl": lambda path: pd.read_json(path, lines=True),
        ".parquet": pd.read_parquet,
    }
    try:
        return readers[table.suffix](table)
    except Exception as error:  # pandas raises many types
        raise DataError(f"{table}: cannot be read as a table ({' '.join(str(error).split())})") from error


def column_codes(column: Any) -> Tensor:
    """A whole number for each value of a column of pandas; equal values have the same."""
    pd = import_pandas()

    return torch.from_numpy(pd.factorize(column, use_na_sentinel=False)[0].astype("int64"))


def column_moments(column: Any, place: str, name: str) -> Tensor:
    """Numbers or dates of a column of pandas as float64; `place` and `name` say which, for errors."""
    pd = import_pandas()

    try:
        numbers = column if pd.api.types.is_numeric_dtype(column) else pd.to_datetime(column).astype("int64")
    except (ValueError, TypeError) as error:
        raise DataError(f"{place}: expected numbers or dates in {name}, got {' '.join(str(error).split())}") from error
    return torch.tensor(numbers.astype("float64").to_numpy(copy=True))


def _more(names: Sequence[str]) -> str:
    return f" and {len(names) - 1} more" if len(names) > 1 else ""
