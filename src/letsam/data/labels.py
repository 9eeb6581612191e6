"""Targets of labelled files and arrays: which kind they are, and their numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from letsam.data.loaded import sizes_text
from letsam.data.problems import DataError
from letsam.data.targets import MOST_CLASSES

IMBALANCE = 3.0  # from this ratio of the largest class to the smallest on, the table says so


@dataclass(frozen=True)
class Labels:
    """How the values of a target are made targets.

    Args:
        kind: "classification", "multilabel" or "regression".
        classes: names of the classes or labels, in the order of their numbers.
    """

    kind: str
    classes: tuple[str, ...] = ()

    @classmethod
    def of(cls, values: Sequence[Any], kind: str | None, place: str, names: Sequence[str] = ()) -> Labels:
        """Tell the kind of a target from the values of the training data.

        Strings, booleans and few different whole numbers are classes; other numbers are to be predicted; rows of 0 and
        1 are labels, of which a sample may have several.

        Args:
            values: one for each sample: text, a number, or a row of numbers.
            kind: as the user says; None: told from the values.
            place: what the values are, for errors.
            names: of the labels in a row.

        Raises:
            DataError: a value is missing, there is a single class, or the values do not fit the kind.

        Example:
            >>> Labels.of(["cat", "dog", "cat"], None, "labels"), Labels.of([3, 1, 2, 1], None, "labels").classes
            (Labels(kind='classification', classes=('cat', 'dog')), ('1', '2', '3'))
        """
        _check_present(values, place)
        found = kind or _kind_of(values)
        if found == "regression":
            if any(isinstance(value, str) for value in values):
                shown = next(value for value in values if isinstance(value, str))
                raise DataError(f"{place}: expected numbers for regression, got {shown!r}")
            return cls(found)
        if found == "multilabel":
            if not all(_is_row(value) and set(value) <= {0, 1} for value in values):
                raise DataError(f"{place}: expected rows of 0 and 1 for multilabel, got others")
            count = len(values[0])
            return cls(found, tuple(names if len(names) == count else map(str, range(count))))
        classes = sorted({_plain(value) for value in values}, key=_order)
        if len(classes) < 2:
            found_one = f"{classes[0]} alone" if classes else "none"
            raise DataError(f"{place}: expected at least 2 classes, got {found_one}")
        return cls(found, tuple(map(str, classes)))

    def targets(self, values: Sequence[Any], place: str) -> Tensor:
        """The targets: classes from 0, rows of 0.0 and 1.0, or numbers.

        Raises:
            DataError: a value is missing, or a class that the training data do not have.
        """
        _check_present(values, place)
        if self.kind != "classification":
            try:
                return torch.tensor([[*map(float, v)] if _is_row(v) else float(v) for v in values])
            except (TypeError, ValueError) as error:
                raise DataError(f"{place}: expected numbers, got {' '.join(str(error).split())}") from error
        places = {name: number for number, name in enumerate(self.classes)}
        names = [label_name(value) for value in values]
        unseen = [name for name in names if name not in places]
        if unseen:
            raise DataError(
                f"{place}: expected classes that the training data have, got {unseen[0]!r} "
                f"in {len(unseen)} of {len(names)} samples"
            )
        return torch.tensor([places[name] for name in names], dtype=torch.int64)

    @property
    def outputs(self) -> int:
        """Numbers that a model returns for a sample, where a target is not a row of them."""
        return len(self.classes) or 1

    def rows(self, train: Tensor, test: Tensor) -> list[tuple[str, str]]:
        """What the table says about the targets."""
        rows = [("kind", self.kind)]
        if self.kind == "classification":
            sizes = torch.bincount(train, minlength=len(self.classes)).tolist()
            rows.append(("classes", _shown_sizes(self.classes, sizes)))
            small, large = min(sizes), max(sizes)
            if large >= IMBALANCE * small:
                rows.append(("imbalance", f"the largest class has {large / max(small, 1):.1f} times the smallest"))
            single = [name for name, size in zip(self.classes, sizes, strict=True) if size == 1]
            if single:
                rows.append(("warning", f"{_several(single)} a single training sample"))
            absent = [name for i, name in enumerate(self.classes) if not bool((test == i).any())]
            if absent:
                rows.append(("warning", f"{_several(absent)} no test sample"))
        elif self.kind == "multilabel":
            rows.append(("labels", _shown_sizes(self.classes, train.sum(0).long().tolist())))
        else:
            rows.append(("target", f"{float(train.min()):.4g} to {float(train.max()):.4g}, mean {train.mean():.4g}"))
        rows.append(("samples", sizes_text(len(train), len(test))))
        return rows


def _check_present(values: Sequence[Any], place: str) -> None:
    missing = sum(value is None or (isinstance(value, float) and math.isnan(value)) for value in values)
    missing += sum(_is_row(value) and any(math.isnan(float(one)) for one in value) for value in values)
    if missing:
        raise DataError(f"{place}: expected a value for every sample, got {missing} of {len(values)} without one")


def _kind_of(values: Sequence[Any]) -> str:
    if all(_is_row(value) for value in values):
        return "multilabel" if all(set(value) <= {0, 1} for value in values) else "regression"
    if any(isinstance(value, str | bool) for value in values):
        return "classification"
    whole = all(float(value).is_integer() for value in values)
    return "classification" if whole and len({float(value) for value in values}) <= MOST_CLASSES else "regression"


def _is_row(value: object) -> bool:
    return isinstance(value, list | tuple)


def label_name(value: Any) -> str:
    """A value as the name of a class; a whole number has no decimals.

    Example:
        >>> label_name(2.0), label_name("cat")
        ('2', 'cat')
    """
    return str(_plain(value))


def _plain(value: Any) -> Any:
    """A number that is whole is the same class as that number with a decimal point."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _order(value: Any) -> tuple[int, float, str]:
    """Numbers by size, before texts by their letters."""
    return (1, 0.0, value) if isinstance(value, str) else (0, float(value), "")


def _several(names: Sequence[str]) -> str:
    shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more classes" if len(names) > 3 else "")
    return f"{shown} {'has' if len(names) == 1 else 'have'}"


def _shown_sizes(names: Sequence[str], sizes: Sequence[int], limit: int = 10) -> str:
    shown = ", ".join(f"{name} ({size:,})" for name, size in list(zip(names, sizes, strict=True))[:limit])
    return f"{len(names)}: {shown}{', ...' if len(names) > limit else ''}"


def shared_between(train: Sequence[str], other: Sequence[str], name: str = "test") -> list[tuple[str, str]]:
    """A warning if samples of the test or validation data are in the training data as well.

    Args:
        train: a digest for each training sample.
        other: a digest for each test or validation sample.
        name: of the other data.

    Example:
        >>> shared_between(["a", "b"], ["b", "c"])
        [('warning', '1 of 2 test samples is in the training data as well')]
    """
    known = set(train)
    count = sum(digest in known for digest in other)
    if not count:
        return []
    return [("warning", f"{count} of {len(other)} {name} samples {_is(count)} in the training data as well")]


def _is(count: int) -> str:
    return "is" if count == 1 else "are"
