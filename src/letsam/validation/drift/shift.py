"""Shift: one kind of simulated drift, with five severities."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from letsam.validation.drift.draws import Draws

SEVERITIES = range(1, 6)


@dataclass(frozen=True)
class Reference:
    """What shifts need to know of the data: statistics of the unshifted samples.

    Args:
        rows: of tables, some unshifted rows, each column sorted, shape ``(samples, columns)``.
        draws: random numbers that all samples share, one row.
    """

    draws: Draws
    rows: Tensor | None = None

    @property
    def median(self) -> Tensor:
        """Of each column."""
        assert self.rows is not None
        return self.rows[len(self.rows) // 2]

    @property
    def mean(self) -> Tensor:
        """Of each column."""
        assert self.rows is not None
        return self.rows.mean(dim=0)

    @property
    def deviation(self) -> Tensor:
        """The standard deviation of each column; 0 for columns of two values, which are categories."""
        assert self.rows is not None
        numeric = (self.rows[1:] != self.rows[:-1]).sum(dim=0) > 1
        return torch.where(numeric, self.rows.std(dim=0, correction=0), 0.0)


@dataclass(frozen=True)
class Shift:
    """One kind of simulated drift.

    Args:
        name: as it is given to `shifted`.
        modality: of the inputs: "image", "text", "table", "audio" (waveforms) or "log-mel".
        description: one line.
        apply: (batch of inputs, severity 1 to 5, draws, reference) -> the shifted batch. Images are floats in [0, 1] of
            shape ``(batch, channels, height, width)``, texts lists of str or of token rows, tables ``(batch,
            columns)``, waveforms ``(batch, ..., times)``, log-mel spectrograms ``(batch, ..., bands, times)`` in
            natural logarithms of energy.
    """

    name: str
    modality: str
    description: str
    apply: Callable[[Any, int, Draws, Reference], Any]


def by_severity(severity: int, *values: float) -> float:
    """The value of this severity.

    Example:
        >>> by_severity(2, 0.1, 0.2, 0.3, 0.4, 0.5)
        0.2
    """
    return values[severity - 1]
