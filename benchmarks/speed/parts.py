"""Everything that is measured, by name; the first part of a name says what it belongs to."""

from __future__ import annotations

import functools
from collections.abc import Callable

from benchmarks.speed import forward, measure, messages, scaling, whole
from benchmarks.speed.turns import Rows

BESIDE: dict[str, Callable[[], Rows]] = {
    name: functools.partial(measure.measure, workload) for name, workload in measure.ALL.items()
}
ALL: dict[str, Callable[[], Rows]] = whole.ALL | forward.ALL | BESIDE | scaling.ALL | messages.ALL
