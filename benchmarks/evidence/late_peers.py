"""Rivals at 1.3 passes a step: they climb in the last part of a run only.

- `sam-late`: late-phase SAM. The base optimizer, then SAM with a fixed radius. The paper's main experiment switches
  for the last 25 of 200 epochs; here SAM has the last 30% of the steps, so that all these rivals cost the same.
- `temperon`: the policy of the package of that name, version 0.1.1, with its defaults and the learning rate that its
  README pairs with them: SAM with a fixed radius, without a ramp, in the last 30% of the steps. The learning rate is
  constant before and falls linearly to 0 within them, so that SAM has the whole decay. Its default radius is 0.05.

Reference:
    Late-phase SAM: arXiv:2410.10373. Temperon: arXiv:2609.17575.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.harness.training import Decay, begun, trained
from letsam import SAM
from letsam.radius import Radius, ScheduledRadius
from letsam.results import Run
from letsam.tasks import Task
from letsam.training.methods import Kind, register

SHARE = 0.3  # of the steps, at the end of a run


def beginning(steps: int) -> int:
    """The first of `steps` steps that climbs."""
    return round((1 - SHARE) * steps)


class LateRadius(ScheduledRadius):
    """0, in steps of one pass, and `rho` in the last steps.

    Args:
        rho: radius of the last steps, > 0.
        steps: length of the run in optimizer steps, >= 1.

    Example:
        >>> LateRadius(0.2, steps=10).wants(6).climbs, LateRadius(0.2, steps=10).wants(7).climbs
        (False, True)
    """

    def __init__(self, rho: float, steps: int) -> None:
        super().__init__(0.0, rho, steps)

    def weight(self, fraction: float) -> float:
        """1, then 0."""
        return float(round(fraction * self.steps) < beginning(self.steps))


def decayed_late(step: int, steps: int) -> float:
    """The learning rate as a share of the first: constant, then linear to 0 in the steps that climb."""
    first = beginning(steps)
    return min(1.0, (steps - step) / (steps - first))


def _late(rho: float, steps: int) -> Radius:
    return LateRadius(rho, steps)


TITLES = {"sam-late": "late-phase SAM", "temperon": "temperon"}
"""The rivals by the names of their methods."""
DECAYS: Mapping[str, Decay] = {"temperon": decayed_late}
"""Learning rates that replace the cosine of all other methods."""
for _name, _title in TITLES.items():  # so that their names are those of methods, in worker processes too
    register(_name, Kind(f"SAM in the last {SHARE:.0%} of the steps ({_title})", SAM, scheduled=_late))


def late_runs(task: Task, peer: str, radii: Sequence[str], seed: int, **options: Any) -> list[Run]:
    """A run at each of the radii; the steps before the ascents, which are the same at all radii, are trained once.

    The passes and the seconds of a run are those of all its steps.
    """
    options["decay"] = DECAYS.get(peer)
    base = begun(task, f"{peer}:{radii[0]}", seed, **options)
    first = beginning(base.epochs * base.steps_per_epoch)
    while base.step < first:
        base.advance(first - base.step)
    state = base.state_dict()
    return [trained(task, f"{peer}:{rho}", seed, state=state, **options).result() for rho in radii]
