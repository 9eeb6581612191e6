"""Where a model is: its own folder, the folder of results that hold it, or a folder of versions, one of them current.

A folder of versions has the models ``v0001``, ``v0002`` and so on, and ``current.json``, which names one of them.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from letsam.model_folder.manifest import ModelFolderError, fingerprint
from letsam.results import write_atomically

FOLDER, CONFIG, CURRENT = "model", "model.json", "current.json"
_VERSION = re.compile(r"v(\d{4,})")


def model_place(path: str | Path) -> Path:
    """The folder of a model.

    Args:
        path: that folder; or the folder of results that hold it as ``model``; or a folder of versions.

    Returns:
        The folder; of versions, that of the current one.

    Raises:
        ModelFolderError: there is no model, or the current version is missing or is another than ``current.json`` says.

    Example:
        >>> model_place("nowhere")
        Traceback (most recent call last):
        letsam.model_folder.manifest.ModelFolderError: nowhere: expected the folder of a model, but there is none
    """
    folder = Path(path)
    if (folder / CONFIG).is_file():
        return folder
    if (folder / CURRENT).is_file():
        return _current(folder)
    if (folder / FOLDER).is_dir():
        return folder / FOLDER
    if versions_in(folder):
        raise ModelFolderError(f"{folder}: expected {CURRENT}, which names the current version, but there is none")
    if folder.is_dir():
        raise ModelFolderError(f"{folder}: expected the folder of a model, but it has no {CONFIG}")
    raise ModelFolderError(f"{folder}: expected the folder of a model, but there is none")


def version_name(number: int) -> str:
    """The name of a version's folder.

    Example:
        >>> version_name(2)
        'v0002'
    """
    return f"v{number:04d}"


def versions_in(folder: Path) -> dict[int, Path]:
    """The versions in a folder by their numbers, in order; empty where it is no folder of versions."""
    if not folder.is_dir():
        return {}
    found = {int(match[1]): path for path in folder.iterdir() if (match := _VERSION.fullmatch(path.name))}
    return {number: path for number, path in sorted(found.items()) if path.is_dir()}


def set_current(folder: Path, version: Path) -> None:
    """Make a version of a folder its current one, in one step."""
    content = {"version": version.name, "fingerprint": fingerprint(version)}
    write_atomically(folder / CURRENT, json.dumps(content, indent=1) + "\n")


def _current(folder: Path) -> Path:
    path = folder / CURRENT
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
        name, expected = content["version"], content["fingerprint"]
        if not _VERSION.fullmatch(name):
            raise ValueError(f"the version {name!r}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelFolderError(f"{path}: expected the name of a version and its fingerprint, got {error!r}") from None
    place = folder / name
    if not (place / CONFIG).is_file():
        raise ModelFolderError(f"{place}: {CURRENT} names this version, but it is missing")
    if fingerprint(place) != expected:
        raise ModelFolderError(f"{place}: is another model than {CURRENT} names (its fingerprint is another)")
    return place
