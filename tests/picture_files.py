"""Image files for the tests: what is in each picture is known, and so is what must be read of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


def pixels(number: int, size: tuple[int, int] = (12, 10), channels: int = 3) -> np.ndarray[Any, Any]:
    """uint8, shape (height, width, channels), of a generator with this number; size is (width, height)."""
    shape = (size[1], size[0], channels)
    return np.random.default_rng(number).integers(0, 256, shape, dtype=np.uint8)


def save(path: Path, values: np.ndarray[Any, Any], **options: Any) -> Path:
    """Write a picture; the suffix decides on the format."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values.squeeze(-1) if values.ndim == 3 and values.shape[-1] == 1 else values).save(path, **options)
    return path


def folder(root: Path, *, classes: str = "ab", each: int = 6, first: int = 0, **options: Any) -> Path:
    """A folder of PNG files for each class, all different; class k is brighter than class k - 1."""
    for place, name in enumerate(classes):
        for i in range(each):
            save(root / name / f"{i}.png", pixels(first + 100 * place + i, **options) // 4 + 60 * place)
    return root
