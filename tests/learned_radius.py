"""A learned radius from flat options: the tests vary one at a time, whichever part of the radius it belongs to."""

from __future__ import annotations

from typing import Any

from letsam import LearnedRadius


def learned_radius(rho: float, **options: Any) -> LearnedRadius:
    """`LearnedRadius` with the options of all of its parts as keywords."""
    return LearnedRadius(rho, **options)
