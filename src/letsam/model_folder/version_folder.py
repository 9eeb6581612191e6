"""A folder of versions: the first is a copy of a trained model, each further one has another as its parent."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from letsam.model_folder.manifest import ModelFolderError, fingerprint
from letsam.model_folder.model_places import CURRENT, model_place, set_current, version_name, versions_in
from letsam.results import replacing_folder

__all__ = ["VersionFolder"]


@dataclass(frozen=True)
class VersionFolder:
    """A folder of versions, which may not be there yet.

    Args:
        folder: the folder. Whoever writes to it holds its lock, `letsam.results.locked_folder`.
    """

    folder: Path

    @classmethod
    def around(cls, model: str | Path) -> VersionFolder | None:
        """The folder of versions that a model argument names, or that the named model is in; None: there is none."""
        path = Path(model)
        if versions_in(path) or (path / CURRENT).exists():
            return cls(path)
        parent = path.resolve().parent
        return cls(parent) if path.resolve() in versions_in(parent).values() else None

    @property
    def versions(self) -> dict[int, Path]:
        """The versions by their numbers."""
        return versions_in(self.folder)

    def place(self, number: int) -> Path:
        """The folder of a version, which may not be there yet."""
        return self.folder / version_name(number)

    def check_holds(self, model: Path) -> None:
        """Raise ModelFolderError unless a model is one of the versions, or there are none yet."""
        versions = self.versions
        if versions and fingerprint(model) not in {fingerprint(place) for place in versions.values()}:
            raise ModelFolderError(
                f"{self.folder}: expected the versions of {model}, but none of them is this model; choose another --out"
            )

    def begin(self, model: Path) -> None:
        """Make a model the first version, and the current one, unless there are versions."""
        if not self.versions:
            with replacing_folder(self.place(1)) as copy:
                shutil.copytree(model, copy, dirs_exist_ok=True)
        if not (self.folder / CURRENT).exists() and list(self.versions) == [1]:  # killed between the two
            set_current(self.folder, self.place(1))

    def is_current(self, place: Path) -> bool:
        """Whether a version is the current one."""
        return model_place(self.folder).resolve() == place.resolve()

    def make_current(self, place: Path) -> None:
        """Make a version the current one."""
        set_current(self.folder, place)
