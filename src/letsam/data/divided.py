"""The rows of a table, divided into training and test data, with targets, groups, times and weights."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from letsam.data.columns import UNIQUE, kind_of_column
from letsam.data.data_options import DataOptions
from letsam.data.known_form import KnownForm
from letsam.data.loaded import LoadedData, sizes_text
from letsam.data.problems import DataError
from letsam.data.table_files import Frame, import_pandas, need_columns, read_frame
from letsam.data.targets import TargetPlan, class_counts, class_name, plan_targets
from letsam.tasks.weighted import WeightedRows
from letsam.validation import held_out_split

SEED = 20_905  # of the division, which must not depend on the seed of a trial

Inferred = list[tuple[str, str]]


@dataclass(frozen=True)
class DividedTable:
    """Training and test rows.

    Args:
        plan: what the target is.
        train: the columns that may be inputs.
        test: likewise.
        targets: of the training rows.
        test_targets: of the test rows.
        groups: a number for each training row, or None.
        times: likewise.
        weights: likewise, >= 0.
        test_weights: of the test rows, or None.
        train_names: of the training rows: their places in the file, from 1.
        test_names: of the test rows, likewise in theirs.
        kinds: what `kind_of_column` has given for input columns: with test rows that are held out, for all of them, by
            all rows; else for those that the test table has as well, by the training rows.
        inferred: what was found, for the table that is shown before training.
    """

    plan: TargetPlan
    train: Frame
    test: Frame
    targets: Tensor
    test_targets: Tensor
    groups: Tensor | None
    times: Tensor | None
    weights: Tensor | None
    test_weights: Tensor | None
    train_names: tuple[str, ...]
    test_names: tuple[str, ...]
    kinds: Mapping[str, str]
    inferred: Inferred

    def loaded(self, train: Dataset[Any], test: Dataset[Any], **fields: Any) -> LoadedData:
        """The data of `train` and `test`, with what is known of targets and rows filled in."""
        rows = (*self.inferred, *class_counts(self.plan.classes, self.targets), *fields.pop("inferred", ()))
        return LoadedData(
            kind=self.plan.kind,
            classes=self.plan.classes,
            outputs=self.plan.outputs,
            train=_with_weights(train, self.targets, self.weights),
            test=_with_weights(test, self.test_targets, self.test_weights),
            train_names=self.train_names,
            test_names=self.test_names,
            groups=self.groups,
            times=self.times,
            weights=self.weights,
            inferred=rows,
            **fields,
        )


def _with_weights(dataset: Dataset[Any], targets: Tensor, weights: Tensor | None) -> Dataset[Any]:
    """The data set, with weights of its samples where there are any."""
    return dataset if weights is None else WeightedRows(dataset, targets, weights)


def read_divided(options: DataOptions, known: KnownForm | None = None) -> DividedTable:
    """Read a table, and the test table if there is one, and divide the rows.

    Args:
        options: how it is read.
        known: how targets are made; None: this is told from them.

    Raises:
        DataError: the data cannot be used; one line.
    """
    frame = _checked(options, read_frame(options.path, options.missing), options.path)
    inferred: Inferred = [("data", f"{options.path}: {len(frame):,} rows, {len(frame.columns)} columns")]
    frame, places = _with_targets(frame, options, options.path, inferred)
    if known is None:
        plan = plan_targets(frame, options.targets, options.kind, options.path)
    else:
        plan = known.plan(frame, options.targets, options.path)
    targets = plan.encode(frame, options.path)
    names = ", ".join(plan.columns)
    inferred.append(
        ("task", f"{_KIND_NAMES[plan.kind]} of {names}" + ("" if options.kind or known else ", told from its values"))
    )
    given = {
        "groups": _groups(frame, options, options.path),
        "times": _times(frame, options, options.path),
        "weights": _weights(frame, options, options.path),
    }
    if options.test is None:
        train, test = _division(targets, plan, given, options)
        parts = [frame.iloc[rows.numpy()].reset_index(drop=True) for rows in (train, test)]
        train_places, test_places = places[train], places[test]
        test_targets, test_weights = targets[test], None if given["weights"] is None else given["weights"][test]
        targets, given = targets[train], {n: None if v is None else v[train] for n, v in given.items()}
        inferred.append(("test data", _how_divided(options)))
    else:
        other = _checked(options, read_frame(options.test, options.missing), options.test, test=True)
        inferred.append(("test data", f"{options.test}: {len(other):,} rows"))
        train_places = places
        other, test_places = _with_targets(other, options, options.test, inferred)
        test_targets = plan.encode(other, options.test)
        weighed = options.weight in other.columns
        test_weights = _weights(other, options, options.test) if weighed else None
        _check_shared_groups(frame, other, options)
        parts = [frame, other]
    kinds = _note_repeated(parts, options, inferred)
    inferred.append(("rows", sizes_text(len(targets), len(test_targets))))
    used = {*options.targets, options.group, options.time, options.weight, *options.drop}
    inputs = [part[[name for name in part.columns if name not in used]] for part in parts]
    names = [tuple(f"row {place + 1}" for place in places.tolist()) for places in (train_places, test_places)]
    return DividedTable(
        plan,
        inputs[0],
        inputs[1],
        targets,
        test_targets,
        **given,
        test_weights=test_weights,
        train_names=names[0],
        test_names=names[1],
        kinds=kinds,
        inferred=inferred,
    )


_KIND_NAMES = {"classification": "classification", "multilabel": "several labels", "regression": "regression"}


def _checked(options: DataOptions, frame: Frame, path: str, *, test: bool = False) -> Frame:
    """The table, if it has the columns that options name."""
    if not options.targets:
        names = ", ".join(map(str, frame.columns))
        raise DataError(f"{path}: `target` must name the column to predict, one of its columns {names}")
    roles = {"target": options.targets}
    roles |= {name: (getattr(options, name),) for name in ("text", "group", "time", "weight") if getattr(options, name)}
    if not test:
        need_columns(path, frame, {**roles, "drop": options.drop})
        taken: dict[str, str] = {}
        for role, columns in {**roles, "drop": options.drop}.items():
            for column in columns:
                if column in taken:
                    raise DataError(
                        f"`{role}` must name another column than `{taken[column]}`, got {column!r} for both"
                    )
                taken[column] = role
        return frame
    need_columns(path, frame, {name: roles[name] for name in ("target", "text") if name in roles})
    return frame


def _with_targets(frame: Frame, options: DataOptions, path: str, inferred: Inferred) -> tuple[Frame, Tensor]:
    """The rows whose target is not missing, and their places in the file."""
    places = torch.arange(len(frame))
    columns = list(options.targets)
    if options.kind == "multilabel" and len(columns) == 1:  # an empty cell has none of the labels
        values = frame[columns[0]].astype(object).where(frame[columns[0]].notna(), "")
        return frame.assign(**{columns[0]: values}), places
    absent = frame[columns].isna().any(axis=1)
    if not absent.any():
        return frame, places
    if absent.all():
        raise DataError(f"{path}: expected values in the target {', '.join(columns)}, got none")
    inferred.append(("rows without a target", f"{int(absent.sum()):,} of {path}, left out"))
    return frame[~absent].reset_index(drop=True), places[torch.tensor((~absent).to_numpy())]


def _division(
    targets: Tensor, plan: TargetPlan, given: dict[str, Tensor | None], options: DataOptions
) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(SEED)
    try:
        kept, held = held_out_split(
            targets,
            options.test_share,
            generator,
            kind=plan.kind,
            groups=given["groups"],
            times=given["times"],
            name="test_share",
        )
    except ValueError as error:
        raise DataError(f"{options.path}: {error}") from None
    if plan.kind != "classification":
        return kept, held
    if given["groups"] is None and given["times"] is None:
        return _classes_on_both_sides(targets, held, generator)
    only = set(targets[held].tolist()) - set(targets[kept].tolist())
    if only:
        name = plan.classes[min(only)]
        raise DataError(
            f"{options.path}: all rows of the class {name!r} are in the test data, because of --group or --time; "
            "choose another --test-share, or give the test data by --test"
        )
    return kept, held


def _classes_on_both_sides(targets: Tensor, held: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Move single rows so that each class has a training row, and a test row as well if it has two."""
    is_test = torch.zeros(len(targets), dtype=torch.bool)
    is_test[held] = True
    for label in targets.unique():
        rows = torch.nonzero(targets == label).flatten()
        chosen = rows[torch.randint(len(rows), (), generator=generator)]
        if is_test[rows].all():
            is_test[chosen] = False
        elif len(rows) > 1 and not is_test[rows].any():
            is_test[chosen] = True
    return torch.nonzero(~is_test).flatten(), torch.nonzero(is_test).flatten()


def _how_divided(options: DataOptions) -> str:
    how = "the latest by " + options.time if options.time else "drawn at random, the same for all seeds"
    return f"{100 * options.test_share:g} % of the rows, {how}" + (
        f", whole groups of {options.group}" if options.group else ""
    )


def _groups(frame: Frame, options: DataOptions, path: str) -> Tensor | None:
    if options.group is None:
        return None
    pandas = import_pandas()

    _check_present(frame, options.group, "group", path)
    codes, _ = pandas.factorize(frame[options.group].map(class_name))
    return torch.tensor(codes.astype("int64"))


def _times(frame: Frame, options: DataOptions, path: str) -> Tensor | None:
    if options.time is None:
        return None
    pandas = import_pandas()

    column = frame[options.time]
    _check_present(frame, options.time, "time", path)
    if pandas.api.types.is_numeric_dtype(column):
        return torch.tensor(column.to_numpy("float64"))
    times = pandas.to_datetime(column, errors="coerce", utc=True, format="mixed")
    if times.isna().any():
        wrong = class_name(column[times.isna()].iloc[0])
        raise DataError(f"{path}: `time` must name a column of dates or numbers, got {wrong!r} in {options.time!r}")
    return torch.tensor(times.astype("datetime64[us, UTC]").astype("int64").to_numpy().astype("float64"))


def _weights(frame: Frame, options: DataOptions, path: str) -> Tensor | None:
    if options.weight is None:
        return None
    pandas = import_pandas()

    numbers = pandas.to_numeric(frame[options.weight], errors="coerce")
    wrong = frame[options.weight][~((numbers >= 0) & (numbers < math.inf))]
    if len(wrong) or not (numbers > 0).any():
        found = repr(class_name(wrong.iloc[0])) if len(wrong) else "0 only"
        raise DataError(f"{path}: `weight` must name a column of numbers >= 0, got {found} in {options.weight!r}")
    return torch.tensor(numbers.to_numpy("float64"))


def _check_present(frame: Frame, column: str, option: str, path: str) -> None:
    if frame[column].isna().any():
        count = int(frame[column].isna().sum())
        raise DataError(f"{path}: `{option}` must name a column without missing values, got {count} in {column!r}")


def _check_shared_groups(frame: Frame, test: Frame, options: DataOptions) -> None:
    if options.group is None or options.group not in test.columns:
        return
    shared = set(frame[options.group].map(class_name)) & set(test[options.group].map(class_name))
    if shared:
        raise DataError(
            f"{options.test}: expected groups that {options.path} does not have, got {min(shared)!r} of "
            f"{options.group!r} in both"
        )


def _note_repeated(parts: list[Frame], options: DataOptions, inferred: Inferred) -> dict[str, str]:
    """Refuse test data that are all in the training data, and tell of those that are; the kinds of the columns."""
    pandas = import_pandas()

    kinds: dict[str, str] = {}
    skipped = {options.weight, options.group, options.time, *options.drop}
    if options.text is not None:
        shared = [options.text, *options.targets]
    else:  # the number of a row does not make it another one
        known = [name for name in parts[0].columns if name in parts[1].columns and name not in skipped]
        whole = pandas.concat(parts) if options.test is None else parts[0]
        kinds = {n: kind_of_column(whole[n], n, options.path) for n in known if n not in options.targets}
        shared = [name for name in known if kinds.get(name) != UNIQUE]
    texts = [part[shared].astype("string").fillna("") for part in parts]
    train, test = (pandas.util.hash_pandas_object(part, index=False) for part in texts)
    count = int(test.isin(train).sum())
    if options.test is not None and count == len(test):
        same = Path(options.test).resolve() == Path(options.path).resolve()
        where = "is the training data itself" if same else f"has only rows that {options.path} has as well"
        raise DataError(f"{options.test}: expected test data that are not trained on, but it {where}")
    if count:
        inferred.append(
            ("test rows that equal a training row", f"{count:,} of {len(test):,}; they do not tell about new data")
        )
    return kinds
