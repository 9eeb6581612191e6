"""``version.json``: which version of a model this is, what it was made of, and what was decided about it."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from letsam.model_folder.manifest import ModelFolderError
from letsam.results import Run, write_atomically
from letsam.results.schema import dumped

VERSION = "version.json"


@dataclass(frozen=True, kw_only=True)
class VersionRecord:
    """The content of ``version.json``.

    Args:
        version: >= 1; 1 is a model that was trained from its initial weights.
        parent: fingerprint of the version whose weights it was trained from; None: it has none.
        made_by: "train" or "retune".
        data: the hashes of its data, as `letsam.model_folder.data_hashes.hashes_of` gives them.
        radius: "initial" and "final"; None where the method has no radius.
        seed: of the run.
        options: of the run.
        numbers: what was measured, by name.
        verdict: why it may replace its parent; None: nothing was decided.
        created: time in UTC, ISO 8601.
    """

    version: int
    parent: str | None
    made_by: str
    data: Mapping[str, Any]
    radius: Mapping[str, float | None]
    seed: int
    options: Mapping[str, Any]
    numbers: Mapping[str, float | None]
    verdict: Mapping[str, Any] | None = None
    created: str = field(default_factory=lambda: utc_now())

    def save(self, folder: Path) -> None:
        """Write the file into the folder of a model, which has no manifest yet."""
        values = json.loads(dumped(dataclasses.asdict(self)))  # without NaN
        write_atomically(folder / VERSION, json.dumps(values, indent=1, ensure_ascii=False) + "\n")


def version_of(folder: Path) -> VersionRecord | None:
    """The record of a model's folder; None where an older letsam wrote the folder, without one.

    Raises:
        ModelFolderError: the file is no such record; one line that names it.
    """
    path = folder / VERSION
    try:
        values: Any = json.loads(path.read_text(encoding="utf-8"))
        known = {name.name for name in dataclasses.fields(VersionRecord)}
        return VersionRecord(**{name: value for name, value in values.items() if name in known})
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise ModelFolderError(f"{path}: expected the record of a version, got {error!r}") from None


def measured_numbers(run: Run) -> dict[str, float | None]:
    """What a run measured: the main metric under its own name, losses, and all further metrics."""
    return {
        run.metric: run.test_accuracy,
        "loss": run.test_loss,
        "training loss": run.train_loss,
        "generalization gap": run.generalization_gap,
        **{name: value for name, value in run.metrics.items() if name != run.metric},
    }


def utc_now() -> str:
    """The time in UTC by this machine's clock, in ISO 8601 with seconds."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
