"""A model trained again from the options that its folder records, to see whether it has the same weights."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from letsam.model_folder import ModelFolderError, VersionRecord, version_of
from letsam.model_folder.data_hashes import hashes_of
from letsam.model_folder.manifest import fingerprint
from letsam.model_folder.model_places import CONFIG
from letsam.model_folder.version_folder import VersionFolder
from letsam.operation.champion import Champion
from letsam.operation.new_data import NewData
from letsam.operation.retune_plan import RetuneOptions, RetunePlan
from letsam.training.config import TrialConfig
from letsam.training.data_record import DataRecord
from letsam.training.methods import Method

__all__ = ["check_training_data", "differing_versions", "parent_of", "repeated_options", "repeated_plan"]


def repeated_options(champion: Champion, data: str | None, test: str | None) -> TrialConfig:
    """The options of the run that trained a model from its initial weights.

    Args:
        champion: the model.
        data: where its training data lie now; None: where they were.
        test: where its test data lie now; None: where they were.

    Raises:
        ValueError: the run was continued with another number of epochs, which the record does not repeat.
    """
    run, options = champion.run, champion.options
    if run.continued_at:
        raise ValueError(
            f"{champion.place}: was trained with another number of epochs from epoch {run.continued_at[0]} on, which "
            "its record does not repeat"
        )
    files = options.data_options
    if files is not None:
        files = dataclasses.replace(files, path=data or files.path, test=test or files.test)
    elif test is not None:
        raise ValueError("`test` needs a model of files of data; the test data of a task in code are its own")
    model_options = options.model_options
    if run.hyperparameters:
        model_options = dataclasses.replace(champion.model_options, **run.hyperparameters)
    return dataclasses.replace(
        options,
        task=data or options.task,
        methods=(Method.parse(champion.method.search),),
        seeds=(run.seed,),
        refit=champion.method.refit,
        data_options=files,
        model_options=model_options,
        found_lr=None,  # it is found again, from the same start
        learned_shift=None,
        search=None,
        search_trials=None,
        search_pruner=None,
    )


def repeated_plan(champion: Champion, record: VersionRecord, data: NewData | None, device: str) -> RetunePlan:
    """The re-tuning that made a version, from its parent in the same folder.

    Args:
        champion: the version.
        record: its ``version.json``.
        data: where its data lie now; None: where they were.
        device: as in `make_fabric`.

    Raises:
        ModelFolderError: the parent is missing.
    """
    recorded: Mapping[str, Any] = record.options["retune"]
    names = {field.name for field in dataclasses.fields(RetuneOptions)}
    asked = RetuneOptions(**{**{name: recorded[name] for name in names}, "seeds": tuple(recorded["seeds"])})
    where = data or NewData(champion.options.task, recorded["test"], recorded["old"])
    plan = RetunePlan.of(Champion.read(parent_of(champion.place, record)), where, asked, device)
    if plan.data["fingerprint"] != record.data["fingerprint"]:
        raise ValueError(_other_data(where.path, plan.data, record.data))
    return plan


def parent_of(place: Path, record: VersionRecord) -> Path:
    """The folder of a version's parent, among the versions beside it.

    Raises:
        ModelFolderError: there is none with its fingerprint.
    """
    around = VersionFolder.around(place)
    for version in around.versions.values() if around is not None else ():
        if fingerprint(version) == record.parent:
            return version
    raise ModelFolderError(
        f"{place}: expected its parent, the version with the fingerprint {str(record.parent)[:12]}..., in the same "
        "folder, but it is missing"
    )


def check_training_data(champion: Champion, config: TrialConfig, record: DataRecord) -> None:
    """Raise ValueError unless data are those that a model was trained on.

    Args:
        champion: the model.
        config: the options with the data, see `TrialConfig.for_task`.
        record: of the data.
    """
    version = version_of(champion.place)
    hashed = hashes_of(config.as_json())
    files = config.data_options is not None and hashed["sources"][0]["role"] != "task"
    if version is not None and files and hashed["fingerprint"] != version.data["fingerprint"]:
        raise ValueError(_other_data(config.task, hashed, version.data))
    if difference := record.difference(champion.results.config.get("data")):
        raise ValueError(f"{config.task}: expected the data that the model was trained on: {difference}")


def differing_versions(champion: Champion, environment: Mapping[str, Any]) -> list[str]:
    """In what this machine differs from the one that trained a model, such as "torch was 2.8.0, is 2.9.0".

    Args:
        champion: the model.
        environment: of this machine, see `letsam.training.trial.environment`.
    """
    import importlib.metadata

    earlier = dict(champion.results.environment)
    now = dict(environment)
    recorded: Mapping[str, str] = json.loads((champion.place / CONFIG).read_text(encoding="utf-8"))["versions"]
    for package, version in recorded.items():
        if package not in earlier and package != "python":
            earlier[package] = version
            try:
                now[package] = importlib.metadata.version(package)
            except importlib.metadata.PackageNotFoundError:
                now[package] = "missing"
    return [f"{name} was {earlier[name]}, is {now.get(name)}" for name in earlier if _differs(name, earlier, now)]


def _differs(name: str, earlier: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    return name != "command" and earlier[name] != now.get(name)


def _other_data(place: str, found: Mapping[str, Any], expected: Mapping[str, Any]) -> str:
    """Which source differs."""
    known = {source["role"]: source for source in expected["sources"]}
    for source in found["sources"]:
        earlier = known.get(source["role"])
        if earlier is not None and earlier["sha256"] != source["sha256"]:
            return (
                f"{source['name']}: expected the data that the model was trained on, {earlier['name']} with the hash "
                f"{earlier['sha256'][:12]}..., got {source['sha256'][:12]}..."
            )
    roles = " and ".join(known) or "none"
    return f"{place}: expected the data that the model was trained on ({roles}), got others"
