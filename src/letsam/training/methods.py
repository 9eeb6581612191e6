"""Methods by name: what `--methods` understands, and the optimizers that the names stand for."""

from __future__ import annotations

import difflib
import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.optim import Optimizer

from letsam.radius import (
    LearnedRadius,
    LinearRadius,
    LossBudgetRadius,
    ProportionalRadius,
    Radius,
    layerwise,
    relative,
)
from letsam.tasks import Task
from letsam.variants import ASAM, SAM, VARIANTS, Variant

REFIT = "+refit"
LOWEST = 0.01
"""Where scheduled radii start or end, as a share of the largest: nearly 0, which they may not be."""
BUDGET = 0.1
"""The loss budget where a method's name gives none."""
SHARE = 0.01
"""The share of the weights where a method's name gives none."""


@dataclass(frozen=True)
class Kind:
    """What a method's name stands for.

    Attributes:
        description: one line for people.
        wrap: the variant that is put around a base optimizer; None for the base optimizer alone.
        learned: makes the learned radius from its starting value; None for another radius.
        default_rho: the number after the colon where the name gives none.
        scheduled: makes the radius from that number and the steps of the run; None for a fixed or a learned radius.
        is_radius: whether the number is a radius, so that the option `rho` stands in for it.
        units: what makes a share of the weights of the radius; None for units of the weights.
    """

    description: str
    wrap: type[Variant] | None = None
    learned: Callable[[float], LearnedRadius] | None = None
    default_rho: Callable[[Task], float] = lambda task: task.sam_rho
    scheduled: Callable[[float, int], Radius] | None = None
    is_radius: bool = True
    units: Callable[[float | Radius], Radius] | None = None

    @property
    def sub_batches(self) -> int:
        """How many parts of a batch climb along gradients of their own (m-SAM)."""
        return self.wrap.made_of.sub_batches if self.wrap is not None else 1

    @property
    def takes_steps(self) -> bool:
        """Whether the variant itself, not its radius, follows a schedule over the run."""
        return self.wrap is not None and "steps" in inspect.signature(self.wrap.made_of).parameters


def _asam_rho(task: Task) -> float:
    return task.asam_rho


def _rising(rho: float, steps: int) -> Radius:
    return LinearRadius(LOWEST * rho, rho, steps)


def _proportional(rho: float, steps: int) -> Radius:
    return ProportionalRadius(rho, minimum=LOWEST * rho)


def _budget(budget: float, steps: int) -> Radius:
    return LossBudgetRadius(budget, steps=steps)


def _share(task: Task) -> float:
    return SHARE


def _per_layer(rho: float) -> LearnedRadius:
    return LearnedRadius(rho, per="layer")


KINDS: dict[str, Kind] = {
    "sgd": Kind("the task's base optimizer alone"),
    "sam": Kind("SAM, fixed radius", SAM),
    "asam": Kind("ASAM, fixed radius", ASAM, default_rho=_asam_rho),
    "lets-sam": Kind("SAM, learned radius", SAM, LearnedRadius),
    "lets-asam": Kind("ASAM, learned radius", ASAM, LearnedRadius, _asam_rho),
    "lets-paper-sam": Kind("SAM, learned radius as the paper reads", SAM, LearnedRadius.paper),
    "lets-paper-asam": Kind("ASAM, learned radius as the paper reads", ASAM, LearnedRadius.paper, _asam_rho),
    "sam-rising": Kind("SAM, radius rising in a line from nearly 0 to :rho", SAM, scheduled=_rising),
    "asam-rising": Kind("ASAM, radius rising in a line from nearly 0 to :rho", ASAM, None, _asam_rho, _rising),
    "gsam-schedule": Kind("SAM, radius proportional to the learning rate (GSAM)", SAM, scheduled=_proportional),
    "sam-relative": Kind("SAM, radius a share of the weights", SAM, None, _share, None, False, relative),
    "sam-layerwise": Kind("SAM, radius a share of each weight tensor", SAM, None, _share, None, False, layerwise),
    "lets-sam-relative": Kind("SAM, learned share of the weights", SAM, LearnedRadius, _share, None, False, relative),
    "lets-sam-layerwise": Kind(
        "SAM, learned share of each weight tensor", SAM, LearnedRadius, _share, None, False, layerwise
    ),
    "lets-sam-per-layer": Kind("SAM, a learned radius for each weight tensor", SAM, _per_layer),
    "sam-budget": Kind("SAM, radius from a loss budget (LE-SAM)", SAM, None, lambda task: BUDGET, _budget, False),
}


def _of_variant(kind: type[Variant]) -> dict[str, Kind]:
    """Its fixed and its learned form; the default radius is to the task's for SAM as the variant's is to SAM's."""
    name, title, share = kind.__name__.lower(), kind.facts.title, kind.facts.rho / SAM.facts.rho

    def rho(task: Task) -> float:
        return share * task.sam_rho

    return {
        name: Kind(title, kind, default_rho=rho),
        f"lets-{name}": Kind(f"{title}; learned radius", kind, LearnedRadius, rho),
    }


for _variant in VARIANTS.values():
    for _name, _kind in _of_variant(_variant).items():
        KINDS.setdefault(_name, _kind)


@dataclass(frozen=True)
class Method:
    """A method as it was named: `sgd`, `sam:0.1`, `lets-sam`.

    Attributes:
        name: as written.
        kind: what the part before the colon stands for.
        rho: the part after the colon, > 0: the radius, its largest value or its budget; None where the name gives none.
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
            plain = kind.removesuffix(REFIT)
            close = [plain] if plain in KINDS else difflib.get_close_matches(kind, KINDS, n=1)
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

    @property
    def per(self) -> str:
        """What has a learned radius of its own, as `LearnedRadius` has it; "all" where none is learned."""
        return "all" if self.kind.learned is None else self.kind.learned(1.0).per

    @property
    def burn_in(self) -> int:
        """The steps in which a learned radius forgets its start; 0 where none is learned."""
        return 0 if self.kind.learned is None else self.kind.learned(1.0).rule.burn_in

    def initial_rho(self, task: Task, override: float | None) -> float | None:
        """The number that this method is given: the name's, else `override`, else the kind's; None without a radius."""
        if self.kind.wrap is None:
            return None
        return self.rho or (override if self.kind.is_radius else None) or self.kind.default_rho(task)

    def optimizer(
        self,
        base: Optimizer,
        rho: float | None,
        replayed: Radius | None = None,
        steps: int | None = None,
        model: nn.Module | None = None,
    ) -> Optimizer:
        """The optimizer: `base` alone, or wrapped with a fixed, a scheduled, a learned or a replayed radius.

        Args:
            base: the base optimizer.
            rho: from `initial_rho`.
            replayed: a radius that takes the place of the method's own.
            steps: length of the run in optimizer steps, >= 1; schedules need it.
            model: the network, so that its running statistics move once a step (see `SharpnessAware`).

        Returns:
            An optimizer.

        Raises:
            ValueError: a scheduled radius without `steps`.
        """
        if self.kind.wrap is None or rho is None:
            return base
        radius: float | Radius = self.kind.learned(rho) if self.kind.learned else rho
        if replayed is not None:
            radius = replayed
        elif self.kind.scheduled is not None:
            if steps is None:
                raise ValueError(f"`steps` must be given for the scheduled radius of {self.name}, got None")
            radius = self.kind.scheduled(rho, steps)
        if self.kind.units is not None:
            radius = self.kind.units(radius)
        options: dict[str, Any] = {"steps": steps} if self.kind.takes_steps else {}
        return self.kind.wrap(base, radius, model=model, **options)
