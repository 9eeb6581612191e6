"""A step without its passes: times, operators and memory of all contenders, and times as weights grow in number."""

from __future__ import annotations

from itertools import product

import torch

from benchmarks.speed.contenders import CONTENDERS, LEARNED, PARTS, Passes, base_alone, learned, letsam
from benchmarks.speed.cost import Rows, entries, in_rows, operators, peak, seconds

WORKLOADS: dict[str, list[tuple[int, ...]]] = {
    "few large": [(2048, 1024)] * 8,
    "many small": [(16, 16)] * 2000,
}
DTYPES = {"float32": torch.float32, "bf16": torch.bfloat16}
ROUNDS = 7
WORK = 3 * 10**6  # entries of weights that a contender steps through in a round, at least
PIECE = 300  # a tensor costs as much as these entries, about
NUMBERS, TENSORS = 10**6, 10  # what is held while the other one grows
REFERENCE = "SGD alone"
GROWING = {REFERENCE: base_alone, "SAM": letsam, "LETS-SAM": learned}
ALL = {f"{one[0].replace(' ', '-')}/{one[1]}/{one[2]}": one for one in product(WORKLOADS, ("SAM", "ASAM"), DTYPES)}
"""What is measured together: weights, variant and precision."""
SIZES = {f"weights/{10**power}": (10**power, TENSORS) for power in range(4, 9)}
SIZES |= {f"tensors/{10**power}": (NUMBERS, 10**power) for power in range(1, 5)}
"""Numbers of weights and of tensors."""


def measure(weights: str, variant: str, precision: str) -> Rows:
    """For each contender: milliseconds, the ratio to letsam, operators, copies; for each of `PARTS` the first two."""
    shapes, dtype, adaptive = WORKLOADS[weights], DTYPES[precision], variant == "ASAM"
    whole = CONTENDERS | LEARNED
    passes = {name: Passes(shapes, dtype) for name in (*whole, *PARTS)}
    steps = {name: make(passes[name], adaptive) for name, make in whole.items()}
    running = {name: step for name, step in steps.items() if step is not None}
    running |= {name: torch.no_grad()(make(passes[name], adaptive)) for name, make in PARTS.items()}
    counts = {name: operators(step) for name, step in running.items()}
    times = seconds(running, ROUNDS, before=lambda name: passes[name].renew(clear=name.startswith("letsam")))
    copy = entries(shapes) * dtype.itemsize
    found = in_rows(times, "letsam")
    for name in whole.keys() & found:
        fresh = whole[name](Passes(shapes, dtype), adaptive)
        assert fresh is not None
        found[name]["operators"] = counts[name] - (0 if name == REFERENCE else counts[REFERENCE])
        found[name]["copies"] = peak(fresh) / copy - 1.0  # SGD's own momentum
    return found


def measure_growth(numbers: int, tensors: int) -> Rows:
    """For each contender: milliseconds, and the ratio to SGD. They share weights and gradients, for want of memory."""
    passes = Passes([(numbers // tensors,)] * tensors, torch.float32)
    steps = {name: make(passes, False) for name, make in GROWING.items()}
    for step in steps.values():
        passes.renew()
        step()
        step()
    turns = max(1, WORK // (numbers + PIECE * tensors))
    return in_rows(seconds(steps, ROUNDS, turns, before=lambda name: passes.renew()), REFERENCE)
