"""Radii: fixed, scheduled and learned, and the parts of a learned one (objective, rule, prior).

A radius is given scalars only (0-dim tensors, or one value per block of weights), never weights or gradients.
"""

from .base import Ascent, Evidence, Radius, Wants
from .fixed import FixedRadius
from .learned import LearnedRadius
from .log_adam import LogAdam
from .loss_budget import LossBudgetRadius
from .objective import Objective
from .prior import Prior
from .relative import layerwise, relative
from .rule import Rule, Update
from .scheduled import CosineRadius, LinearRadius, ProportionalRadius, ReplayedRadius, ScheduledRadius
from .squared_gap import SquaredGap
from .validation_loss import ValidationLoss

__all__ = [
    "Ascent",
    "CosineRadius",
    "Evidence",
    "FixedRadius",
    "LearnedRadius",
    "LinearRadius",
    "LogAdam",
    "LossBudgetRadius",
    "Objective",
    "Prior",
    "ProportionalRadius",
    "Radius",
    "ReplayedRadius",
    "Rule",
    "ScheduledRadius",
    "SquaredGap",
    "Update",
    "ValidationLoss",
    "Wants",
    "layerwise",
    "relative",
]
