"""What a folder holds: images, recordings, or a data set of the library `datasets`."""

from __future__ import annotations

import importlib
from pathlib import Path

from letsam.data.data_options import DataOptions
from letsam.data.known_form import KnownForm
from letsam.data.labelled_files import suffixes_below
from letsam.data.loaded import LoadedData
from letsam.data.pictures import SUFFIXES as IMAGES
from letsam.data.problems import DataError
from letsam.data.recordings import SUFFIXES as RECORDINGS

TABLES = (".parquet", ".arrow", ".csv", ".tsv", ".json", ".jsonl")
SAVED = ("dataset_dict.json", "state.json")

_READERS = {
    "images": "letsam.data.image_folders:read_images",
    "recordings": "letsam.data.audio_folders:read_recordings",
    "tables": "letsam.data.hub_data:read_hub",
}


def read_folder(options: DataOptions, known: KnownForm | None = None) -> LoadedData:
    """Read a folder.

    Raises:
        DataError: it holds nothing that is read, or images and recordings.
    """
    module, _, name = _READERS[_content(Path(options.path))].partition(":")
    return getattr(importlib.import_module(module), name)(options, known)


def _content(folder: Path) -> str:
    if was_saved(folder):
        return "tables"
    suffixes = suffixes_below(folder)
    kinds = {"images": IMAGES, "recordings": RECORDINGS, "tables": TABLES}
    found = [kind for kind, known in kinds.items() if suffixes & set(known)]
    if "images" in found and "recordings" in found:
        raise DataError(f"{folder}: expected images or recordings, got both")
    if not found:
        got = ", ".join(sorted(suffixes)) if suffixes else "no files"
        raise DataError(f"{folder}: expected a folder of images, recordings or tables, got {got}")
    return found[0]


def was_saved(folder: Path) -> bool:
    """Whether `save_to_disk` of the library `datasets` wrote the folder."""
    return any((folder / name).is_file() for name in SAVED)
