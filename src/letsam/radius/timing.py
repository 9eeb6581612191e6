"""When a learned radius is updated."""

from __future__ import annotations

from collections.abc import Callable

INTERVAL = 4  # steps from one update to the next after the burn-in; a step then costs 2 1/4 passes on average


class UpdateTimes:
    """The steps at which the radius is updated: every k-th one that has a Z.

    Args:
        interval: k >= 1; None: 1 in the burn-in, then 4.
        burn_in: number of steps, >= 0.
        next_batch: whether an update uses the Z of the previous step; if not, that of its own step.
        until: no updates from this step on; None: to the end.

    Example:
        >>> times = UpdateTimes(2, burn_in=0, next_batch=True)
        >>> [step for step in range(8) if times.due(step)]
        [1, 3, 5, 7]
    """

    def __init__(self, interval: int | None, burn_in: int, next_batch: bool, until: int | None = None) -> None:
        self.given, self.burn_in, self.late, self.until = interval, burn_in, int(next_batch), until
        self.ascends: Callable[[int], bool] = _always
        """`Perturbation.ascends`: which steps climb, and therefore have a Z."""

    def interval(self, step: int) -> int:
        """Number of steps from one update to the next, at this step."""
        if self.given is None:
            return 1 if step < self.burn_in else INTERVAL
        return self.given

    def due(self, step: int) -> bool:
        """Whether step `step` (from 0) has an update. If only some steps climb, updates wait for one that has a Z."""
        if self.until is not None and step >= self.until:
            return False
        since = self.since(step)
        return any((due + 1) % self.interval(due) == 0 for due in range(step - since + 1, step + 1))

    def since(self, step: int) -> int:
        """Number of steps from the previous Z to the one that can be used at `step`; 0 if there is none at `step`."""
        if not self.ascends(step - self.late):
            return 0
        earlier = step - 1
        while earlier >= 0 and not self.ascends(earlier - self.late):
            earlier -= 1
        return step - earlier

    def steps(self, step: int) -> int:
        """Number of steps that an update at `step` stands for."""
        return max(self.interval(step), self.since(step))


def _always(step: int) -> bool:
    return True
