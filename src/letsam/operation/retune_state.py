"""The files of re-tunings in a folder of versions, ``retunes/vNNNN``: which have begun, and which have finished."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from letsam.model_folder.manifest import fingerprint
from letsam.model_folder.model_places import version_name
from letsam.model_folder.version_folder import VersionFolder
from letsam.operation.retune_plan import RetunePlan
from letsam.results import write_atomically
from letsam.results.schema import dumped

__all__ = ["last_parent", "place_of", "save_state", "was_finished"]

STATE, RETUNES = "retune.json", "retunes"
FORMAT = "letsam retune 1"


def place_of(versions: VersionFolder, plan: RetunePlan, *, resume: bool) -> tuple[Path, int]:
    """The folder of a re-tuning, which may have begun already, and the number of its version.

    Raises:
        ValueError: another one has begun and is not finished, or this one and `resume` is False.
    """
    begun = _begun(versions.folder)
    last = begun[-1] if begun else None
    state = None if last is None else _state(last)
    if last is not None and state is not None:
        if not state.get("finished"):
            if not resume:
                raise ValueError(
                    f"{last}: holds an unfinished re-tuning; add --resume to complete it, or remove this folder"
                )
            if not _is_same(state, plan):
                raise ValueError(f"{last}: holds an unfinished re-tuning with other {_difference(state, plan)}")
        if resume and _is_same(state, plan):
            return last, int(last.name[1:])
    number = max(*versions.versions, *(int(path.name[1:]) for path in begun), 1, 1) + 1
    return versions.folder / RETUNES / version_name(number), number


def last_parent(folder: Path) -> Path | None:
    """The version that the last re-tuning began with; None where there was none, or it is gone."""
    begun = _begun(folder)
    if not begun:
        return None
    parent = _state(begun[-1]).get("parent")
    return next((p for p in VersionFolder(folder).versions.values() if fingerprint(p) == parent), None)


def was_finished(folder: Path, plan: RetunePlan) -> bool | None:
    """Whether the last re-tuning is finished, if it is this one; None where it is another one."""
    begun = _begun(folder)
    state = _state(begun[-1]) if begun else {}
    return bool(state.get("finished")) if begun and _is_same(state, plan) else None


def save_state(place: Path, plan: RetunePlan, *, finished: bool, verdict: str | None = None) -> None:
    """Write ``retune.json``."""
    content = {"format": FORMAT, **plan.identity, "finished": finished, "verdict": verdict}
    text = json.dumps(json.loads(dumped(content)), indent=1, ensure_ascii=False)  # without NaN
    write_atomically(place / STATE, text + "\n")


def _begun(folder: Path) -> list[Path]:
    """The folders of the re-tunings that have begun, in order."""
    retunes = folder / RETUNES
    return sorted(path for path in retunes.iterdir() if (path / STATE).is_file()) if retunes.is_dir() else []


def _state(place: Path) -> Mapping[str, Any]:
    try:
        state: Any = json.loads((place / STATE).read_text(encoding="utf-8"))
        if state["format"] != FORMAT:
            raise ValueError(f"the format {state['format']!r}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{place / STATE}: expected the state of a re-tuning, got {error!r}") from None
    return state


def _is_same(state: Mapping[str, Any], plan: RetunePlan) -> bool:
    return all(state.get(name) == value for name, value in plan.identity.items())


def _difference(state: Mapping[str, Any], plan: RetunePlan) -> str:
    """What differs from a re-tuning that has begun."""
    for name, value in plan.options.items():
        found = (state.get("options") or {}).get(name)
        if found != value:
            return f"options: {name} was {found!r}, got {value!r}"
    return "data" if state.get("data") != plan.identity["data"] else "model in use"
