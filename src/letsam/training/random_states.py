"""Random states that are put back."""

from __future__ import annotations

import contextlib
import random
import sys
from collections.abc import Iterator
from typing import Any

import torch


@contextlib.contextmanager
def same_random_states(device: torch.device | None = None) -> Iterator[None]:
    """Put back the global random states of torch, Python and NumPy at the end of the block.

    Args:
        device: whose generator is put back beside that of the CPU; None: no other.
    """
    python = random.getstate()
    numpy: Any = sys.modules.get("numpy")
    arrays = numpy.random.get_state() if "numpy" in sys.modules else None
    try:
        with torch.random.fork_rng([device] if device is not None and device.type == "cuda" else []):
            yield
    finally:
        random.setstate(python)
        if arrays is not None:
            numpy.random.set_state(arrays)
