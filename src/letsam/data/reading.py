"""Which reader a file or folder needs."""

from __future__ import annotations

import importlib
from pathlib import Path

from letsam.data.data_options import DataOptions
from letsam.data.known_form import KnownForm
from letsam.data.loaded import LoadedData
from letsam.data.problems import DataError
from letsam.tasks import available_tasks

HUB = "hf:"

# A new modality needs a file and a line here. Names, so that the libraries of a reader are imported when it is used.
_READERS: dict[str, str] = {
    "folder": "letsam.data.folders:read_folder",
    "hub": "letsam.data.hub_data:read_hub",
    "table": "letsam.data.tables:read_columns",
    "text": "letsam.data.text_files:read_texts",
    "tensors": "letsam.data.tensor_files:read_tensors",
}

_SUFFIXES = {
    **dict.fromkeys((".csv", ".tsv", ".parquet", ".pq"), "table"),
    **dict.fromkeys((".npz", ".pt", ".pth", ".safetensors"), "tensors"),
}


def is_data(task: str) -> bool:
    """Whether the name of a task is that of files of data: an existing file or folder, or ``hf:NAME``.

    A built-in task keeps its name, and a file with Python code is no data.

    Example:
        >>> is_data("digits"), is_data("hf:cornell-movie-review-data/rotten_tomatoes")
        (False, True)
    """
    if task.startswith(HUB):
        return True
    if task in dict(available_tasks()) or task.endswith(".py"):
        return False
    return bool(task) and (Path(task).exists() or modality_of_suffix(task) is not None)


def read_data(options: DataOptions, known: KnownForm | None = None) -> LoadedData:
    """Read and prepare the data.

    Args:
        options: how they are read.
        known: how inputs and targets are made; None: this is told from the training data.

    Raises:
        DataError: they cannot be used; one line that says what was expected and what came.
    """
    modality = _modality(options)
    if modality not in _READERS:
        raise DataError(f"{options.path}: expected data of one of the kinds {', '.join(_READERS)}, got {modality}")
    module, _, name = _READERS[modality].partition(":")
    return getattr(importlib.import_module(module), name)(options, known)


def name_of(path: str) -> str:
    """The name of a task: that of its file or folder, without suffixes.

    Example:
        >>> name_of("data/iris.csv.gz"), name_of("images/"), name_of("hf:user/reviews")
        ('iris', 'images', 'reviews')
    """
    name = Path(path.removeprefix(HUB).rstrip("/\\")).name
    return (name.split(".")[0] if modality_of_suffix(name) else name) or "data"


def modality_of_suffix(path: str) -> str | None:
    """What a file of this name holds; None if the suffix tells nothing."""
    suffixes = [suffix.lower() for suffix in Path(path).suffixes]
    if suffixes and suffixes[-1] in (".gz", ".zip", ".bz2", ".xz", ".zst"):
        suffixes.pop()
    return _SUFFIXES.get(suffixes[-1]) if suffixes else None


def _modality(options: DataOptions) -> str:
    if options.path.startswith(HUB):
        return "hub"
    path = Path(options.path)
    if not path.exists():
        raise DataError(f"{path}: expected a file or folder of data, but there is none")
    if path.is_dir():
        return "folder"
    modality = modality_of_suffix(options.path)
    if modality is None:
        raise DataError(f"{path}: expected a file with one of the suffixes {', '.join(_SUFFIXES)}")
    return "text" if modality == "table" and options.text is not None else modality
