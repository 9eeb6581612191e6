"""The versions of a model: which was made of which, by what data, and whether any was changed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from letsam.model_folder.manifest import ModelFolderError, check_manifest, fingerprint
from letsam.model_folder.model_places import CURRENT, model_place, versions_in
from letsam.model_folder.signatures import check_signature
from letsam.model_folder.version_record import VersionRecord, version_of

__all__ = ["LineageRow", "lineage"]


@dataclass(frozen=True)
class LineageRow:
    """A version.

    Args:
        name: of its folder.
        place: its folder.
        depth: 0 without a parent in the folder, else one more than that of its parent.
        fingerprint: of the folder; None: it has no manifest.
        record: what ``version.json`` says; None where there is none.
        current: whether it is the current version.
        problem: what is changed or missing, in one line; None: nothing, as far as was looked.
    """

    name: str
    place: Path
    depth: int
    fingerprint: str | None
    record: VersionRecord | None
    current: bool
    problem: str | None

    def as_json(self) -> dict[str, Any]:
        """The row as JSON values."""
        record: Mapping[str, Any] = {} if self.record is None else vars(self.record)
        names = ("version", "parent", "made_by", "created", "data", "radius", "seed", "numbers", "verdict")
        own = {"name": self.name, "fingerprint": self.fingerprint, "current": self.current, "problem": self.problem}
        return {**own, **{name: record.get(name) for name in names}}


def lineage(folder: str | Path, *, verify: bool = False, key: str | Path | None = None) -> list[LineageRow]:
    """The versions in a folder; each is followed by those that were made of it.

    Args:
        folder: of versions; or that of a model or of results, which is the only row then.
        verify: compare all files with the manifests.
        key: file of a public key: each version must be signed with it; it is verified, too.

    Raises:
        ModelFolderError: no model at all.
        ValueError: no such key.
    """
    root = Path(folder)
    places = list(versions_in(root).values())
    if not places:
        places = [model_place(root)]
    current, wrong = _current(root)
    found = {place: _looked_at(place, verify=verify or key is not None, key=key) for place in places}
    by_print = {print_: place for place, (print_, _, _) in found.items() if print_ is not None}
    children: dict[Path | None, list[Path]] = {}
    for place, (_, record, _) in found.items():
        parent = by_print.get(record.parent) if record is not None and record.parent is not None else None
        children.setdefault(None if parent == place else parent, []).append(place)

    rows: list[LineageRow] = []
    left = [(place, 0) for place in reversed(children.get(None, []))]
    while left:
        place, depth = left.pop()
        print_, record, problem = found[place]
        if problem is None and depth == 0 and record is not None and record.parent is not None:
            problem = f"{place}: its parent, with the fingerprint {record.parent[:12]}..., is missing"
        if problem is None and current == place.name:
            problem = wrong
        rows.append(LineageRow(place.name, place, depth, print_, record, current == place.name, problem))
        left += [(child, depth + 1) for child in reversed(children.get(place, []))]
    return rows


def _current(folder: Path) -> tuple[str | None, str | None]:
    """The name of the current version, and what is wrong with it."""
    if not (folder / CURRENT).exists():
        return None, None
    try:
        return model_place(folder).name, None
    except ModelFolderError as error:
        try:
            name = json.loads((folder / CURRENT).read_text(encoding="utf-8"))["version"]
        except (ValueError, KeyError, TypeError):
            raise error from None
        if not (folder / str(name)).is_dir():
            raise
        return str(name), str(error)


def _looked_at(
    place: Path, *, verify: bool, key: str | Path | None
) -> tuple[str | None, VersionRecord | None, str | None]:
    """Fingerprint, record and problem of a version."""
    print_, record = None, None
    try:
        print_ = fingerprint(place)
        record = version_of(place)
        if key is not None:
            check_signature(place, key)
        if verify:
            check_manifest(place)
    except ModelFolderError as error:
        return print_, record, str(error)
    return print_, record, None
