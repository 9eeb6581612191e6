"""Data sets of the library `datasets`, from the Hugging Face hub or a folder. Their features say what they are."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from letsam.data.audio_folders import load_sounds
from letsam.data.data_options import DataOptions
from letsam.data.data_parts import looked_at
from letsam.data.folders import was_saved
from letsam.data.image_folders import load_pictures
from letsam.data.known_form import KnownForm
from letsam.data.labelled_files import (
    TARGET_COLUMNS,
    LabelledFiles,
    column_codes,
    column_moments,
    split_of,
    with_test,
)
from letsam.data.loaded import LoadedData
from letsam.data.pictures import look
from letsam.data.problems import DataError
from letsam.data.reading import HUB, read_data
from letsam.data.recordings import hear
from letsam.data.table_files import import_pandas
from letsam.results.nearest import did_you_mean
from letsam.tasks.hub import INSTALL, quiet_datasets

if TYPE_CHECKING:
    import datasets

WORDS = 3  # on average, from which on strings are texts and not names


def read_hub(options: DataOptions, known: KnownForm | None = None) -> LoadedData:
    """Read and prepare ``hf:NAME``, ``hf:NAME:CONFIGURATION`` or a folder.

    Raises:
        DataError: the data cannot be loaded, or have no column of a target.
    """
    parts, rows = _parts(options.path)
    if options.test is not None:
        other = _parts(options.test)[0]
        parts["test"] = other.get("test") or other["train"]
    train = parts["train"]
    targets = options.targets or (_target(train, options),)
    for name, part in parts.items():
        needed = [*targets, *(one for one in (options.group, options.time, options.text) if one)]
        absent = [column for column in needed if column not in part.column_names]
        if absent:
            found = ", ".join(part.column_names)
            hint = did_you_mean(absent[0], part.column_names)
            raise DataError(f"{options.path}: expected the column {absent[0]} in {name}, got {found}{hint}")
    encoded = next((c for c in train.column_names if type(train.features[c]).__name__ in ("Image", "Audio")), None)
    if encoded is None:
        data = _table(parts, targets, options, known)
    else:
        files = {name: _files(part, name, encoded, targets, options) for name, part in parts.items()}
        if type(train.features[encoded]).__name__ == "Image":
            options.refuse("images", "sample_rate", "seconds", "weight", "text", "drop")
            data = load_pictures(looked_at(files, look, options, known), options, known)
        else:
            options.refuse("recordings", "image_size", "augment", "pretrained", "weight", "text", "drop")
            data = load_sounds(looked_at(files, hear, options, known), options, known)
        rows.append(("columns", f"{encoded} to predict {', '.join(targets)}"))
    return dataclasses.replace(data, name=_name(options.path), inferred=(*rows, *data.inferred))


class RowContents(Sequence[Any]):
    """The encoded images or recordings in a column.

    Args:
        rows: whose column is not decoded.
        column: its name.
    """

    def __init__(self, rows: datasets.Dataset, column: str) -> None:
        self.rows, self.column = rows, column

    def __len__(self) -> int:
        """The number of rows."""
        return len(self.rows)

    def __getitem__(self, index: Any) -> Any:
        """The bytes, or the file with them; no bytes where the cell is empty."""
        cell = self.rows[index][self.column]
        if cell is None:
            return b""
        return cell["bytes"] if cell["bytes"] is not None else Path(cell["path"])


def _files(
    part: datasets.Dataset, name: str, column: str, targets: Sequence[str], options: DataOptions
) -> LabelledFiles:
    rows = part.cast_column(column, type(part.features[column])(decode=False))
    known: Any = rows.select_columns([c for c in (*targets, options.group, options.time) if c]).to_pandas()
    values = [_named(part, one, known[one].tolist()) for one in targets]
    place = f"{options.path}: {name}"
    return LabelledFiles(
        place,
        RowContents(rows.select_columns([column]), column),
        [f"{name}[{i}]" for i in range(len(rows))],
        values[0] if len(values) == 1 else [*zip(*values, strict=True)],
        tuple(targets),
        groups=None if options.group is None else column_codes(known[options.group]),
        times=None if options.time is None else column_moments(known[options.time], place, options.time),
    )


def _named(part: datasets.Dataset, column: str, values: list[Any]) -> list[Any]:
    """Classes by their names, where the feature has names."""
    feature: Any = part.features[column]
    if type(feature).__name__ != "ClassLabel":
        return values
    return [None if value is None or value < 0 else feature.names[int(value)] for value in values]


def _table(
    parts: dict[str, datasets.Dataset], targets: Sequence[str], options: DataOptions, known: KnownForm | None
) -> LoadedData:
    """Tables and texts, as the reader of files reads them."""
    frames: dict[str, Any] = {}
    for name, part in parts.items():
        frames[name] = part.to_pandas()
        for column in part.column_names:
            frames[name][column] = _named(part, column, frames[name][column].tolist())
    rows = [("columns", f"target {', '.join(targets)}")]
    if "validation" in frames:
        frames["train"] = import_pandas().concat([frames["train"], frames.pop("validation")])
        rows.append(("validation data", "joined to the training data"))
    text = options.text or _text_column(frames["train"], targets, options)
    with tempfile.TemporaryDirectory() as folder:
        paths = {name: Path(folder) / f"{name}.parquet" for name in frames}
        for name, frame in frames.items():
            frame.to_parquet(paths[name], index=False)
        test = str(paths["test"]) if "test" in paths else None
        changed = dataclasses.replace(options, path=str(paths["train"]), test=test, target=",".join(targets), text=text)
        try:
            data = read_data(changed, known)
        except DataError as error:
            raise DataError(_renamed(str(error), paths, options.path)) from error
        shown = [(what, _renamed(value, paths, options.path)) for what, value in data.inferred]
    return dataclasses.replace(data, inferred=(*rows, *shown))


def _renamed(text: str, paths: dict[str, Path], place: str) -> str:
    for name, path in paths.items():
        text = text.replace(str(path), f"{place} ({name})")
    return text


def _text_column(frame: Any, targets: Sequence[str], options: DataOptions) -> str | None:
    """The only column but the target, if it holds texts."""
    left = [c for c in frame.columns if c not in (*targets, options.group, options.time, options.weight, *options.drop)]
    if len(left) != 1:
        return None
    values = [value for value in frame[left[0]].tolist() if isinstance(value, str)]
    return left[0] if values and sum(len(one.split()) for one in values) >= WORDS * len(values) else None


def _target(part: datasets.Dataset, options: DataOptions) -> str:
    """The only column of classes with names, or one with a usual name."""
    left = [name for name in part.column_names if name not in (options.group, options.time, options.text)]
    classes = [name for name in left if type(part.features[name]).__name__ == "ClassLabel"]
    usual = [name for name in TARGET_COLUMNS if name in left]
    found = classes if len(classes) == 1 else usual
    if not found:
        raise DataError(f"{options.path}: expected --target COLUMN, one of {', '.join(part.column_names)}")
    return found[0]


def _parts(path: str) -> tuple[dict[str, datasets.Dataset], list[tuple[str, str]]]:
    """Training, validation and test data, and rows of the table about splits that are not used."""
    loaded = _loaded(path)
    if not hasattr(loaded, "items"):
        return {"train": loaded}, []
    found: dict[str, Any] = {}
    unused: list[str] = []
    for name, rows in loaded.items():
        part = split_of(str(name))
        if part is None or part in found:
            unused.append(str(name))
        else:
            found[part] = rows
    if "train" not in found and len(loaded) == 1:
        return {"train": next(iter(loaded.values()))}, []
    if "train" not in found:
        raise DataError(f"{path}: expected a split train, got {', '.join(map(str, loaded))}")
    return with_test(found), [("splits not used", ", ".join(unused))] if unused else []


def _loaded(path: str) -> Any:
    try:
        import datasets
    except ImportError as error:
        raise DataError(f"{path}: needs the package datasets; install it with {INSTALL}") from error
    folder = Path(path)
    try:
        with quiet_datasets():
            if path.startswith(HUB):
                name, _, configuration = path.removeprefix(HUB).partition(":")
                return datasets.load_dataset(name, configuration or None)
            if was_saved(folder):
                return datasets.load_from_disk(path)
            return datasets.load_dataset(path)
    except Exception as error:  # datasets raises many types, including those of pyarrow and fsspec
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise DataError(f"{path}: cannot be loaded by the library datasets ({reason})") from error


def _name(path: str) -> str:
    return (
        path.removeprefix(HUB).replace(":", "-").rsplit("/", 1)[-1]
        if path.startswith(HUB)
        else Path(path).resolve().name
    )
