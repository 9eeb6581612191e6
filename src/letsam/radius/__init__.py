"""Radii: fixed, scheduled, learned."""

from .base import Ascent, Radius
from .fixed import FixedRadius
from .learned import LearnedRadius
from .scheduled import CosineRadius, LinearRadius, ProportionalRadius, ReplayedRadius, ScheduledRadius

__all__ = [
    "Ascent",
    "CosineRadius",
    "FixedRadius",
    "LearnedRadius",
    "LinearRadius",
    "ProportionalRadius",
    "Radius",
    "ReplayedRadius",
    "ScheduledRadius",
]
