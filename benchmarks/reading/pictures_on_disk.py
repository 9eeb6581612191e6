"""JPEGs on disk, made of Fashion-MNIST: enlarged and in colour."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import TensorDataset

from benchmarks.harness.training import loaded


def write_pictures(folder: Path, count: int, test: int, side: int) -> None:
    """Write `train/CLASS/*.jpg` and `test/CLASS/*.jpg`, squares of `side` pixels."""
    task = loaded("fashion-mnist")
    for part, dataset, size in (("train", task.train, count), ("test", task.test, test)):
        assert isinstance(dataset, TensorDataset)
        inputs, targets = (tensor[:size] for tensor in dataset.tensors)
        low, high = inputs.min(), inputs.max()
        grey = ((inputs - low) / (high - low) * 255).byte().reshape(size, *inputs.shape[-2:]).numpy()
        for i, (pixels, target) in enumerate(zip(grey, targets.tolist(), strict=True)):
            place = folder / part / f"{target}"
            place.mkdir(parents=True, exist_ok=True)
            _coloured(pixels, i, side).save(place / f"{i}.jpg", quality=90)


def _coloured(pixels: np.ndarray[Any, Any], number: int, side: int) -> Any:
    """An enlarged picture in a colour of its own, with noise as a camera has."""
    from PIL import Image

    random = np.random.default_rng(number)
    shift = tuple(random.integers(0, side, 2).tolist())
    large = np.asarray(Image.fromarray(pixels).resize((side, side), resample=3), dtype=np.float64)
    coloured = large[..., None] * random.uniform(0.5, 1, 3) + np.roll(_noise(side), shift, (0, 1))
    return Image.fromarray(coloured.clip(0, 255).astype(np.uint8))


@functools.cache
def _noise(side: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).normal(0, 4, (side, side, 3))
