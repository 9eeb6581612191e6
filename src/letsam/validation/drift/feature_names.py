"""Names of the numbers that `features_of` makes of inputs, so that a report can say which of them has changed."""

from __future__ import annotations

from letsam.validation.drift.drift_features import BANDS, SOUND_BANDS

_LEVELS = ("darkest 5 %", "darkest quarter", "middle", "brightest quarter", "brightest 5 %")
_IMAGE = (
    *("mean brightness", "contrast", "colourfulness"),
    *(f"brightness level: {level}" for level in _LEVELS),
    *("share of black", "share of white"),
    *("mean edges across", "mean edges down", "typical edges across", "typical edges down"),
)
_LETTERS = ("words", "letters a word", "share of capitals", "share of letters", "share of doubled letters")


def feature_names(modality: str | None, count: int) -> tuple[str, ...]:
    """Names of the first features; those after them, such as hashed pairs of letters, have none.

    Args:
        modality: as for `features_of`.
        count: of the features that it has made.

    Example:
        >>> feature_names("table", 4)
        ('input 1', 'input 2')
        >>> feature_names("text", 129)
        ('length',)
    """
    if modality == "image":
        parts = count - len(_IMAGE) - BANDS
        bands = [f"detail, band {band + 1} of {BANDS}" for band in range(BANDS)]
        return (*_IMAGE, *(f"brightness of part {part + 1}" for part in range(parts)), *bands)
    if modality == "text":
        letters = count > 129  # a length and 128 buckets
        return ("length", *(_LETTERS if letters else ()))
    if modality == "table":
        return tuple(f"input {place + 1}" for place in range(count // 2))  # the rest are absolute values
    if modality == "audio":
        bands = [f"energy, band {band + 1}" for band in range(count - 3)]
        return (*bands, "mean energy", "peak energy", "share of clipped samples")
    if modality == "log-mel":
        bands = min(SOUND_BANDS, (count - 1) // 2)
        names = [f"{what}, band {band + 1}" for what in ("energy", "variation") for band in range(bands)]
        return (*names, "quietest")
    return tuple(f"input {place + 1}" for place in range(count))
