"""The time of a step without its passes, as weights grow in number and in pieces."""

from __future__ import annotations

import torch

from benchmarks.speed.contenders import Passes, base_alone, learned, letsam
from benchmarks.speed.turns import Rows, in_rows, seconds

ROUNDS = 7
WORK = 3 * 10**6  # entries of weights that a contender steps through in a round, at least
PIECE = 300  # a tensor costs as much as these entries, about
NUMBERS, TENSORS = 10**6, 10  # what is held while the other one grows
REFERENCE = "SGD alone"


CONTENDERS = {REFERENCE: base_alone, "SAM": letsam, "LETS-SAM": learned}


def measure(numbers: int, tensors: int) -> Rows:
    """For each contender: milliseconds, and the ratio to SGD. They share weights and gradients, for want of memory."""
    passes = Passes([(numbers // tensors,)] * tensors, torch.float32)
    steps = {name: make(passes, False) for name, make in CONTENDERS.items()}
    for step in steps.values():
        step()
        step()
    turns = max(1, WORK // (numbers + PIECE * tensors))
    return in_rows(seconds(steps, ROUNDS, turns, before=lambda name: passes.renew()), REFERENCE)


ALL = {f"weights/{10**power}": (10**power, TENSORS) for power in range(4, 9)}
ALL |= {f"tensors/{10**power}": (NUMBERS, 10**power) for power in range(1, 5)}
