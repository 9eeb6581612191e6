"""The shifts by modality. A new one is a function and a line in its modality's file; a new modality a line here."""

from __future__ import annotations

import importlib
from collections.abc import Mapping

from letsam.validation.drift.shift import Shift

# Names, so that the libraries of a modality are imported when it is used.
_TABLES = {
    "image": "letsam.validation.drift.image_shifts:IMAGE_SHIFTS",
    "text": "letsam.validation.drift.text_shifts:TEXT_SHIFTS",
    "table": "letsam.validation.drift.table_shifts:TABLE_SHIFTS",
    "audio": "letsam.validation.drift.audio_shifts:WAVE_SHIFTS",
    "log-mel": "letsam.validation.drift.audio_shifts:LOG_MEL_SHIFTS",
}
MODALITIES = tuple(_TABLES)

RESAMPLED = {
    "labels": "label shift: classes become more and less frequent",
    "groups": "subpopulations become more and less frequent; needs `groups`",
}
"""Shifts of any data, which draw other samples instead of changing them."""

CLEAN = "clean"  # in a mixture, samples as they are


def shifts_of(modality: str) -> Mapping[str, Shift]:
    """The shifts of inputs of this modality, by name."""
    module, _, name = _TABLES[modality].partition(":")
    return getattr(importlib.import_module(module), name)


def available_shifts(modality: str | None = None) -> list[tuple[str, str, str]]:
    """Name, modality and description of each shift; those of any data have the modality "any".

    Args:
        modality: "image", "text", "table", "audio" or "log-mel"; None: all.

    Example:
        >>> [name for name, _, _ in available_shifts("text")]
        ['typos', 'dropped', 'casing', 'truncated', 'labels', 'groups']
    """
    names = MODALITIES if modality is None else (modality,)
    rows = [(shift.name, name, shift.description) for name in names for shift in shifts_of(name).values()]
    return rows + [(name, "any", description) for name, description in RESAMPLED.items()]


def table_of(shifts: list[Shift]) -> dict[str, Shift]:
    """Shifts by their names."""
    return {shift.name: shift for shift in shifts}
