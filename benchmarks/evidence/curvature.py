"""The curvature of the loss in each setting, as the limit of the prior measures it.

    python -m benchmarks.evidence.curvature [SETTING ...]

Prints R (see `letsam.Prior`): the relative increase of the loss that is due to curvature, at the distance of the prior.
It is measured in the first 25 steps, for the first and the last start and two seeds. All settings take some minutes. A
setting whose data is missing is named and left out.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

from benchmarks.evidence.first_steps import started, tell
from benchmarks.evidence.suite import EVERY, Setting
from letsam import Prior, SharpnessAware
from letsam.radius.prior import MEASURED

SEEDS = 2


def shares(setting: Setting) -> Iterator[float]:
    """R of each start and seed."""
    starts = {"lets-sam": setting.sam_starts, "lets-asam": setting.asam_starts}
    for method in [f"{kind}:{start}" for kind, all_ in starts.items() for start in (all_[0], all_[-1])]:
        for seed in range(SEEDS):
            training = started(setting, method, seed)
            while training.step < MEASURED:
                training.advance()
            assert isinstance(training.optimizer, SharpnessAware)
            state = training.optimizer.radius.state_dict()
            yield float(Prior().reach ** 2 / 2 * state["curved_growth"] / state["curved_scale"])


def line(setting: Setting) -> str:
    """The range of R."""
    found = sorted(shares(setting))
    return f"R {found[0]:.2f} to {found[-1]:.2f}, {len(found)} runs"


def main(names: list[str]) -> None:
    """Print a line for each setting whose name begins with one of these; for all without names."""
    tell(EVERY, names, line)


if __name__ == "__main__":
    main(sys.argv[1:])
