"""The names of shifts in the records of a trial, and means over them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from letsam.results.summaries import finite_mean

__all__ = ["CLEAN_TEST", "kinds_in", "kinds_of_shifts", "mean_over_shifts", "shift_severity"]

CLEAN_TEST = "clean"
"""The name of the test data as they are, among the shifted ones."""

_NAME = re.compile(r"(?P<kind>[^:+@,]+):(?P<severity>[1-5])")


def shift_severity(name: str) -> tuple[str, int | None]:
    """The kind and the severity of a shift; None for several shifts one after the other.

    Example:
        >>> shift_severity("noise:3"), shift_severity("noise:1+blur:2")
        (('noise', 3), ('noise:1+blur:2', None))
    """
    found = _NAME.fullmatch(name)
    return (name, None) if found is None else (found["kind"], int(found["severity"]))


def kinds_of_shifts(names: Mapping[str, Any]) -> dict[str, list[str]]:
    """The shifts of each kind, in order, without the clean data.

    Example:
        >>> kinds_of_shifts({"clean": 0, "noise:1": 0, "blur:2": 0, "noise:3": 0})
        {'noise': ['noise:1', 'noise:3'], 'blur': ['blur:2']}
    """
    kinds: dict[str, list[str]] = {}
    for name in names:
        if name != CLEAN_TEST:
            kinds.setdefault(shift_severity(name)[0], []).append(name)
    return kinds


def kinds_in(mixture: str) -> list[str]:
    """The kinds of shift in a mixture, in order.

    Example:
        >>> kinds_in("noise:2+blur:1@0.3,clean@0.7")
        ['noise', 'blur', 'clean']
    """
    names = [re.split("[:@]", part)[0].strip() for part in re.split("[,+]", mixture)]
    return list(dict.fromkeys(name for name in names if name))


def mean_over_shifts(values: Mapping[str, float]) -> float:
    """The mean over the kinds of shift of the means over their severities; NaN where a value is not finite.

    Example:
        >>> mean_over_shifts({"clean": 9.0, "noise:1": 1.0, "noise:3": 3.0, "blur:2": 4.0})
        3.0
    """
    return finite_mean([finite_mean([values[name] for name in names]) for names in kinds_of_shifts(values).values()])
