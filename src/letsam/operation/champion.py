"""The model in use: what its folder says of its network, its options and its radius."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from letsam.data import KnownForm, load_preparation
from letsam.model_folder import ModelFolderError, model_place
from letsam.model_folder.exporting import EXPORTS
from letsam.model_folder.manifest import check_manifest, fingerprint
from letsam.model_folder.model_loading import PREPARATION, RESULTS
from letsam.model_folder.model_places import CONFIG
from letsam.model_folder.model_writing import RADIUS
from letsam.models import ModelOptions
from letsam.models.timm_models import PREFIX
from letsam.results import MethodName, Results, Run
from letsam.training.config import TrialConfig

__all__ = ["CHAMPION", "Champion"]

CHAMPION = "champion"
"""The name of the model in use among the methods of a comparison."""


@dataclass(frozen=True)
class Champion:
    """The model in use, as its folder says it was trained.

    Args:
        place: its folder.
        fingerprint: of the folder.
        config: the content of ``model.json``.
        results: with the run that trained it.
        options: of that run.
        radii: its last radius, or its last radii where it has many; None where it has none.
    """

    place: Path
    fingerprint: str
    config: Mapping[str, Any]
    results: Results
    options: TrialConfig
    radii: tuple[float, ...] | None

    @classmethod
    def read(cls, model: str | Path) -> Champion:
        """Read the folder of a model; its weights are not read yet.

        Args:
            model: as `letsam.model_folder.model_place` takes it.

        Raises:
            ModelFolderError: no such folder, a file that was changed, or a folder of another version of letsam.
        """
        place = model_place(model)
        check_manifest(place)
        try:
            config, radius = (json.loads((place / name).read_text(encoding="utf-8")) for name in (CONFIG, RADIUS))
            results = Results.load(place / RESULTS)
            options = TrialConfig.from_json(results.config)
            radii = _last_radii(radius)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ModelFolderError(f"{place}: expected a model with the options of its run, got {error!r}") from error
        return cls(place, fingerprint(place), config, results, options, radii)

    @property
    def run(self) -> Run:
        """The record of its run."""
        return self.results.runs[0]

    @property
    def method(self) -> MethodName:
        """The method that trained it."""
        return MethodName.parse(self.run.method)

    @property
    def family(self) -> str:
        """The name of its network; "task": a task in code makes it."""
        return str(self.config["network"]["family"])

    @property
    def in_code(self) -> bool:
        """Whether its data are those of a task in code, not files."""
        return self.options.data_options is None

    @property
    def form(self) -> KnownForm:
        """How new data are prepared."""
        return KnownForm(load_preparation(self.place / PREPARATION), self.config["kind"], tuple(self.config["classes"]))

    @property
    def model_options(self) -> ModelOptions:
        """The options of its network and base optimizer, with the network by name."""
        options = self.options.model_options or ModelOptions()
        values = {**options.as_json(), **self.run.hyperparameters}
        if self.options.found_lr is not None:
            values["lr"] = self.options.found_lr
        if options.pretrained is None and not self.in_code:
            timm = self.config["network"].get("arguments", {}).get("name")
            values["name"] = self.family if self.family != "timm" else f"{PREFIX}{timm}"
        return ModelOptions.from_json(values)

    @property
    def export(self) -> str | None:
        """The format that it was exported to; None: it was not."""
        exported = str(self.config.get("exported", ""))
        return next((name for name, file in EXPORTS.items() if exported.endswith(file)), None)


def _last_radii(radius: Mapping[str, Any]) -> tuple[float, ...] | None:
    schedule: list[Any] = radius.get("schedule") or [radius.get("final")]
    last: list[Any] = schedule[-1] if isinstance(schedule[-1], list) else [schedule[-1]]
    return None if None in last else tuple(float(value) for value in last)
