"""A learned radius from flat options: the tests vary one at a time, whichever part of the radius it belongs to."""

from __future__ import annotations

from typing import Any

import letsam
from letsam import LearnedRadius, LogAdam, Objective, Prior, ValidationGuard
from letsam.hypergradient import HYPERGRADIENTS, Hypergradient
from oracle.maths import OBJECTIVES as ROWS

OBJECTIVES: dict[str, type[Objective]] = {name: getattr(letsam, name.title().replace("_", "")) for name in ROWS}


def learned_radius(
    rho: float,
    *,
    objective: str = "validation_loss",
    training_batch: str = "next",
    hypergradient: Any = "secant",
    length_invariant: bool = True,
    prior: float | None = 0.2,
    prior_weight: Any = (0.7, 0.1),
    prior_rise: float | None = 0.2,
    interval: int | None = None,
    per: str = "all",
    guard: ValidationGuard | None = None,
    **rule: Any,
) -> LearnedRadius:
    """`LearnedRadius` with the options of all of its parts as keywords; those of `LogAdam` are the rest.

    Without a guard: the batches of the tests have labels drawn at random.
    """
    if isinstance(hypergradient, str):
        hypergradient = HYPERGRADIENTS[hypergradient](length_invariant=length_invariant)
    elif isinstance(hypergradient, Hypergradient):
        hypergradient.length_invariant = length_invariant
    return LearnedRadius(
        rho,
        objective=OBJECTIVES[objective](training_batch=training_batch),
        hypergradient=hypergradient,
        rule=LogAdam(
            prior=None if prior is None else Prior(prior, weight=prior_weight, rise=prior_rise), guard=guard, **rule
        ),
        per=per,
        interval=interval,
    )
