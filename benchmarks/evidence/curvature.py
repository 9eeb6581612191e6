"""The curvature of the loss in each setting, as the limit of the prior measures it.

    python -m benchmarks.evidence.curvature [SETTING ...]

Prints R (see `letsam.Prior`): the relative increase of the loss that is due to curvature, at the distance of the prior.
It is measured in the first 25 steps, for the first and the last start and two seeds. All settings take some minutes. A
setting whose data is missing is named and left out.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import torch

from benchmarks.evidence.benchmark import Evidence
from benchmarks.evidence.suite import Setting
from benchmarks.harness.training import begun, loaded
from letsam import Prior, SharpnessAware
from letsam.radius.prior import MEASURED
from letsam.tasks import TaskError

SEEDS = 2


def shares(setting: Setting) -> Iterator[float]:
    """R of each start and seed."""
    task = loaded(setting.task, setting.train_size, setting.model)
    starts = {"lets-sam": setting.sam_starts, "lets-asam": setting.asam_starts}
    options = {"epochs": setting.epochs, "label_noise": setting.noise, "max_grad_norm": setting.max_grad_norm}
    for method in [f"{kind}:{start}" for kind, all_ in starts.items() for start in (all_[0], all_[-1])]:
        for seed in range(SEEDS):
            training = begun(task, method, seed, **options)
            while training.step < MEASURED:
                training.advance()
            assert isinstance(training.optimizer, SharpnessAware)
            state = training.optimizer.radius.state_dict()
            yield float(Prior().reach ** 2 / 2 * state["curved_growth"] / state["curved_scale"])


def main(names: list[str]) -> None:
    """Print a line for each setting whose name begins with one of these; for all without names."""
    torch.set_num_threads(1)
    for name, setting in Evidence().settings.items():
        if names and not name.startswith(tuple(names)):
            continue
        try:
            found = sorted(shares(setting))
            print(f"{name}: R {found[0]:.2f} to {found[-1]:.2f}, {len(found)} runs", flush=True)
        except TaskError as error:
            print(f"{name}: left out, {error}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
