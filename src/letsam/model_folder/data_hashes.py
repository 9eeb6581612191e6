"""The hashes of the data that a model was trained on, for ``version.json``."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from letsam.data.labelled_files import files_below
from letsam.data.problems import DataError


def hashes_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """The fingerprint of the data of a run, and the hash of each of its sources.

    Files count with all their bytes, those of a folder with their names in it as well. The data of a task in code, or
    of the hub, count with their record in ``results.json``.

    Args:
        config: the options of the run, as in ``results.json``.

    Returns:
        The field ``data`` of ``version.json``.
    """
    options = config.get("data_options") or {}
    named = [("train", options.get("path")), ("test", options.get("test"))]
    sources = [hashed_source(role, path) for role, path in named if path is not None and Path(path).exists()]
    if not sources:
        sources = [hashed_record("task", str(config.get("task")), config.get("data"))]
    return {"fingerprint": fingerprint_of(sources), "sources": sources}


def hashed_source(role: str, path: str) -> dict[str, Any]:
    """The entry of a file or folder of data among the sources.

    Args:
        role: what it was used for, such as "train".
        path: of the file or folder.
    """
    place = Path(path)
    if not place.is_dir():
        return {"role": role, "name": path, "sha256": _hash_of(place)}
    files = list(files_below(place))
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.relative_to(place).as_posix()}\0{_hash_of(file)}\n".encode("utf-8", "surrogateescape"))
    return {"role": role, "name": path, "sha256": digest.hexdigest(), "files": len(files)}


def hashed_record(role: str, name: str, record: Mapping[str, Any] | None) -> dict[str, Any]:
    """The entry of data that are no file, by their record in ``results.json``.

    Args:
        role: what they were used for.
        name: of the task.
        record: see `letsam.training.data_record.DataRecord.as_json`.
    """
    text = json.dumps(record, sort_keys=True)
    return {"role": role, "name": name, "sha256": hashlib.sha256(text.encode()).hexdigest()}


def fingerprint_of(sources: Iterable[dict[str, Any]]) -> str:
    """One hash for all sources: of their roles and hashes, not of where they lie."""
    text = "".join(f"{source['role']}\0{source['sha256']}\n" for source in sources)
    return hashlib.sha256(text.encode()).hexdigest()


def _hash_of(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
