"""No peeking: what each look at the results may spend of the error rate, and the critical values that follow.

Seeds may be added to a trial as often as one likes. A look with n seeds may have spent ``level * (1 - 2 / n)`` of the
error rate, all looks before it included: nothing with two seeds, a third of it with three, and never all of it. The
critical value c of a look is such that, if the differences are normal with mean 0, the probability of
``mean > c * standard error`` at this look and at none before it is what this look may spend.

The sequence of t statistics is a Markov chain, so that this is exact, up to a numerical integration in one dimension:
let a be the angle with ``t = sqrt(n - 1) * tan(a)``. It has a density proportional to ``cos(a) ** (n - 2)``, and one
more difference gives ``sqrt(n + 1) * sin(a') = sqrt(n) * sin(a) * cos(b) + sin(b)``, where b does not depend on a and
has a density proportional to ``cos(b) ** (n - 1)``.

Source: error spending is from Lan and DeMets (1983), https://doi.org/10.1093/biomet/70.3.659.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["FEWEST_SEEDS", "critical_values", "later_values", "spent"]

FEWEST_SEEDS = 3
"""The fewest seeds with which anything can be shown: with two, nothing of the error rate may be spent."""

CELLS = 600
"""Cells of the angle a, in the numerical integration."""
ANGLES = 160
"""Nodes of the angle b."""


def spent(seeds: int, level: float) -> float:
    """What may have been spent of the error rate by a look with so many seeds.

    Example:
        >>> [round(spent(seeds, 0.05), 4) for seeds in (2, 3, 5, 10)]
        [0.0, 0.0167, 0.03, 0.04]
    """
    return level * max(0.0, 1 - 2 / seeds)


def critical_values(looks: Sequence[int], level: float) -> tuple[float, ...]:
    """The critical values of t for each look, with ``seeds - 1`` degrees of freedom.

    Args:
        looks: the numbers of seeds, each larger than the one before, >= 3.
        level: error rate of all looks together, on one side.

    Returns:
        One value for each look.

    Example:
        >>> [round(value, 2) for value in critical_values((3, 5, 10), 0.05)]
        [5.34, 3.15, 2.61]
    """
    return _chain(_checked(looks), float(level)).values


def later_values(looks: Sequence[int], last: int, level: float) -> dict[int, float]:
    """The critical value that the next look would have, for each number of seeds up to `last`.

    Args:
        looks: those that there were, as in `critical_values`.
        last: the largest number of seeds.
        level: as in `critical_values`.

    Returns:
        The values by number of seeds, without those that are too few.
    """
    return dict(_later(_checked(looks), last, float(level)))


@functools.lru_cache(maxsize=256)
def _later(looks: tuple[int, ...], last: int, level: float) -> dict[int, float]:
    chain = _chain(looks, level)
    mass, seeds = chain.mass, chain.seeds
    values: dict[int, float] = {}
    for count in range(max(seeds + 1, FEWEST_SEEDS), last + 1):
        mass = _moved(mass, seeds, count) if looks else _first(count)
        seeds = count
        values[count] = _value(mass, count, spent(count, level) - chain.spent)
    return values


class _Chain:
    """The angles of the trials that no look has stopped: how probable each cell is after the last look."""

    def __init__(self, looks: Sequence[int], level: float) -> None:
        import numpy as np

        self.mass: NDArray[np.float64] = np.zeros(CELLS)
        self.seeds, self.spent = 0, 0.0
        values: list[float] = []
        for count in looks:
            self.mass = _moved(self.mass, self.seeds, count) if self.seeds else _first(count)
            value = _value(self.mass, count, spent(count, level) - self.spent)
            self.seeds, self.spent = count, spent(count, level)
            values.append(value)
            edge = (math.atan(value / math.sqrt(count - 1)) / math.pi + 0.5) * CELLS
            self.mass = self.mass * np.clip(edge - np.arange(CELLS), 0, 1)
        self.values = tuple(values)


@functools.lru_cache(maxsize=256)
def _chain(looks: tuple[int, ...], level: float) -> _Chain:
    return _Chain(looks, level)


def _checked(looks: Sequence[int]) -> tuple[int, ...]:
    found = tuple(looks)
    if any(later <= earlier for earlier, later in zip((FEWEST_SEEDS - 1, *found), found, strict=False)):
        raise ValueError(f"`looks` must be increasing numbers of seeds >= {FEWEST_SEEDS}, got {found}")
    return found


def _cells() -> NDArray[np.float64]:
    import numpy as np

    return ((np.arange(CELLS) + 0.5) / CELLS - 0.5) * np.pi


def _first(seeds: int) -> NDArray[np.float64]:
    """The probability of each cell where no look has come before."""
    import numpy as np

    density = np.cos(_cells()) ** (seeds - 2)
    return density / density.sum()


def _moved(mass: NDArray[np.float64], seeds: int, later: int) -> NDArray[np.float64]:
    """The probability of each cell after further differences."""
    import numpy as np

    cells = _cells()[:, None]
    for count in range(seeds, later):
        angles = ((np.arange(ANGLES) + 0.5) / ANGLES - 0.5) * np.pi
        weights = np.cos(angles) ** (count - 1)
        sine = (math.sqrt(count) * np.sin(cells) * np.cos(angles) + np.sin(angles)) / math.sqrt(count + 1)
        place = (np.arcsin(np.clip(sine, -1, 1)) / np.pi + 0.5) * CELLS - 0.5
        below = np.clip(np.floor(place).astype(np.int64), 0, CELLS - 2)
        share = np.clip(place - below, 0, 1)
        flow = mass[:, None] * (weights / weights.sum())
        mass = np.zeros(CELLS)
        mass += np.bincount(below.ravel(), (flow * (1 - share)).ravel(), CELLS)
        mass += np.bincount(below.ravel() + 1, (flow * share).ravel(), CELLS)
    return mass


def _value(mass: NDArray[np.float64], seeds: int, probability: float) -> float:
    """The t statistic that is exceeded with this probability."""
    import numpy as np

    above = np.concatenate([[0.0], np.cumsum(mass[::-1])])
    cells = float(np.interp(probability, above, np.arange(CELLS, -1, -1)))
    return math.sqrt(seeds - 1) * math.tan((cells / CELLS - 0.5) * math.pi)
