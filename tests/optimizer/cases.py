"""What the tests of the optimizer share: every kind of radius, by a name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import letsam
from learned_radius import learned_radius
from letsam import CosineRadius, LearnedRadius

ESTIMATORS = ("secant", "finite_difference", "diagonal")
RADII: dict[str, Callable[[], Any]] = {
    "fixed": lambda: 0.1,
    "cosine": lambda: CosineRadius(0.2, 0.1, 3),
    "linear": lambda: letsam.LinearRadius(0.2, 0.1, 3),
    "proportional": lambda: letsam.ProportionalRadius(0.2, 0.1),
    "replayed": lambda: letsam.ReplayedRadius([0.1, 0.3], 5),
    "replayed per layer": lambda: letsam.ReplayedRadius([[0.1, 0.2, 0.3, 0.1], [0.3] * 4], 5, per="layer"),
    "relative": lambda: letsam.relative(0.05),
    "layerwise": lambda: letsam.layerwise(LearnedRadius(0.05)),
    "per layer": lambda: LearnedRadius(0.1, per="layer"),
    "per group": lambda: learned_radius(0.1, per="group", hypergradient="finite_difference"),
    "paper": lambda: LearnedRadius.paper(0.1),
} | {
    f"{estimator}-{objective}-{training_batch}": lambda e=estimator, o=objective, t=training_batch: learned_radius(
        0.1, hypergradient=e, objective=o, training_batch=t
    )
    for estimator in ESTIMATORS
    for objective in ("squared_gap", "validation_loss")
    for training_batch in ("next", "same")
}
