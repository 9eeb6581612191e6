"""The input columns of a table: their kinds, and the numbers that are made of them.

scikit-learn's transformers are fitted. What they have learned is kept as plain numbers, with which inputs are made: the
same for training and for new files, whatever version of scikit-learn reads them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from letsam.data.problems import DataError
from letsam.data.table_files import Column, Frame, import_pandas
from letsam.data.targets import class_name

if TYPE_CHECKING:
    import numpy as np

MOST_CATEGORIES = 50  # of one column; the rarest share one input
RARE_ROWS, RARE_SHARE = 2, 0.002  # categories with fewer rows, or a smaller share of them, are rare
MIXED_VALUES = 3  # different texts between numbers that are probably marks for missing values
UNIQUE = "unique to each row"  # why a column is left out
GAPS_FROM = 50  # rows from which on numbers of rows may have gaps: of so many different numbers, few lie so close
WORDS = 4  # on average, from which on unique texts are sentences

_DATE = re.compile(r"\s*\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}([ T].*)?")


@dataclass(frozen=True)
class TableColumns:
    """The kinds of the input columns.

    Args:
        numbers: columns of numbers, and of true and false.
        dates: columns of dates or times.
        categories: columns of text that repeats.
        left_out: why other columns are no inputs, by column.
    """

    numbers: tuple[str, ...]
    dates: tuple[str, ...]
    categories: tuple[str, ...]
    left_out: Mapping[str, str]


def tell_columns(frame: Frame, path: str, known: Mapping[str, str] | None = None) -> TableColumns:
    """Tell the kinds of the columns of a table.

    Args:
        frame: the table.
        path: of its file, for errors.
        known: what `kind_of_column` has given for some of the columns, so that they are not looked at again.

    Raises:
        DataError: a column holds what cannot be an input, or none can; one line.
    """
    kinds: dict[str, list[str]] = {"number": [], "date": [], "category": []}
    left_out: dict[str, str] = {}
    for name in frame.columns:
        found = known[name] if known and name in known else kind_of_column(frame[name], name, path)
        if found in kinds:
            kinds[found].append(name)
        else:
            left_out[name] = found
    if not any(kinds.values()):
        reasons = "; ".join(f"{name}: {why}" for name, why in left_out.items())
        raise DataError(f"{path}: expected at least one input column, got none{f' ({reasons})' if reasons else ''}")
    return TableColumns(tuple(kinds["number"]), tuple(kinds["date"]), tuple(kinds["category"]), left_out)


def kind_of_column(column: Column, name: str, path: str) -> str:
    """The kind: number, date or category; anything else is why the column is left out."""
    types = import_pandas().api.types

    present = column.dropna()
    if not len(present):
        return "empty"
    if not types.is_numeric_dtype(column) and not types.is_datetime64_any_dtype(column):
        nested = next((v for v in present if isinstance(v, (list, tuple, dict, set)) or hasattr(v, "__array__")), None)
        if nested is not None:
            raise DataError(
                f"{path}: expected one value in each cell of {name!r}, got a {type(nested).__name__}; --drop it"
            )
    if present.nunique() == 1 and len(present) == len(column):
        return "constant"
    if types.is_bool_dtype(column):
        return "number"
    if types.is_numeric_dtype(column):
        return UNIQUE if _counts_rows(present) and len(present) == len(column) else "number"
    if types.is_datetime64_any_dtype(column):
        return "date"
    if set(map(str, present.unique())) <= {"True", "False"}:
        return "number"
    return _kind_of_text(present, name, path)


def _kind_of_text(present: Column, name: str, path: str) -> str:
    pandas = import_pandas()

    texts = present.map(class_name)
    if texts.str.fullmatch(_DATE).all() and not _as_dates(texts).isna().any():
        return "date"
    numeric = pandas.to_numeric(texts, errors="coerce").notna()
    others = texts[~numeric].unique()
    if numeric.all():
        return "number"
    if numeric.mean() > 0.5 and len(others) <= MIXED_VALUES:
        raise DataError(
            f"{path}: {name!r} mixes {int(numeric.sum())} numbers and {int((~numeric).sum())} texts such as "
            f"{others[0]!r}; name those that mean missing by --missing, or leave the column out by --drop"
        )
    if texts.nunique() == len(texts) and len(texts) > 2:
        return "sentences" if texts.str.split().str.len().mean() >= WORDS else UNIQUE
    if texts.nunique() > len(texts) / 2 and texts.str.split().str.len().mean() >= WORDS:
        return "sentences"
    return "category"


def _counts_rows(present: Column) -> bool:
    """Whether whole numbers count the rows, in any order; rows that were removed may have left gaps."""
    values = present.to_numpy("float64")
    if len(values) < 3 or not (values == values.round()).all() or len(set(values.tolist())) < len(values):
        return False
    return float(values.max() - values.min()) < (2 if len(values) >= GAPS_FROM else 1) * len(values)


def _as_dates(values: Any) -> Any:
    pandas = import_pandas()

    dates = pandas.to_datetime(values, errors="coerce", utc=True, format="ISO8601")
    if not dates.isna().any():
        return dates
    return dates.fillna(pandas.to_datetime(values, errors="coerce", utc=True, format="mixed"))


def numbers_in(frame: Frame, columns: TableColumns, path: str) -> Frame:
    """The columns of numbers and dates as float64, NaN where missing; a date gives seven numbers.

    Raises:
        DataError: a cell holds no number or date.
    """
    import numpy as np

    pandas = import_pandas()

    made: dict[str, Any] = {}
    for name in columns.numbers:
        values = frame[name]
        if not pandas.api.types.is_numeric_dtype(values):
            values = values.map(lambda v: {"True": 1.0, "False": 0.0}.get(str(v), v))
        numbers = pandas.to_numeric(values, errors="coerce").astype("float64")
        wrong = frame[name][numbers.isna() & frame[name].notna()]
        if len(wrong):
            raise DataError(f"{path}: expected numbers in {name!r}, got {class_name(wrong.iloc[0])!r}")
        made[name] = numbers.where(np.isfinite(numbers), np.nan)
    for name in columns.dates:
        dates = _as_dates(frame[name])
        if (dates.isna() & frame[name].notna()).any():
            wrong = frame[name][dates.isna() & frame[name].notna()]
            raise DataError(f"{path}: expected dates in {name!r}, got {class_name(wrong.iloc[0])!r}")
        day = (dates - pandas.Timestamp("1970-01-01", tz="UTC")) / pandas.Timedelta(days=1)
        made[f"{name} (days)"] = day.astype("float64")
        parts = {"year": (dates.dt.day_of_year, 365.25), "week": (dates.dt.day_of_week, 7.0), "day": (day % 1, 1.0)}
        for part, (value, period) in parts.items():
            angle = 2 * math.pi * value.astype("float64") / period
            made[f"{name} (sine of {part})"], made[f"{name} (cosine of {part})"] = np.sin(angle), np.cos(angle)
    return pandas.DataFrame(made, index=frame.index)


def categories_in(frame: Frame, columns: TableColumns) -> Frame:
    """The columns of categories as text, None where missing."""
    pandas = import_pandas()

    made = {
        name: pandas.Series(
            [None if m else class_name(v) for v, m in zip(frame[name], frame[name].isna(), strict=True)], dtype=object
        )
        for name in columns.categories
    }
    return pandas.DataFrame(made, dtype=object)


@dataclass(frozen=True)
class NumberColumn:
    """A fitted column of numbers: missing values become the median, then the mean is 0 and the deviation 1.

    Args:
        name: of the column.
        median: in the training data.
        mean: in the training data, after missing values were replaced.
        scale: the standard deviation, likewise; 1 where it is 0.
        missing: mean and scale of a further input that is 1 where the value is missing; None where none was missing.
    """

    name: str
    median: float
    mean: float
    scale: float
    missing: tuple[float, float] | None = None


@dataclass(frozen=True)
class CategoryColumn:
    """A fitted column of categories: one input for each, and one for all rare and unknown ones.

    Args:
        name: of the column.
        common: the categories with inputs of their own; None is a missing value.
        rare: those that share the last input; without any, unknown ones have no input.
    """

    name: str
    common: tuple[str | None, ...]
    rare: tuple[str | None, ...] = ()

    @property
    def width(self) -> int:
        """The number of inputs."""
        return len(self.common) + bool(self.rare)


def fit_columns(numbers: Frame, categories: Frame) -> tuple[list[NumberColumn], list[CategoryColumn]]:
    """Fit scikit-learn's transformers, and take out what they have learned."""
    fitted = column_transformer(list(numbers.columns), list(categories.columns), len(numbers))
    pandas = import_pandas()

    fitted.fit(pandas.concat([numbers.reset_index(drop=True), categories.reset_index(drop=True)], axis=1))
    of_numbers: list[NumberColumn] = []
    if len(numbers.columns):
        imputer, scaler = (step for _, step in fitted.named_transformers_["numbers"].steps)
        indicators = [int(index) for index in imputer.indicator_.features_]
        count = len(numbers.columns)
        for index, name in enumerate(numbers.columns):
            place = count + indicators.index(index) if index in indicators else None
            missing = None if place is None else (float(scaler.mean_[place]), float(scaler.scale_[place]))
            median, mean, scale = imputer.statistics_[index], scaler.mean_[index], scaler.scale_[index]
            of_numbers.append(NumberColumn(str(name), float(median), float(mean), float(scale), missing))
    of_categories: list[CategoryColumn] = []
    if len(categories.columns):
        encoder = fitted.named_transformers_["categories"]
        rare_ones = encoder.infrequent_categories_
        for name, known, found in zip(categories.columns, encoder.categories_, rare_ones, strict=True):
            rare = [] if found is None else list(found)
            common = tuple(value for value in known if not any(value is other or value == other for other in rare))
            of_categories.append(CategoryColumn(str(name), common, tuple(rare)))
    return of_numbers, of_categories


def column_transformer(numbers: list[str], categories: list[str], rows: int) -> Any:
    """scikit-learn's transformers for these columns, not fitted."""
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    scaled = make_pipeline(SimpleImputer(strategy="median", add_indicator=True), StandardScaler())
    encoder = OneHotEncoder(
        min_frequency=max(RARE_ROWS, math.ceil(RARE_SHARE * rows)),
        max_categories=MOST_CATEGORIES,
        handle_unknown="infrequent_if_exist",
        sparse_output=False,
    )
    parts = [("numbers", scaled, numbers), ("categories", encoder, categories)]
    return ColumnTransformer([part for part in parts if part[2]])


def inputs_of(
    numbers: Frame,
    categories: Frame,
    of_numbers: Sequence[NumberColumn],
    of_categories: Sequence[CategoryColumn],
) -> np.ndarray:
    """The inputs of rows, float64, in the order of scikit-learn: numbers, what is missing, categories."""
    import numpy as np

    rows = max(len(numbers), len(categories))
    values, missing = [], []
    for column in of_numbers:
        given = numbers[column.name].to_numpy("float64")
        absent = np.isnan(given)
        values.append((np.where(absent, column.median, given) - column.mean) / column.scale)
        if column.missing is not None:
            missing.append((absent.astype("float64") - column.missing[0]) / column.missing[1])
    blocks = [np.stack([*values, *missing], axis=1)] if values else []
    for column in of_categories:
        place = {value: index for index, value in enumerate(column.common)}
        block = np.zeros((rows, column.width))
        last = column.width - 1 if column.rare else None
        for row, value in enumerate(categories[column.name].tolist()):
            index = place.get(value, last)
            if index is not None:
                block[row, index] = 1.0
        blocks.append(block)
    return np.concatenate(blocks, axis=1)
