"""The share of wrong training labels that a search is told on held-out labels, where it should be about 0.

    python -m benchmarks.evidence.label_noise [SETTING ...] [--seeds K]

Trains the first 150 steps of each setting from each start of SAM, and prints how many of the runs are told a share (see
`letsam.radius.ExcessNoise`), and the highest one; also by least squares, as letsam did before. A setting whose data is
missing is named and left out.
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from benchmarks.evidence.first_steps import started, tell
from benchmarks.evidence.suite import SETTINGS, Setting
from letsam.radius import ExcessNoise
from letsam.radius.excess_noise import ERROR, FIRST, LOWEST

STEPS = 150
Seen = tuple[int, Tensor, Tensor, Tensor | None, Tensor]
"""The arguments of `ExcessNoise.observe`."""


def observed(setting: Setting, start: str, seed: int) -> list[Seen]:
    """What a run that is never told a share observes in its first steps."""
    training = started(setting, f"lets-sam:{start}", seed)
    seen: list[Seen] = []
    optimizer: Any = training.optimizer
    optimizer.radius.rule.guard.label_noise.observe = lambda *arguments: seen.append(arguments)
    while not training.finished and training.step < STEPS:
        training.advance()
    return seen


def told(seen: Sequence[Seen]) -> float:
    """The share; 0 if none is told."""
    noise = ExcessNoise()
    for arguments in seen:
        noise.observe(*arguments)
        noise.commit(torch.tensor(True))
    return float(noise.known)


def by_least_squares(seen: Sequence[Seen]) -> float:
    """The same with the slope of least squares, and its standard error for errors of one size."""
    count = squares = both = gains = 0.0
    for step, training_loss, validation_loss, gain, usable in seen:
        if gain is None or not usable:
            continue
        gap, more = float(training_loss - validation_loss), float(gain)
        count, squares, both, gains = count + 1, squares + gap**2, both + gap * more, gains + more**2
        if step >= FIRST and gains > 0 and squares - both**2 / gains <= ERROR**2 * count * gains:
            return both / gains if both / gains >= LOWEST else 0.0
    return 0.0


def shares(setting: Setting, seeds: int) -> Iterator[tuple[float, float]]:
    """(told, by least squares) of each start and seed."""
    for seed in range(seeds):
        for start in setting.sam_starts:
            seen = observed(setting, start, seed)
            yield told(seen), by_least_squares(seen)


def line(setting: Setting, seeds: int) -> str:
    """How many runs are told a share, and the highest one."""
    columns = list(zip(*shares(setting, seeds), strict=True))
    new, old = (f"{sum(one > 0 for one in column)} ({max(column):.2f} at most)" for column in columns)
    return f"{len(columns[0])} runs, a share is told in {new}, by least squares in {old}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a line for each setting of the suite whose name begins with one of these; for all without names."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.evidence.label_noise", description=__doc__)
    parser.add_argument("names", nargs="*", help="how the names of settings begin")
    parser.add_argument("--seeds", type=int, default=1, help="how many")
    options = parser.parse_args(arguments)
    tell(SETTINGS, options.names, functools.partial(line, seeds=options.seeds))


if __name__ == "__main__":
    main()
