"""Methods by name: what `--methods` understands, and the optimizers that the names stand for."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable
from dataclasses import dataclass

from torch.optim import Optimizer

from letsam.optimizer import SharpnessAware
from letsam.radius import LearnedRadius, Radius
from letsam.tasks import Task
from letsam.variants import ASAM, SAM

REFIT = "+refit"


@dataclass(frozen=True)
class Kind:
    """What a method's name stands for.

    Attributes:
        description: one line for people.
        wrap: the sharpness-aware optimizer around a base optimizer; None for the base optimizer alone.
        learned: makes the learned radius from its starting value; None for a fixed radius.
        default_rho: the task's radius where the name gives none.
    """

    description: str
    wrap: Callable[[Optimizer, float | Radius], SharpnessAware] | None = None
    learned: Callable[[float], LearnedRadius] | None = None
    default_rho: Callable[[Task], float] = lambda task: task.sam_rho


def _asam_rho(task: Task) -> float:
    return task.asam_rho


KINDS: dict[str, Kind] = {
    "sgd": Kind("the task's base optimizer alone"),
    "sam": Kind("SAM, fixed radius", SAM),
    "asam": Kind("ASAM, fixed radius", ASAM, default_rho=_asam_rho),
    "lets-sam": Kind("SAM, learned radius", SAM, LearnedRadius),
    "lets-asam": Kind("ASAM, learned radius", ASAM, LearnedRadius, _asam_rho),
    "lets-paper-sam": Kind("SAM, learned radius as the paper reads", SAM, LearnedRadius.paper),
    "lets-paper-asam": Kind("ASAM, learned radius as the paper reads", ASAM, LearnedRadius.paper, _asam_rho),
}


@dataclass(frozen=True)
class Method:
    """A method as it was named: `sgd`, `sam:0.1`, `lets-sam`.

    Attributes:
        name: as written.
        kind: what the part before the colon stands for.
        rho: the part after the colon, > 0; None where the name gives none.
    """

    name: str
    kind: Kind
    rho: float | None

    @classmethod
    def parse(cls, name: str) -> Method:
        """Read a method's name.

        Args:
            name: `kind` or `kind:rho`.

        Returns:
            The method.

        Raises:
            ValueError: an unknown kind, a radius that is not a number > 0, or a radius for a method without one.

        Example:
            >>> Method.parse("lets-sam:0.1").rho
            0.1
        """
        kind, colon, text = name.partition(":")
        if kind not in KINDS:
            close = difflib.get_close_matches(kind, KINDS, n=1)
            hint = f", did you mean {close[0]!r}?" if close else ""
            raise ValueError(f"`methods` must be of {', '.join(KINDS)}, each with or without :rho, got {name!r}{hint}")
        if not colon:
            return cls(name, KINDS[kind], None)
        if KINDS[kind].wrap is None:
            raise ValueError(f"`methods`: {kind} has no radius, got {name!r}")
        try:
            rho = float(text)
        except ValueError:
            rho = math.nan
        if not (rho > 0 and math.isfinite(rho)):
            raise ValueError(f"`methods`: the radius in {name!r} must be a number > 0, got {text!r}")
        return cls(name, KINDS[kind], rho)

    @property
    def is_learned(self) -> bool:
        """Whether the radius is learned."""
        return self.kind.learned is not None

    def initial_rho(self, task: Task, override: float | None) -> float | None:
        """The radius this method starts from: the name's, else `override`, else the task's; None without a radius."""
        if self.kind.wrap is None:
            return None
        return self.rho or override or self.kind.default_rho(task)

    def optimizer(self, base: Optimizer, rho: float | None, replayed: Radius | None = None) -> Optimizer:
        """The optimizer: `base` alone, or wrapped with a fixed, a learned or a replayed radius."""
        if self.kind.wrap is None or rho is None:
            return base
        if replayed is not None:
            return self.kind.wrap(base, replayed)
        return self.kind.wrap(base, self.kind.learned(rho) if self.kind.learned else rho)
