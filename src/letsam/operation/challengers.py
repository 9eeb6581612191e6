"""The methods that are compared with the model in use: the base optimizer, its old radius, and a radius learned anew.

A radius that is learned afresh starts where training started it, with a burn-in. One that goes on starts at the last
radius of the model, without a burn-in, as it is no longer in doubt where to begin; Adam's moments are new.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from letsam import checks
from letsam.operation.champion import Champion
from letsam.optimizer import SharpnessAware
from letsam.radius import LearnedRadius, LogAdam
from letsam.tasks import Task
from letsam.training.loop import Training
from letsam.training.methods import KINDS, Kind, Method

__all__ = ["AFRESH", "BASE", "GOES_ON", "OLD", "RADIUS_STARTS", "RETUNED", "Challenger", "RadiusHistory", "challengers"]

BASE, OLD, RETUNED = "base optimizer", "old radius", "re-tuned radius"
AFRESH, GOES_ON = "fresh", "continue"
RADIUS_STARTS = (AFRESH, GOES_ON)


@dataclass(frozen=True)
class RadiusHistory:
    """What the radius of a model was; a version that the base optimizer trained passes it on.

    Args:
        learned: the kind of method that learns it, such as "lets-sam".
        start: its initial value in training.
        last: its last value, or its last values where it has many; None: the model was trained without one.
    """

    learned: str
    start: float
    last: tuple[float, ...] | None

    @classmethod
    def of(cls, champion: Champion, task: Task) -> RadiusHistory:
        """That of a model; of a version that was re-tuned, what was recorded then, with its own radius if it has one.

        Args:
            champion: the model.
            task: whose default is used where the model was not trained with a learned radius.
        """
        recorded: Any = champion.results.config.get("retune") or {}
        if recorded:
            known = recorded["radius_history"]
            last = champion.radii or (None if known["last"] is None else tuple(map(float, known["last"])))
            return cls(known["learned"], float(known["start"]), last)
        name = champion.method.search.partition(":")[0]
        learned = _learned_kind(name)
        start = champion.run.rho_initial if champion.method.learned else None
        method = Method.parse(learned)
        return cls(learned, start or method.initial_rho(task, champion.options.rho) or 0.0, champion.radii)

    def as_json(self) -> dict[str, Any]:
        """The record, as `of` reads it."""
        return {**dataclasses.asdict(self), "last": None if self.last is None else list(self.last)}


@dataclass(frozen=True)
class Challenger:
    """A method that may train the next version.

    Args:
        role: "base optimizer", "old radius" or "re-tuned radius".
        method: the method.
        radii: where its learned radii start, if they are many; None: at the radius of the method.
    """

    role: str
    method: Method
    radii: tuple[float, ...] | None = None

    def prepare(self, training: Training) -> None:
        """Set the radii of a run that has not begun."""
        if self.radii is None or not isinstance(training.optimizer, SharpnessAware):
            return
        radius = training.optimizer.radius
        state = radius.state_dict()
        if state["rho"].shape != (len(self.radii),):
            raise ValueError(f"`radius` must have {state['rho'].numel()} values to go on from, got {len(self.radii)}")
        rho = torch.tensor(self.radii).to(state["rho"])
        radius.load_state_dict(state | {"rho": rho, "nu": rho.log().to(state["nu"])})


def challengers(history: RadiusHistory, radius: str) -> tuple[Challenger, ...]:
    """The challengers of a model.

    Args:
        history: of its radius.
        radius: "fresh" or "continue".

    Raises:
        ValueError: another word, "continue" for a model without a radius, or a variant that is registered with a
            learned radius only.

    Example:
        >>> [one.method.name for one in challengers(RadiusHistory("lets-sam", 0.05, (0.0871234,)), "continue")]
        ['sgd', 'sam:0.08712', 'lets-sam:0.08712']
    """
    checks.choice("radius", radius, RADIUS_STARTS)
    if radius == GOES_ON and history.last is None:
        raise ValueError("`radius` must be fresh, as the model was trained without a radius that could go on")
    kind = KINDS[history.learned]
    found = [Challenger(BASE, Method.parse("sgd"))]
    if history.last is not None:
        mean = _written(sum(history.last) / len(history.last))
        found.append(Challenger(OLD, Method.parse(f"{_fixed_kind(kind)}:{mean}")))
        if radius == GOES_ON:
            going = dataclasses.replace(kind, learned=_going_on(kind))
            many = history.last if kind.per != "all" else None
            method = Method(f"{history.learned}:{mean}", going, float(mean))
            return (*found, Challenger(RETUNED, method, many))
    return (*found, Challenger(RETUNED, Method.parse(f"{history.learned}:{_written(history.start)}")))


def _going_on(kind: Kind) -> Any:
    """What makes a learned radius without a burn-in."""
    if kind.burn_in == 0:
        return kind.learned

    def learned(rho: float) -> LearnedRadius:
        return LearnedRadius(rho, per=kind.per, rule=LogAdam(burn_in=0))

    return learned


def _written(rho: float) -> str:
    return f"{rho:.4g}" if math.isfinite(rho) else "nan"


def _learned_kind(name: str) -> str:
    """The kind that learns the radius of a method of this name."""
    kind = KINDS.get(name)
    if kind is not None and kind.learned is not None:
        return name
    same = _similar(kind) if kind is not None and kind.wrap is not None else []
    return next((one for one in same if KINDS[one].learned is not None and KINDS[one].per == "all"), "lets-sam")


def _fixed_kind(kind: Kind) -> str:
    """The kind with a fixed radius of the same variant."""
    found = [one for one in _similar(kind) if KINDS[one].learned is None and KINDS[one].scheduled is None]
    if not found:
        assert kind.wrap is not None
        raise ValueError(
            f"the fixed radius that a learned one is compared with must be that of a registered method, got none of "
            f"{kind.wrap.__name__}; register one (letsam.training.methods.register)"
        )
    return found[0]


def _similar(kind: Kind) -> Sequence[str]:
    return [name for name, one in KINDS.items() if one.wrap is kind.wrap and one.units is kind.units]
