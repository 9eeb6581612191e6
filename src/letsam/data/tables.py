"""Tables whose columns are inputs: read, prepared, and prepared in the same way for new files."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, TensorDataset

from letsam.data.columns import (
    CategoryColumn,
    NumberColumn,
    TableColumns,
    categories_in,
    fit_columns,
    inputs_of,
    numbers_in,
    tell_columns,
)
from letsam.data.data_options import DataOptions
from letsam.data.divided import DividedTable, read_divided
from letsam.data.known_form import KnownForm
from letsam.data.loaded import LoadedData
from letsam.data.preparation import InputRows, Preparation
from letsam.data.problems import DataError
from letsam.data.reading import name_of
from letsam.data.table_files import Frame, first_names, read_frame

LARGEST = 1e6  # of an input, so that a mistyped number far outside does not become infinite in float32
SHOWN = 8  # names of columns in a row of the table of what was inferred


class TablePreparation(Preparation):
    """Makes inputs of the columns of a table.

    Args:
        columns: their kinds.
        numbers: of the columns of numbers and dates, what was fitted.
        categories: of the columns of categories, what was fitted.
        missing: texts that mean that a value is missing.
    """

    modality = "table"

    def __init__(
        self,
        columns: TableColumns,
        numbers: list[NumberColumn],
        categories: list[CategoryColumn],
        missing: tuple[str, ...] = (),
    ) -> None:
        self.columns, self.numbers, self.categories, self.missing = columns, numbers, categories, missing

    @classmethod
    def fitted(cls, frame: Frame, columns: TableColumns, options: DataOptions) -> tuple[TablePreparation, Tensor]:
        """Fit it to the training rows, and give their inputs."""
        numbers, categories = numbers_in(frame, columns, options.path), categories_in(frame, columns)
        preparation = cls(columns, *fit_columns(numbers, categories), options.missing)
        return preparation, preparation._inputs(numbers, categories)

    def inputs(self, frame: Frame, path: str) -> Tensor:
        """The inputs of the rows of a table, float32, shape ``(n, inputs)``.

        Raises:
            DataError: a column is missing, or holds something else than in the training data.
        """
        wanted = (*self.columns.numbers, *self.columns.dates, *self.columns.categories)
        absent = [name for name in wanted if name not in frame.columns]
        if absent:
            raise DataError(f"{path}: expected the columns of the training data, got none of the name {absent[0]!r}")
        return self._inputs(numbers_in(frame, self.columns, path), categories_in(frame, self.columns))

    def _inputs(self, numbers: Frame, categories: Frame) -> Tensor:
        made = inputs_of(numbers, categories, self.numbers, self.categories)
        return torch.from_numpy(made).clamp(-LARGEST, LARGEST).float()

    def read(self, path: str) -> Dataset[Any]:
        """The inputs of the rows of a file."""
        return InputRows(self.inputs(read_frame(path, self.missing), path))

    def values(self) -> dict[str, Any]:
        """What was fitted."""
        return {
            "columns": {**dataclasses.asdict(self.columns), "left_out": dict(self.columns.left_out)},
            "numbers": [dataclasses.asdict(column) for column in self.numbers],
            "categories": [dataclasses.asdict(column) for column in self.categories],
            "missing": list(self.missing),
        }

    @classmethod
    def restored(cls, values: dict[str, Any], tensors: dict[str, Tensor], folder: Path) -> TablePreparation:
        """The preparation with these values."""
        kinds = {name: tuple(values["columns"][name]) for name in ("numbers", "dates", "categories")}
        columns = TableColumns(**kinds, left_out=values["columns"]["left_out"])
        numbers = [
            NumberColumn(**{**one, "missing": None if one["missing"] is None else tuple(one["missing"])})
            for one in values["numbers"]
        ]
        categories = [
            CategoryColumn(one["name"], tuple(one["common"]), tuple(one["rare"])) for one in values["categories"]
        ]
        return cls(columns, numbers, categories, tuple(values["missing"]))


def read_columns(options: DataOptions, known: KnownForm | None = None) -> LoadedData:
    """Read a table whose columns are inputs.

    Raises:
        DataError: the data cannot be used; one line.
    """
    fitted = None if known is None else known.prepared_by(TablePreparation, options.path)
    table = read_divided(options, known)
    if fitted is None:
        columns = tell_columns(table.train, options.path, table.kinds)
        preparation, inputs = TablePreparation.fitted(table.train, columns, options)
        preparation.classes = table.plan.classes
    else:
        preparation, columns = fitted, fitted.columns
        inputs = preparation.inputs(table.train, options.path)
    test_inputs = preparation.inputs(table.test, options.test or options.path)
    return table.loaded(
        TensorDataset(inputs, table.targets),
        TensorDataset(test_inputs, table.test_targets),
        name=name_of(options.path),
        modality="table",
        preparation=preparation,
        input_shape=(inputs.shape[1],),
        inferred=_described(table, columns, inputs),
    )


def _described(table: DividedTable, columns: TableColumns, inputs: Tensor) -> list[tuple[str, str]]:
    kinds = {"numbers": columns.numbers, "dates": columns.dates, "categories": columns.categories}
    rows = [
        (f"columns of {kind}", f"{len(names)}: {first_names(names, SHOWN)}") for kind, names in kinds.items() if names
    ]
    used = [name for names in kinds.values() for name in names]
    absent = {name: int(table.train[name].isna().sum()) for name in used}
    if any(absent.values()):
        texts = [f"{name} {count:,}" for name, count in absent.items() if count]
        rows.append(("missing in training rows", first_names(texts, SHOWN)))
    if columns.left_out:
        texts = [f"{name} ({why})" for name, why in columns.left_out.items()]
        rows.append(("columns left out", first_names(texts, SHOWN)))
    if any(why == "sentences" for why in columns.left_out.values()):
        rows.append(("note", "--text COLUMN trains on the sentences of a column instead"))
    return [*rows, ("inputs of a row", str(inputs.shape[1]))]
