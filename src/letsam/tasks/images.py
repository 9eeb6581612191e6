"""Labelled images as data sets: augmented ones for training, and the same images as they are for everything else."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.data import Dataset

PADDING = 4  # on each side, before a crop of the original side


class CroppedImages(Dataset[tuple[Tensor, int]]):
    """Small images in memory; each time one is read, it is shifted by up to 4 pixels and flipped or not.

    The shifts come from torch's global generator, which the training loop seeds and keeps in its checkpoints: runs can
    be repeated and resumed bit for bit. A batch is read once a step, so all passes of the step see the same images.

    Args:
        images: uint8, shape ``(n, channels, side, side)``.
        targets: Classes, int64, shape ``(n,)``.
        mean: Of each channel, pixels in [0, 1].
        std: Of each channel.
    """

    def __init__(self, images: Tensor, targets: Tensor, mean: Sequence[float], std: Sequence[float]) -> None:
        self.padded = torch.nn.functional.pad(images, (PADDING,) * 4)  # black, as it is done for CIFAR
        self.targets = targets
        self.side = images.shape[-1]
        self.mean, self.std = mean, std
        self.augmented = True

    def __len__(self) -> int:
        """The number of images."""
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """An image, normalised, of shape ``(channels, side, side)``, and its class."""
        top = left = PADDING
        flip = False
        if self.augmented:
            top, left, flip = _draw(2 * PADDING + 1)
        crop = self.padded[index, :, top : top + self.side, left : left + self.side]
        image = normalised(crop.flip(-1) if flip else crop, self.mean, self.std)
        return image, int(self.targets[index])

    def without_augmentation(self) -> CroppedImages:
        """The same images, which share their memory, as they are."""
        plain = copy.copy(self)
        plain.augmented = False
        return plain


def _draw(places: int) -> tuple[int, int, bool]:
    """Where a crop starts, down and across, and whether it is flipped."""
    number = int(torch.randint(2 * places * places, ()))
    return number // 2 % places, number // 2 // places, bool(number % 2)


def normalised(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Bytes to float32 numbers of mean 0 and standard deviation 1.

    Args:
        images: uint8, shape ``(..., channels, height, width)``.
        mean: Of each channel, pixels in [0, 1].
        std: Of each channel.

    Returns:
        A new tensor of the same shape.

    Example:
        >>> normalised(torch.tensor([[[0, 255]]], dtype=torch.uint8), mean=[0.5], std=[0.25])
        tensor([[[-2.,  2.]]])
    """
    shape = (len(mean), 1, 1)
    return images.float().div_(255).sub_(torch.tensor(mean).view(shape)).div_(torch.tensor(std).view(shape))


def without_augmentation(dataset: Dataset[Any]) -> Dataset[Any]:
    """The data set with every image as it is: for validation, and for the loss on the training data.

    Args:
        dataset: Any data set; those that wrap another as ``dataset.dataset`` (``Subset``, label noise) are looked into.

    Returns:
        ``dataset`` itself where nothing in it is augmented.
    """
    layer = cast(Any, dataset)
    if hasattr(layer, "without_augmentation"):
        return layer.without_augmentation()
    inner = getattr(layer, "dataset", None)
    plain = None if inner is None else without_augmentation(inner)
    if plain is inner:
        return dataset
    wrapper = copy.copy(layer)
    wrapper.dataset = plain
    return wrapper
