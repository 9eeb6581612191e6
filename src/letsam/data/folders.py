"""What a folder holds."""

from __future__ import annotations

import importlib
from pathlib import Path

from letsam.data.data_options import DataOptions
from letsam.data.labelled_files import suffixes_below
from letsam.data.loaded import LoadedData
from letsam.data.pictures import SUFFIXES as IMAGES
from letsam.data.problems import DataError
from letsam.data.recordings import SUFFIXES as RECORDINGS

_READERS = {
    "images": "letsam.data.image_folders:read_images",
    "recordings": "letsam.data.audio_folders:read_recordings",
}


def read_folder(options: DataOptions) -> LoadedData:
    """Read a folder.

    Raises:
        DataError: it holds nothing that is read, or images and recordings.
    """
    module, _, name = _READERS[_content(Path(options.path))].partition(":")
    return getattr(importlib.import_module(module), name)(options)


def _content(folder: Path) -> str:
    suffixes = suffixes_below(folder)
    kinds = {"images": IMAGES, "recordings": RECORDINGS}
    found = [kind for kind, known in kinds.items() if suffixes & set(known)]
    if len(found) > 1:
        raise DataError(f"{folder}: expected images or recordings, got both")
    if not found:
        got = ", ".join(sorted(suffixes)) if suffixes else "no files"
        raise DataError(f"{folder}: expected a folder of images or recordings, got {got}")
    return found[0]
