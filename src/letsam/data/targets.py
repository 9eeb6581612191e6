"""The target of a table: told apart as classes, labels or numbers, and encoded."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from letsam.data.problems import DataError
from letsam.data.table_files import Column, Frame, first_names, import_pandas

MOST_CLASSES = 20  # of whole numbers; more are numbers to predict
ROWS_PER_CLASS = 5  # on average; fewer mean that the values do not repeat
SHOWN = 10  # classes in a row of the table of what was inferred
DELIMITERS = ("|", ";")  # between the labels of a cell; a comma as well where the user says that there are several


@dataclass(frozen=True)
class TargetPlan:
    """How targets are encoded.

    Args:
        kind: "classification", "multilabel" or "regression".
        columns: of the target.
        classes: their names in order, or those of the labels; empty for regression.
        delimiter: between the labels of one cell; None where each label has a column, and for other kinds.
    """

    kind: str
    columns: tuple[str, ...]
    classes: tuple[str, ...] = ()
    delimiter: str | None = None

    @property
    def outputs(self) -> int:
        """Numbers in the output of a model for one sample."""
        return len(self.classes) or len(self.columns)

    def encode(self, frame: Frame, path: str) -> Tensor:
        """The targets of all rows, of which none is missing.

        Returns:
            Classes, int64, ``(n,)``; labels of 0 and 1, float32, ``(n, labels)``; or numbers, float32, ``(n,)`` or
            ``(n, columns)``.

        Raises:
            DataError: a class or label that is not known, or no number.
        """
        if self.kind == "regression":
            columns = [_numbers(frame, name, path) for name in self.columns]
            return columns[0] if len(columns) == 1 else torch.stack(columns, dim=1)
        if self.kind == "multilabel" and self.delimiter is None:
            return torch.stack([_switch(frame[name], path) for name in self.columns], dim=1)
        place = {name: index for index, name in enumerate(self.classes)}
        (column,) = self.columns
        rows = [_parts(value, self.delimiter) for value in frame[column].tolist()]
        for names in rows:
            for name in names:
                if name not in place:
                    raise DataError(
                        f"{path}: its {column!r} has the class {name!r}, which no training row has; leave out such rows"
                    )
        if self.kind == "classification":
            return torch.tensor([place[names[0]] for names in rows])
        encoded = torch.zeros(len(rows), len(self.classes))
        for row, names in enumerate(rows):
            encoded[row, [place[name] for name in names]] = 1.0
        return encoded


def plan_targets(frame: Frame, columns: tuple[str, ...], kind: str | None, path: str) -> TargetPlan:
    """Tell what the target is.

    Text, true and false are classes. Whole numbers are classes if there are at most 20 different ones that repeat;
    other numbers are numbers to predict. Several columns are labels if each has two values such as 0 and 1, else
    numbers. Cells such as ``red|round`` are labels.

    Args:
        frame: rows whose target is not missing.
        columns: of the target.
        kind: what the user says; None: told from the values.
        path: of the file, for errors.

    Raises:
        DataError: the target cannot be used; one line.
    """
    if len(columns) != 1:
        return _several(frame, columns, kind, path)
    column = columns[0]
    values = frame[column]
    if kind == "multilabel" or (kind is None and _is_text(values) and _delimiter(values, DELIMITERS)):
        delimiter = _delimiter(values, (*DELIMITERS, ","))
        if delimiter is None:
            raise DataError(f"{path}: expected cells with several labels in {column!r}, such as red|round, got none")
        labels = sorted({name for value in values.tolist() for name in _parts(value, delimiter)})
        return TargetPlan("multilabel", columns, tuple(labels), delimiter)
    if kind == "regression" or (kind is None and not _are_classes(values)):
        numbers = _numbers(frame, column, path)
        if len(numbers) and bool((numbers == numbers[0]).all()):
            raise DataError(
                f"{path}: expected different values in the target {column!r}, got {float(numbers[0]):g} only"
            )
        return TargetPlan("regression", columns)
    classes = _sorted_classes(values)
    if len(classes) < 2:
        raise DataError(f"{path}: expected at least 2 classes in {column!r}, got {_shown(classes)}")
    if len(classes) > max(2, len(values) / 2):
        raise DataError(
            f"{path}: expected classes that repeat in {column!r}, got {len(classes)} different values in {len(values)} "
            "rows; for numbers to predict, add --kind regression"
        )
    return TargetPlan("classification", columns, classes)


def known_plan(frame: Frame, columns: tuple[str, ...], kind: str, classes: tuple[str, ...], path: str) -> TargetPlan:
    """How a target is encoded whose kind and classes are known.

    Args:
        frame: rows whose target is not missing.
        columns: of the target.
        kind: "classification", "multilabel" or "regression".
        classes: names of the classes or labels.
        path: of the file, for errors.

    Raises:
        DataError: the labels of a cell are divided by none of the usual marks.
    """
    if kind != "multilabel" or columns == classes:
        return TargetPlan(kind, columns, classes)
    cells = {str(value) for value in frame[columns[0]].unique()}
    for mark in (*DELIMITERS, ","):
        if all(set(_parts(cell, mark)) <= set(classes) for cell in cells):
            return TargetPlan(kind, columns, classes, mark)
    for mark in (*DELIMITERS, ","):  # the class that is not known is named where cells are encoded
        if any(mark in cell for cell in cells):
            return TargetPlan(kind, columns, classes, mark)
    return TargetPlan(kind, columns, classes, DELIMITERS[0])


def class_name(value: Any) -> str:
    """A value as the name of a class: whole numbers have no decimals, whatever their type.

    Example:
        >>> class_name(1.0), class_name(True), class_name(" a ")
        ('1', 'True', 'a')
    """
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).strip()


def _several(frame: Frame, columns: tuple[str, ...], kind: str | None, path: str) -> TargetPlan:
    if len(set(columns)) < len(columns):
        raise DataError(f"`target` must not repeat a column, got {', '.join(columns)}")
    if kind == "classification":
        raise DataError(f"`target` must be one column for classification, got {', '.join(columns)}")
    labels = all(set(map(class_name, frame[name].unique())) <= _ON | _OFF for name in columns)
    if kind == "multilabel" or (kind is None and labels):
        for name in columns:
            _switch(frame[name], path)
        return TargetPlan("multilabel", columns, columns)
    for name in columns:
        _numbers(frame, name, path)
    return TargetPlan("regression", columns)


_ON = {"1", "True", "true", "yes", "Yes"}
_OFF = {"0", "False", "false", "no", "No"}


def _switch(values: Column, path: str) -> Tensor:
    names = [class_name(value) for value in values.tolist()]
    if wrong := [name for name in names if name not in _ON | _OFF]:
        raise DataError(f"{path}: expected 0 and 1, true and false or yes and no in {values.name!r}, got {wrong[0]!r}")
    return torch.tensor([float(name in _ON) for name in names])


def _numbers(frame: Frame, name: str, path: str) -> Tensor:
    pandas = import_pandas()

    numbers = pandas.to_numeric(frame[name], errors="coerce")
    wrong = frame[name][~(numbers.abs() < math.inf)]
    if len(wrong) or not pandas.api.types.is_numeric_dtype(numbers):
        found = class_name(wrong.iloc[0]) if len(wrong) else str(numbers.dtype)
        raise DataError(f"{path}: expected numbers in the target {name!r}, got {found!r}; for classes, say --kind")
    values = torch.tensor(numbers.to_numpy("float64"), dtype=torch.float32)
    if not bool(values.isfinite().all()):
        raise DataError(f"{path}: expected numbers that float32 can hold in the target {name!r}, got larger ones")
    return values


def _is_text(values: Column) -> bool:
    pandas = import_pandas()

    return not pandas.api.types.is_numeric_dtype(values)


def _are_classes(values: Column) -> bool:
    pandas = import_pandas()

    kinds = pandas.api.types
    if kinds.is_datetime64_any_dtype(values):
        return False
    if kinds.is_bool_dtype(values) or _is_text(values):
        return True
    if not all(float(value).is_integer() for value in values.unique()):
        return False
    distinct = values.nunique()
    return distinct <= MOST_CLASSES and distinct <= max(2, len(values) / ROWS_PER_CLASS)


def _sorted_classes(values: Column) -> tuple[str, ...]:
    names = {class_name(value) for value in values.unique()}
    numeric = all(re.fullmatch(r"[+-]?\d+(\.\d+)?", name) for name in names)
    return tuple(sorted(names, key=(lambda name: (float(name), name)) if numeric else None))


def _delimiter(values: Column, marks: tuple[str, ...]) -> str | None:
    """The mark that divides cells into parts of which some are in several different cells."""
    cells = {str(value) for value in values.unique()}
    for mark in marks:
        parts = [part for cell in cells for part in set(_parts(cell, mark))]
        if any(mark in cell for cell in cells) and len(set(parts)) < len(parts):
            return mark
    return None


def _parts(value: Any, delimiter: str | None) -> list[str]:
    if delimiter is None:
        return [class_name(value)]
    return [part.strip() for part in str(value).split(delimiter) if part.strip()]


def _shown(names: tuple[str, ...]) -> str:
    return repr(names[0]) + " only" if names else "none"


def class_counts(classes: tuple[str, ...], targets: Tensor) -> list[tuple[str, str]]:
    """Rows about the targets of the training data, for the table of what was inferred.

    Args:
        classes: names of the classes or labels; empty for numbers.
        targets: as `TargetPlan.encode` gives them.

    Example:
        >>> class_counts(("no", "yes"), torch.tensor([0, 0, 0, 1]))
        [('classes', '2: no 3, yes 1'), ('largest class', '3 times the smallest')]
    """
    if not classes:
        low, high, mean = (float(value) for value in (targets.min(), targets.max(), targets.double().mean()))
        return [("target", f"{low:g} to {high:g}, mean {mean:g}")]
    labels = targets.ndim > 1
    counts = (targets.sum(dim=0).long() if labels else torch.bincount(targets, minlength=len(classes))).tolist()
    shown = first_names([f"{name} {count:,}" for name, count in zip(classes, counts, strict=True)], SHOWN)
    rows = [("labels" if labels else "classes", f"{len(classes)}: {shown}")]
    if not labels and min(counts) > 0:
        rows.append(("largest class", f"{max(counts) / min(counts):.3g} times the smallest"))
    return rows
