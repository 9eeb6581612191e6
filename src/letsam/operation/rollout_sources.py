"""What a roll-out is judged by: both models, their comparison and the records of their watches, all of them checked."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from letsam.model_folder import ModelFolderError, model_place
from letsam.model_folder.manifest import check_manifest, fingerprint
from letsam.model_folder.model_places import CONFIG
from letsam.operation.rollout_gates import MetricAsked
from letsam.operation.rollout_log import RolloutError
from letsam.operation.rollout_plan import RolloutPlan
from letsam.operation.shadow_report import REPORT, ShadowReport, default_shadow_folder
from letsam.operation.watch import default_watch_folder
from letsam.operation.watch_record import RECORDS, RecordFile, WatchRecord
from letsam.tasks.metrics import find_metric

__all__ = ["RolloutSources", "asked_metric"]


@dataclass(frozen=True)
class RolloutSources:
    """What a decision is made from.

    Args:
        configs: the contents of ``model.json`` of champion and challenger.
        fingerprints: of champion and challenger.
        shadow: the comparison, or None.
        shadow_place: where it is expected.
        records: of the watches of champion and challenger.
        notes: what was noticed when they were read.
    """

    configs: tuple[Mapping[str, Any], Mapping[str, Any]]
    fingerprints: tuple[str, str]
    shadow: ShadowReport | None
    shadow_place: Path
    records: tuple[tuple[WatchRecord, ...], tuple[WatchRecord, ...]]
    notes: tuple[str, ...]

    @classmethod
    def of(cls, plan: RolloutPlan) -> RolloutSources:
        """Read them all, and check that they belong together."""
        places = [model_place(plan.champion), model_place(plan.challenger)]
        configs = _config(places[0]), _config(places[1])
        _check_alike(places, configs)
        prints = (fingerprint(places[0]), fingerprint(places[1]))
        shadow_place = plan.shadow or default_shadow_folder(places[1])
        if shadow_place.suffix != ".json":
            shadow_place /= REPORT
        shadow = _shadow(shadow_place, prints)
        notes: list[str] = []
        records: list[tuple[WatchRecord, ...]] = []
        given = (plan.champion_watch, plan.challenger_watch)
        for name, place, folder, own in zip(("champion", "challenger"), places, given, prints, strict=True):
            watched = folder or default_watch_folder(place)
            records.append(_records(name, watched, own, notes))
        return cls(configs, prints, shadow, shadow_place, (records[0], records[1]), tuple(notes))


def _config(place: Path) -> dict[str, Any]:
    check_manifest(place)
    try:
        return dict(json.loads((place / CONFIG).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise ModelFolderError(f"{place / CONFIG}: expected the configuration of a model, got {error!r}") from None


def _check_alike(places: Sequence[Path], configs: Sequence[Mapping[str, Any]]) -> None:
    old, new = configs
    if old["kind"] != new["kind"]:
        raise RolloutError(f"{places[1]}: expected a model for {old['kind']}, as {places[0]} is, got {new['kind']}")
    for field, what in (("classes", "classes"), ("columns", "predicted numbers")):
        known = set(old.get(field) or ()), set(new.get(field) or ())
        if known[0] != known[1]:
            name = min(known[0] ^ known[1])
            raise RolloutError(f"{places[1]}: expected the {what} of {places[0]}, but only one of them has {name!r}")


def _shadow(path: Path, prints: tuple[str, str]) -> ShadowReport | None:
    try:
        found = ShadowReport.load(path)
    except FileNotFoundError:
        return None
    if (found.champion.fingerprint, found.challenger.fingerprint) != prints:
        raise RolloutError(f"{path}: compares other models than the plan names; run letsam shadow again")
    return found


def _records(name: str, folder: Path, own: str, notes: list[str]) -> tuple[WatchRecord, ...]:
    """The records of a watch; none where it has not begun."""
    path = folder if folder.suffix == ".jsonl" else folder / RECORDS
    file = RecordFile.read(path)
    if not file.records:
        notes.append(f"the watch of the {name} has no records yet: {path}")
    for record in file.records:
        if record.model != own:
            raise RolloutError(
                f"{path}: batch {record.batch} is of another model ({record.model[:12]}) than the {name} of the plan "
                f"({own[:12]})"
            )
    if file.torn:
        notes.append(f"{path}: the last line is torn, as by a crash")
    return file.records


def asked_metric(plan: RolloutPlan, sources: RolloutSources) -> MetricAsked:
    """The metric of the gate `max_drop`.

    Raises:
        RolloutError: there is no such metric, the watches do not measure it, or the comparison is of another one.
    """
    kind, own = (str(sources.configs[0][name]) for name in ("kind", "metric"))
    compares, serves = ([s for s in plan.stages if s.shadows is shadows] for shadows in (True, False))
    if kind == "regression" and any(stage.max_expected_drop is not None for stage in serves):
        raise RolloutError(f"{plan.path}: `max_expected_drop` needs models of classes, got models for regression")
    weighted = any((config.get("data_options") or {}).get("weight") for config in sources.configs)
    found = dataclasses.replace(_metric_of(plan, kind, own), weighted=weighted)
    if any(stage.max_drop is not None for stage in serves):
        for config, place in zip(sources.configs, (plan.champion, plan.challenger), strict=True):
            main = config["metric"]
            if found.name not in ("loss", main):
                raise RolloutError(
                    f"{plan.path}: `metric` must be one that the watch of {place} measures, {main} or loss, where a "
                    f"stage that serves has `max_drop`, got {found.name}"
                )
    if any(stage.max_drop is not None for stage in compares):
        gain = None if sources.shadow is None else sources.shadow.gain
        if found.name == "loss":
            raise RolloutError(f"{plan.path}: `metric` must be one that letsam shadow compares, got loss")
        if gain is not None and gain.metric != found.name:
            raise RolloutError(
                f"{sources.shadow_place}: compares {gain.metric}, expected {found.name}; run letsam shadow with "
                f"--metric {found.name!r}"
            )
    return found


def _metric_of(plan: RolloutPlan, kind: str, own: str) -> MetricAsked:
    """The metric that the plan names, or the main metric of the champion."""
    if plan.metric == "loss":
        return MetricAsked("loss", lower_is_better=True)
    try:
        found = find_metric(own if plan.metric is None else plan.metric, kind)
    except ValueError as error:
        if plan.metric is not None:
            raise RolloutError(f"{plan.path}: {error}") from None
        found = find_metric("RMSE" if kind == "regression" else "accuracy", kind)  # the task in code has its own
    return MetricAsked(found.name, found.lower_is_better)
