"""The targets of new data for a trained model: those of training, read and checked in the same way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from letsam.data import audio_folders, image_folders
from letsam.data.data_options import DataOptions
from letsam.data.labelled_files import labelled_files, unlabelled_files
from letsam.data.labels import Labels, label_name
from letsam.data.problems import DataError
from letsam.data.table_files import Frame, first_names, import_pandas, read_frame
from letsam.data.targets import DELIMITERS, TargetPlan, class_name
from letsam.data.tensor_files import array_targets

__all__ = ["KnownTargets", "read_targets", "targets_of_values"]


@dataclass(frozen=True)
class KnownTargets:
    """The targets of those samples that have one.

    Args:
        values: classes, int64, ``(n,)``; else labels or numbers, float32, ``(n, outputs)``.
        places: of these samples in the data, from 0, increasing; int64, ``(n,)``.
        weights: of these samples, float64, where the training data have weights and these have the column; else None.
        unseen: names of new classes, whose numbers in `values` come after those of the known ones; of labels, which
            have no place in `values`, the names alone.
    """

    values: Tensor
    places: Tensor
    weights: Tensor | None = None
    unseen: tuple[str, ...] = ()

    def __len__(self) -> int:
        """The number of samples with a target."""
        return len(self.places)


def read_targets(
    path: str,
    options: DataOptions,
    modality: str,
    kind: str,
    classes: Sequence[str] = (),
    *,
    new_classes: bool = False,
) -> KnownTargets:
    r"""Read the targets of a file or folder of the same form as the training data.

    Args:
        path: of the new data.
        options: of the training data; they name the columns of the target.
        modality: of the data: "table", "text", "image", "audio" or "tensors", as its preparation has it.
        kind: "classification", "multilabel" or "regression".
        classes: names of the classes or labels, in the order of the outputs.
        new_classes: take classes that the training data do not have, as long as some are known.

    Returns:
        The targets. Rows of a table whose target is missing, and files without a label, have none.

    Raises:
        DataError: no target at all, or a class that the training data do not have; one line that names it.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "new.csv")
        ...     _ = path.write_text("x,kind\n1,cat\n2,\n3,dog\n")
        ...     found = read_targets(str(path), DataOptions(path="old.csv", target="kind"), "table", "classification",
        ...                          ("cat", "dog"))
        >>> found.values.tolist(), found.places.tolist()
        ([0, 1], [0, 2])
    """
    if modality in ("table", "text"):
        found = _of_table(path, options, kind, tuple(classes), new_classes)
    elif modality in _FOLDERS:
        found = _of_folder(path, options, modality, Labels(kind, tuple(classes)), new_classes)
    else:
        found = targets_of_values(array_targets(Path(path)), Labels(kind, tuple(classes)), path, new_classes)
    if not len(found):
        raise DataError(f"{path}: expected at least one sample with a target, got none")
    return found


_FOLDERS = {"image": image_folders.WANTED, "audio": audio_folders.WANTED}


def _of_table(path: str, options: DataOptions, kind: str, classes: tuple[str, ...], new: bool) -> KnownTargets:
    frame = read_frame(path, options.missing)
    if not options.targets:
        raise DataError(f"{path}: the model does not say which column has the target of {options.path}")
    absent = [name for name in options.targets if name not in frame.columns]
    if absent:
        names = first_names([str(name) for name in frame.columns], 30)
        raise DataError(f"{path}: expected the target {absent[0]!r} of the training data, got the columns {names}")
    column = options.targets[0]
    delimiter = None
    if kind == "multilabel" and len(options.targets) == 1:  # an empty cell has none of the labels
        cells = frame[column].astype(object).where(frame[column].notna(), "")
        frame = frame.assign(**{column: cells})
        marks = (*DELIMITERS, ",")
        delimiter = next((mark for mark in marks if any(mark in str(cell) for cell in cells)), marks[0])
    known = ~frame[list(options.targets)].isna().any(axis=1)
    rows, count = frame[known], len(classes)
    unseen: tuple[str, ...] = ()
    if new and kind != "regression" and len(options.targets) == 1:
        cells = rows[column].map(class_name).tolist()
        names = cells if delimiter is None else [part.strip() for cell in cells for part in cell.split(delimiter)]
        unseen = _unseen(names, classes, path)
    plan = TargetPlan(kind, options.targets, (*classes, *unseen), delimiter)
    places = torch.from_numpy(known.to_numpy().nonzero()[0])
    if not len(places):
        return KnownTargets(torch.empty(0), places)
    values = _in_rows(plan.encode(rows, path), kind)
    return KnownTargets(
        values[:, :count] if kind == "multilabel" else values, places, _weights(rows, options, path), unseen
    )


def _weights(rows: Frame, options: DataOptions, path: str) -> Tensor | None:
    if options.weight is None or options.weight not in rows.columns:
        return None
    weights = torch.tensor(import_pandas().to_numeric(rows[options.weight], errors="coerce").to_numpy("float64"))
    if not bool(((weights >= 0) & weights.isfinite()).all()) or not bool((weights > 0).any()):
        raise DataError(f"{path}: expected weights >= 0 in {options.weight!r}, got others")
    return weights


def _unseen(names: Sequence[str], classes: Sequence[str], place: str) -> tuple[str, ...]:
    """The names of new classes, in order; where no name is known, they are of something else."""
    found = set(names) - {""}
    if found and found.isdisjoint(classes):
        known = first_names(list(classes), 5)
        raise DataError(f"{place}: expected classes such as {known}, got others alone: {first_names(sorted(found), 5)}")
    return tuple(sorted(found - set(classes)))


def _of_folder(path: str, options: DataOptions, modality: str, labels: Labels, new: bool) -> KnownTargets:
    wanted = _FOLDERS[modality]
    wanted = type(wanted)(wanted.suffixes, wanted.what, options.targets)
    files = labelled_files(Path(path), wanted)
    label = dict(zip(map(_same, files.names), files.labels, strict=True))
    names = unlabelled_files(Path(path), wanted)[1]
    return targets_of_values([label.get(_same(name)) for name in names], labels, files.place, new)


def targets_of_values(values: Sequence[Any], labels: Labels, place: str, new_classes: bool = False) -> KnownTargets:
    """The targets of samples whose labels are in memory.

    Args:
        values: one for each sample: the name of a class, a number, or a row of numbers; None or NaN where it is not
            known.
        labels: what the model knows.
        place: what the values are, for errors.
        new_classes: take classes that the training data do not have, as long as some are known.

    Raises:
        DataError: a value of another kind, or a class that is not known.

    Example:
        >>> targets_of_values(["dog", None, "cat"], Labels("classification", ("cat", "dog")), "`labels`").places
        tensor([0, 2])
    """
    places = [i for i, value in enumerate(values) if not _missing(value)]
    if not places:
        return KnownTargets(torch.empty(0), torch.empty(0, dtype=torch.int64))
    kept, unseen = [values[i] for i in places], ()
    if new_classes and labels.kind == "classification":
        unseen = _unseen([label_name(value) for value in kept], labels.classes, place)
    targets = Labels(labels.kind, (*labels.classes, *unseen)).targets(kept, place)
    if labels.kind != "classification":
        targets = targets.float()
    return KnownTargets(_in_rows(targets, labels.kind), torch.tensor(places, dtype=torch.int64), unseen=unseen)


def _in_rows(targets: Tensor, kind: str) -> Tensor:
    return targets if kind == "classification" else targets.reshape(len(targets), -1)


def _missing(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return any(_missing(one) for one in value)
    return value is None or (isinstance(value, float) and value != value)


def _same(name: str) -> str:
    """The name of a file in a table or a folder, the same whatever stands between its parts."""
    return Path(name).as_posix()
