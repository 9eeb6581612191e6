"""The plan of a roll-out, a TOML file: two models, where their watches and comparison are, and stages with their gates.

`EXAMPLE` is a plan with comments, which ``letsam rollout PLAN.toml --init`` writes.
"""

from __future__ import annotations

import hashlib
import itertools
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from letsam import checks
from letsam.results import printable
from letsam.results.nearest import did_you_mean

__all__ = ["EXAMPLE", "PlanError", "RolloutPlan", "RolloutStage"]

EXAMPLE = (Path(__file__).parent / "rollout_example.toml").read_text(encoding="utf-8")
_PATHS = ("champion", "challenger", "shadow", "champion_watch", "challenger_watch", "out")
_SHARED = ("min_samples", "min_hours", "max_hours", "max_disagreement", "max_drop", "max_expected_drop")
_GATES = (*_SHARED, "max_alarms", "ignore_alarms")


class PlanError(ValueError):
    """A plan cannot be used; the message is one line that names the file and the key."""


@dataclass(frozen=True, kw_only=True)
class RolloutStage:
    """A stage: how much the challenger serves, and what must hold before it serves more. None: not asked for.

    Args:
        name: of the stage.
        share: of the keys that the challenger serves, from 0 (shadow mode) to 1.
        min_samples: of the challenger in this stage: with labels where the gate is `max_drop`; in shadow mode, those of
            the comparison.
        min_hours: that the stage lasts at least.
        max_hours: after which a stage whose gate has not been passed is rolled back.
        max_disagreement: percent of samples that the models may answer differently; of numbers, the mean absolute
            difference.
        max_drop: by how much the metric may be worse than the champion's, >= 0 (the non-inferiority margin): points of
            an accuracy, any other metric as it is.
        max_expected_drop: the same for the expected accuracy, which needs no labels, in points.
        max_alarms: of the challenger's watch in this stage.
        ignore_alarms: codes of alarms that do not count.
    """

    name: str
    share: float
    min_samples: int = 0
    min_hours: float = 0.0
    max_hours: float | None = None
    max_disagreement: float | None = None
    max_drop: float | None = None
    max_expected_drop: float | None = None
    max_alarms: int | None = None
    ignore_alarms: tuple[str, ...] = ()

    @property
    def shadows(self) -> bool:
        """Whether the challenger serves nobody yet."""
        return self.share == 0

    @property
    def gated(self) -> bool:
        """Whether anything is asked for."""
        asked = (self.max_disagreement, self.max_drop, self.max_expected_drop, self.max_alarms)
        return bool(self.min_samples or self.min_hours) or any(one is not None for one in asked)


@dataclass(frozen=True, kw_only=True)
class RolloutPlan:
    """A plan.

    Args:
        path: of its file.
        digest: SHA-256 of its file.
        champion: the folder of the model in use.
        challenger: that of the model that may replace it.
        shadow: the report of `letsam shadow`; None: beside the challenger's folder.
        champion_watch: the folder of the champion's watch; None: beside its folder.
        challenger_watch: likewise.
        out: the folder of the log.
        metric: that `max_drop` is about; None: the main metric of the champion.
        level: the probability with which a stage may take a challenger for good enough that is not, or the reverse, for
            each of its gates.
        stages: in order.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "plan.toml")
        ...     _ = path.write_text(EXAMPLE)
        ...     [stage.name for stage in RolloutPlan.load(path).stages]
        ['shadow', '1%', '10%', '50%', '100%']
    """

    path: Path
    digest: str
    champion: Path
    challenger: Path
    shadow: Path | None
    champion_watch: Path | None
    challenger_watch: Path | None
    out: Path
    metric: str | None
    level: float
    stages: tuple[RolloutStage, ...]

    @classmethod
    def load(cls, path: str | Path) -> RolloutPlan:
        """Read a plan. Relative paths in it are relative to its folder.

        Raises:
            PlanError: no such file, no TOML, an unknown key, or a value out of range; one line that names it.
        """
        file = Path(path)
        try:
            content = file.read_bytes()
            values = tomllib.loads(content.decode("utf-8"))
        except FileNotFoundError:
            raise PlanError(f"{file}: expected a plan, but there is no such file; --init writes an example") from None
        except (OSError, ValueError) as error:  # those of decoding and of TOML are ValueErrors
            raise PlanError(f"{file}: expected a plan in TOML: {printable(' '.join(str(error).split()))}") from None
        try:
            return cls(path=file, digest=hashlib.sha256(content).hexdigest(), **_fields(values, file))
        except PlanError:
            raise
        except (ValueError, TypeError) as error:
            raise PlanError(f"{file}: {error}") from None

    def stage(self, name: str) -> RolloutStage:
        """The stage of this name.

        Raises:
            ValueError: there is none.
        """
        names = [stage.name for stage in self.stages]
        if name not in names:
            raise ValueError(f"{self.path}: has the stages {', '.join(names)}, got {name!r}{did_you_mean(name, names)}")
        return self.stages[names.index(name)]

    def after(self, stage: RolloutStage) -> RolloutStage | None:
        """The next stage; None after the last."""
        place = self.stages.index(stage) + 1
        return self.stages[place] if place < len(self.stages) else None


def _fields(values: Mapping[str, Any], file: Path) -> dict[str, Any]:
    known = (*_PATHS, "metric", "level", "gates", "stages")
    _check_keys(values, known, "a plan")
    for name in ("champion", "challenger"):
        if name not in values:
            raise ValueError(f"`{name}` must be given, the folder of a model")
    paths = {name: _path(name, values.get(name), file) for name in _PATHS}
    out = paths.pop("out") or file.with_name(f"{file.stem}-rollout")
    metric = values.get("metric")
    if metric is not None and not (isinstance(metric, str) and metric):
        raise TypeError(f"`metric` must be text, got {checks.shown(metric)}")
    level = checks.number("level", values.get("level", 0.05))
    if not 0 < level < 0.5:
        raise ValueError(f"`level` must be above 0 and below 0.5, got {level}")
    shared = values.get("gates", {})
    if not isinstance(shared, dict):
        raise TypeError(f"`gates` must be a table, got {checks.shown(shared)}")
    _check_keys(shared, _GATES, "the table gates")
    rows = values.get("stages")
    if not (isinstance(rows, list) and rows and all(isinstance(row, dict) for row in rows)):
        raise ValueError("`stages` must be tables with the heading [[stages]], at least one")
    stages = tuple(_stage(row, shared, place) for place, row in enumerate(rows, 1))
    _check_order(stages)
    return {**paths, "out": out, "metric": metric, "level": level, "stages": stages}


def _check_keys(values: Mapping[str, Any], known: Sequence[str], what: str) -> None:
    for name in values:
        if name not in known:
            hint = did_you_mean(name, known) or f", expected one of {', '.join(known)}"
            raise ValueError(f"{what} has no key {name!r}{hint}")


def _path(name: str, value: object, file: Path) -> Path | None:
    if value is None:
        return None
    if not (isinstance(value, str) and value):
        raise TypeError(f"`{name}` must be a path, got {checks.shown(value)}")
    return file.parent / value


def _stage(row: Mapping[str, Any], shared: Mapping[str, Any], place: int) -> RolloutStage:
    named = row.get("name", row.get("share"))
    where = f"stage {named!r}" if isinstance(named, str) else f"stage {place}"
    try:
        _check_keys(row, ("name", "share", *_GATES), "a stage")
        if "share" not in row:
            raise ValueError("`share` must be given, such as '10%'")
        share = _share(row["share"])
        name = row.get("name", row["share"])
        if not (isinstance(name, str) and name.strip()):
            raise TypeError(f"`name` must be text, got {checks.shown(name)}")
        made = RolloutStage(name=name, share=share, **_checked_gates({**shared, **row}))
        if not made.gated:
            raise ValueError(f"has no gate: expected one of {', '.join(_GATES)}")
        compared = made.max_drop is not None or made.max_expected_drop is not None
        if compared and not made.shadows and not made.min_samples:
            raise ValueError(
                "`min_samples` must be given with `max_drop` or `max_expected_drop`: the first look is there"
            )
        if made.max_hours is not None and made.max_hours < made.min_hours:
            raise ValueError(f"`max_hours` must be at least `min_hours`, got {made.max_hours:g} and {made.min_hours:g}")
        return made
    except (ValueError, TypeError) as error:
        raise ValueError(f"{where}: {error}") from None


def _share(value: object) -> float:
    """A share such as "10%"; a number could be meant as a percentage or as a fraction."""
    text = value.strip() if isinstance(value, str) else ""
    try:
        share = float(text.removesuffix("%")) / 100
    except ValueError:
        share = -1.0
    if not text.endswith("%") or not 0 <= share <= 1:
        raise ValueError(f"`share` must be text from '0%' to '100%', got {checks.shown(value)}")
    return share


def _checked_gates(values: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in ("min_samples", "max_alarms"):
        if name in values:
            found[name] = checks.whole(name, values[name], 0)
    for name in ("min_hours", "max_hours", "max_disagreement", "max_drop", "max_expected_drop"):
        if name in values:
            found[name] = checks.not_negative(name, values[name])
    codes = values.get("ignore_alarms", [])
    if not (isinstance(codes, list) and all(isinstance(code, str) for code in codes)):
        raise TypeError(f"`ignore_alarms` must be a list of texts, got {checks.shown(codes)}")
    return {**found, "ignore_alarms": tuple(codes)}


def _check_order(stages: Sequence[RolloutStage]) -> None:
    names = [stage.name for stage in stages]
    for place, name in enumerate(names):
        if name in names[:place]:
            raise ValueError(f"stages must have different names, got {name!r} twice")
    for earlier, later in itertools.pairwise(stages):
        if later.share <= earlier.share:
            raise ValueError(
                f"the share of the stage {later.name!r} must be above that of {earlier.name!r}, got "
                f"{100 * later.share:g}% and {100 * earlier.share:g}%"
            )
