"""Shifts of rows of a table, prepared as numbers. Columns with two values are categories and are never scaled."""

from __future__ import annotations

import torch
from torch import Tensor

from letsam.validation.drift.draws import Draws
from letsam.validation.drift.known_shifts import table_of
from letsam.validation.drift.shift import Reference, Shift, by_severity


def missing(rows: Tensor, severity: int, draws: Draws, reference: Reference) -> Tensor:
    """Values that are missing, and are replaced by the column's median."""
    hidden = draws.uniform(rows.shape[1]) < by_severity(severity, 0.05, 0.1, 0.2, 0.35, 0.5)
    return torch.where(hidden, reference.median.to(rows), rows)


def scaled(rows: Tensor, severity: int, draws: Draws, reference: Reference) -> Tensor:
    """Columns whose deviations from the mean are larger or smaller, the same ones in all rows."""
    factor = by_severity(severity, 1.15, 1.3, 1.6, 2.0, 3.0)
    numeric = reference.deviation > 0
    drawn = torch.where(numeric, reference.draws.uniform(rows.shape[1])[0], 2.0)
    count = (by_severity(severity, 0.2, 0.3, 0.4, 0.5, 0.6) * numeric.sum()).ceil()
    hit = numeric & (drawn.argsort(stable=True).argsort(stable=True) < count)
    up = reference.draws.uniform(rows.shape[1])[0] < 0.5
    by = torch.where(hit, torch.where(up, factor, 1 / factor), 1.0).to(rows)
    mean = reference.mean.to(rows)
    return torch.where(by == 1, rows, mean + by * (rows - mean))


def noisy(rows: Tensor, severity: int, draws: Draws, reference: Reference) -> Tensor:
    """Normal noise on each number, relative to the deviation of its column."""
    share = by_severity(severity, 0.1, 0.2, 0.35, 0.6, 1.0)
    return rows + (share * reference.deviation * draws.normal(rows.shape[1])).to(rows)


def quantiles(rows: Tensor, severity: int, draws: Draws, reference: Reference) -> Tensor:
    """Each column moves up or down within its own distribution: quantile u becomes u^g or 1 - (1 - u)^g."""
    assert reference.rows is not None
    power = by_severity(severity, 1.2, 1.5, 2.0, 3.0, 5.0)
    known = reference.rows.to(rows)
    down = reference.draws.uniform(rows.shape[1])[0] < 0.5
    last = len(known) - 1
    columns = known.T.contiguous()
    below, above = (torch.searchsorted(columns, rows.T.contiguous(), right=right).T for right in (False, True))
    share = ((below + above - 1) / 2 / max(last, 1)).clamp(0, 1)  # of equal values, the middle
    moved = torch.where(down, share**power, 1 - (1 - share) ** power) * last
    low = moved.floor().long().clamp(max=max(last - 1, 0))
    first, second = known.gather(0, low), known.gather(0, (low + 1).clamp(max=last))
    found = torch.lerp(first, second, (moved - low).to(rows))
    return torch.where(reference.deviation > 0, found, rows)


TABLE_SHIFTS = table_of(
    [
        Shift("missing", "table", "missing values, replaced by the column's median", missing),
        Shift("scaled", "table", "some columns in another scale", scaled),
        Shift("noisy", "table", "noise on all numbers", noisy),
        Shift("quantiles", "table", "columns whose values become larger or smaller, within their range", quantiles),
    ]
)
