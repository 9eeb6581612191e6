"""The time of a step without its passes, as weights grow in number and in pieces."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from benchmarks.speed.contenders import OPTIONS, RHO, Passes, Step
from benchmarks.speed.turns import Rows, milliseconds, ratio, seconds
from letsam import SAM, LearnedRadius

ROUNDS = 7
WORK = 3 * 10**6  # entries of weights that a contender steps through in a round, at least
PIECE = 300  # a tensor costs as much as these entries, about
NUMBERS, TENSORS = 10**6, 10  # what is held while the other one grows
REFERENCE = "SGD alone"


def alone(passes: Passes) -> Step:
    """The base optimizer."""
    base = torch.optim.SGD(passes.params, **OPTIONS)
    passes()
    return base.step


def letsam(rho: Callable[[], Any]) -> Callable[[Passes], Step]:
    """This library."""

    def make(passes: Passes) -> Step:
        opt = SAM(torch.optim.SGD(passes.params, **OPTIONS), rho())
        return lambda: opt.step(passes, passes)

    return make


CONTENDERS: dict[str, Callable[[Passes], Step]] = {
    REFERENCE: alone,
    "SAM": letsam(lambda: RHO),
    "LETS-SAM": letsam(lambda: LearnedRadius(RHO, interval=1)),
}


def measure(numbers: int, tensors: int) -> Rows:
    """For each contender: milliseconds, and the ratio to SGD. They share weights and gradients, for want of memory."""
    passes = Passes([(numbers // tensors,)] * tensors, torch.float32)
    steps = {name: make(passes) for name, make in CONTENDERS.items()}
    for step in steps.values():
        step()
        step()
    turns = max(1, WORK // (numbers + PIECE * tensors))
    times = seconds(steps, ROUNDS, turns, before=lambda name: passes.renew())
    return {
        name: {"ms": milliseconds(values), "ratio": ratio(values, times[REFERENCE])} for name, values in times.items()
    }


ALL = {f"weights/{10**power}": (10**power, TENSORS) for power in range(4, 9)}
ALL |= {f"tensors/{10**power}": (NUMBERS, 10**power) for power in range(1, 5)}
