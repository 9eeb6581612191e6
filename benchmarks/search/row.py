"""What is kept of a trial of an idea."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean

ACCURACY, FROM_ONE, SPREAD, RADIUS = "accuracy", "accuracy from the start 1", "spread", "radius"


@dataclass(frozen=True)
class Row:
    """One idea, or one radius of the grid, on one setting; [start][seed], and the grid has one "start"."""

    setting: str
    name: str  # of the idea or of the radius
    epochs: int  # of every training
    accuracy: list[list[float]]  # test accuracy in percent after training on all data
    held_out: list[list[float]]  # the same after training on what is not held out; none for the grid
    rho: list[list[float]]  # [start][moment], geometric mean over the seeds at `MOMENTS`; none for the grid

    @property
    def key(self) -> str:
        """Idea and setting."""
        return f"{self.name}/{self.setting}"

    def values(self, measure: str) -> list[float]:
        """One number a seed; for RADIUS one a start."""
        if measure == RADIUS:
            return [moments[1] for moments in self.rho]
        by_seed = list(zip(*self.accuracy, strict=True))
        if measure == FROM_ONE:
            return [starts[-1] for starts in by_seed]
        if measure == SPREAD:
            return [max(starts) - min(starts) for starts in by_seed]
        return [fmean(starts) for starts in by_seed]

    @property
    def mean(self) -> float:
        """Accuracy over seeds and starts."""
        return fmean(self.values(ACCURACY))
