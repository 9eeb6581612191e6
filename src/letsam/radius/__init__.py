"""Radii: fixed, scheduled, learned."""

from .base import Ascent, Radius
from .fixed import FixedRadius
from .learned import LearnedRadius
from .loss_budget import LossBudgetRadius
from .relative import layerwise, relative
from .scheduled import CosineRadius, LinearRadius, ProportionalRadius, ReplayedRadius, ScheduledRadius

__all__ = [
    "Ascent",
    "CosineRadius",
    "FixedRadius",
    "LearnedRadius",
    "LinearRadius",
    "LossBudgetRadius",
    "ProportionalRadius",
    "Radius",
    "ReplayedRadius",
    "ScheduledRadius",
    "layerwise",
    "relative",
]
