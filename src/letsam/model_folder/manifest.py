"""The list of the files of a model with the hash of each: a changed, missing or added file is refused."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from letsam.results import write_atomically

MANIFEST, SIGNATURE = "manifest.json", "manifest.sig"
FORMAT = "letsam model 1"
"""The format of the folder; a change that older versions cannot read gets another number."""


class ModelFolderError(ValueError):
    """A model cannot be read; the message is one line that names the file."""


def write_manifest(folder: Path) -> None:
    """Write the hashes of all files of a folder, except hidden ones."""
    files = {name: _sha256(folder / name) for name in _names(folder)}
    write_atomically(folder / MANIFEST, json.dumps({"format": FORMAT, "sha256": files}, indent=1))


def check_manifest(folder: Path) -> None:
    """Compare the files of a folder with its manifest.

    Raises:
        ModelFolderError: no manifest, one of another format, or a file that was changed, removed or added.
    """
    path = folder / MANIFEST
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
        form, files = content["format"], dict(content["sha256"])
    except FileNotFoundError:
        raise ModelFolderError(f"{folder}: expected a folder that letsam wrote, but it has no {MANIFEST}") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelFolderError(f"{path}: expected a manifest, got {error!r}") from None
    if form != FORMAT:
        raise ModelFolderError(
            f"{path}: expected the format {FORMAT!r}, got {form!r}; another version of letsam has it"
        )
    found = set(_names(folder))
    for name in files:
        if name not in found:
            raise ModelFolderError(f"{folder / name}: the manifest lists this file, but it is missing")
    for name in sorted(found - files.keys()):
        raise ModelFolderError(f"{folder / name}: the manifest does not list this file")
    for name, expected in files.items():
        if _sha256(folder / name) != expected:
            raise ModelFolderError(f"{folder / name}: was changed after letsam wrote it (its hash is another)")


def fingerprint(folder: Path) -> str:
    """The hash of the manifest, which identifies the model with all its files."""
    return _sha256(folder / MANIFEST)


def _names(folder: Path) -> list[str]:
    """The files of the folder, with slashes; hidden ones, which file managers leave behind, do not count."""
    paths = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file() or path.is_symlink())
    names = [path.as_posix() for path in paths if not any(part.startswith(".") for part in path.parts)]
    return sorted(name for name in names if name not in (MANIFEST, SIGNATURE))


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ModelFolderError(f"{path} cannot be read: {error.strerror}") from error
