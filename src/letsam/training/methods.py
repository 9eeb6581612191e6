"""The methods of a trial: the registry of kinds, and `Method`, which makes the optimizer.

`Method.parse` reads a name of `--methods` once, where it enters. From there on a trial works with `Method` and
`PlannedRun` objects; their names are for the records and for people.
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
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
from letsam.results import REFIT, MethodName
from letsam.results.nearest import did_you_mean
from letsam.tasks import Task
from letsam.variants import ASAM, SAM, VARIANTS, Variant

LOWEST = 0.01
"""The smallest radius of a schedule, as a fraction of the largest."""
BUDGET = 0.1
"""The loss budget where a method's name gives none."""
RELATIVE = 0.01
"""The radius relative to the weights where a method's name gives none."""
QUICK_SHARE, QUICK_INTERVAL = 0.2, 6
"""Of the methods with a cheaper ascent: its share of the batch, and steps between updates of a learned radius."""
BURN_IN = 100
"""The burn-in of `LearnedRadius` where it is given none, in steps."""


@dataclass(frozen=True)
class Kind:
    """What the part of a method's name before the colon stands for.

    Attributes:
        description: one line for `letsam methods`.
        wrap: the variant that wraps the base optimizer; None: the base optimizer alone.
        learned: makes the learned radius from its initial value (and `until`, where a trial releases the held-out
            data); None: the radius is not learned.
        default_rho: the number after the colon where the name gives none.
        scheduled: makes the radius from that number and the steps of the run; None: a fixed or a learned radius.
        is_radius: whether the number is a radius in units of the weights, so that the option `rho` replaces it.
        units: makes the radius relative to the weights; None: it is in units of the weights.
        per: which weights have a learned radius of their own, as in `LearnedRadius`.
        burn_in: steps in which a learned radius may depend on its initial value, as in `LearnedRadius`.
        ascent_share: fraction of a batch whose gradient the ascent follows, see `letsam.subset_ascent`.
    """

    description: str
    wrap: type[Variant] | None = None
    learned: Callable[..., LearnedRadius] | None = None
    default_rho: Callable[[Task], float] = lambda task: task.sam_rho
    scheduled: Callable[[float, int], Radius] | None = None
    is_radius: bool = True
    units: Callable[[float | Radius], Radius] | None = None
    per: str = "all"
    burn_in: int = BURN_IN
    ascent_share: float = 1.0

    @property
    def sub_batches(self) -> int:
        """Into how many parts a batch is split that each have a perturbation of their own (m-sharpness)."""
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


def _per_layer(rho: float, **options: Any) -> LearnedRadius:
    return LearnedRadius(rho, per="layer", **options)


KINDS: dict[str, Kind] = {}
"""The kinds by name, in the order in which `letsam methods` lists them; `register` adds one."""


def register(name: str, kind: Kind) -> None:
    """Add a kind of method, so that `Method.parse`, the command line and the reports know its name.

    Args:
        name: of letters, digits, `-`, `_` and `.`; it begins with `lets-` where the radius is learned, and only there.
        kind: what it stands for.

    Raises:
        ValueError: a name that is taken, has other characters, or does not say whether the radius is learned.
    """
    if name in KINDS:
        raise ValueError(f"`name` must be new, got {name!r}, which is registered already")
    if not re.fullmatch(r"[A-Za-z0-9_.-]+", name):
        raise ValueError(f"`name` must be of letters, digits, '-', '_' and '.', got {name!r}")
    learned = kind.learned is not None
    if MethodName.parse(name).learned != learned:
        expected = "begin with 'lets-', as the radius is" if learned else "not begin with 'lets-', as no radius is"
        raise ValueError(f"`name` must {expected} learned, got {name!r}")
    KINDS[name] = kind


_RELATIVE: dict[str, Any] = {"default_rho": lambda task: RELATIVE, "is_radius": False}

_BUILT_IN = {
    "sgd": Kind("the task's base optimizer alone"),
    "sam": Kind("SAM, fixed radius", SAM),
    "asam": Kind("ASAM, fixed radius", ASAM, default_rho=_asam_rho),
    "lets-sam": Kind("SAM, learned radius", SAM, LearnedRadius),
    "lets-asam": Kind("ASAM, learned radius", ASAM, LearnedRadius, default_rho=_asam_rho),
    "lets-paper-sam": Kind("SAM, learned radius as in the paper", SAM, LearnedRadius.paper, burn_in=0),
    "lets-paper-asam": Kind(
        "ASAM, learned radius as in the paper", ASAM, LearnedRadius.paper, default_rho=_asam_rho, burn_in=0
    ),
    "sam-rising": Kind("SAM, radius rising linearly from nearly 0 to :rho", SAM, scheduled=_rising),
    "asam-rising": Kind(
        "ASAM, radius rising linearly from nearly 0 to :rho", ASAM, default_rho=_asam_rho, scheduled=_rising
    ),
    "gsam-schedule": Kind("SAM, radius proportional to the learning rate (GSAM)", SAM, scheduled=_proportional),
    "sam-relative": Kind("SAM, radius relative to the norm of all weights", SAM, units=relative, **_RELATIVE),
    "sam-layerwise": Kind("SAM, radius relative to the norm of each weight tensor", SAM, units=layerwise, **_RELATIVE),
    "lets-sam-relative": Kind(
        "SAM, learned radius relative to the norm of all weights", SAM, LearnedRadius, units=relative, **_RELATIVE
    ),
    "lets-sam-layerwise": Kind(
        "SAM, learned radius relative to the norm of each weight tensor",
        SAM,
        LearnedRadius,
        units=layerwise,
        **_RELATIVE,
    ),
    "lets-sam-per-layer": Kind("SAM, a learned radius for each weight tensor", SAM, _per_layer, per="layer"),
    "sam-quick": Kind("SAM, ascent with a fifth of the batch", SAM, ascent_share=QUICK_SHARE),
    "lets-sam-quick": Kind(
        "SAM, ascent with a fifth of the batch; learned radius",
        SAM,
        partial(LearnedRadius, interval=QUICK_INTERVAL),
        ascent_share=QUICK_SHARE,
    ),
    "sam-budget": Kind(
        "SAM, radius from a loss budget (LE-SAM)",
        SAM,
        default_rho=lambda task: BUDGET,
        scheduled=_budget,
        is_radius=False,
    ),
}


def _of_variant(kind: type[Variant]) -> dict[str, Kind]:
    """Its fixed and its learned form. The task's radius for SAM is scaled by the ratio of the defaults."""
    name, title, ratio = kind.__name__.lower(), kind.facts.title, kind.facts.rho / SAM.facts.rho

    def rho(task: Task) -> float:
        return ratio * task.sam_rho

    return {
        name: Kind(title, kind, default_rho=rho),
        f"lets-{name}": Kind(f"{title}; learned radius", kind, LearnedRadius, rho),
    }


for _name, _kind in _BUILT_IN.items():
    register(_name, _kind)
for _variant in VARIANTS.values():
    for _name, _kind in _of_variant(_variant).items():
        if _name not in KINDS:
            register(_name, _kind)


@dataclass(frozen=True)
class Method:
    """A method of a trial, such as `sgd`, `sam:0.1` or `lets-sam`.

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
            plain = MethodName.parse(kind).search
            hint = did_you_mean(plain if plain in KINDS else kind, KINDS)
            raise ValueError(f"`methods` must be of those that `letsam methods` lists, got {name!r}{hint}")
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

    def __str__(self) -> str:
        return self.name

    def __reduce__(self) -> tuple[Callable[[str], Method], tuple[str]]:
        return Method.parse, (self.name,)  # for worker processes: kinds hold functions that pickle cannot send

    @property
    def is_learned(self) -> bool:
        """Whether the radius is learned."""
        return self.kind.learned is not None

    def initial_rho(self, task: Task, override: float | None) -> float | None:
        """The number after the colon: the name's, else `override`, else the kind's default; None without a radius."""
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
        until: int | None = None,
    ) -> Optimizer:
        """Make the optimizer: `base` alone, or wrapped with a fixed, a scheduled, a learned or a replayed radius.

        Args:
            base: the base optimizer.
            rho: from `initial_rho`.
            replayed: a radius that replaces the method's own.
            steps: length of the run in optimizer steps, >= 1; schedules need it.
            model: the network, so that its running statistics move once a step (see `SharpnessAware`).
            until: the number of steps in which a learned radius is learned; None: all.

        Returns:
            An optimizer.

        Raises:
            ValueError: a scheduled radius without `steps`.
        """
        if self.kind.wrap is None or rho is None:
            return base
        radius = self._radius(rho, steps, until) if replayed is None else replayed
        if self.kind.units is not None:
            radius = self.kind.units(radius)
        options: dict[str, Any] = {"steps": steps} if self.kind.takes_steps else {}
        return self.kind.wrap(base, radius, model=model, **options)

    def _radius(self, rho: float, steps: int | None, until: int | None) -> float | Radius:
        if self.kind.learned is not None:
            if until is None:
                return self.kind.learned(rho)
            try:
                inspect.signature(self.kind.learned).bind(rho, until=until)
            except TypeError:
                raise ValueError(f"`release` needs a radius that takes `until`, got {self.name}") from None
            return self.kind.learned(rho, until=until)
        if self.kind.scheduled is None:
            return rho
        if steps is None:
            raise ValueError(f"`steps` must be given for the scheduled radius of {self.name}, got None")
        return self.kind.scheduled(rho, steps)


@dataclass(frozen=True)
class PlannedRun:
    """One row of a trial: a method with a seed, or the refit of that run.

    Attributes:
        method: the method.
        seed: >= 0.
        refit: whether the learned schedule of the same method and seed is replayed on all the training data.
    """

    method: Method
    seed: int
    refit: bool = False

    @property
    def name(self) -> str:
        """The name of the method in the records."""
        return self.method.name + REFIT if self.refit else self.method.name

    @property
    def key(self) -> tuple[str, int]:
        """The key of its record, see `letsam.results.Run.key`."""
        return self.name, self.seed

    @property
    def search(self) -> PlannedRun:
        """The run whose schedule a refit replays; the run itself where it is no refit."""
        return PlannedRun(self.method, self.seed)
