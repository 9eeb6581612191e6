"""Metrics that are computed on a whole data set, and need not be a mean over its samples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A metric of all outputs and targets of a data set.

    Args:
        name: as tables and reports show it.
        function: takes all outputs and all targets, and returns a number.
        lower_is_better: whether a lower value is better.
        percent: whether it is shown in percent.
    """

    name: str
    function: Callable[[Any, Any], float]
    lower_is_better: bool = False
    percent: bool = False
