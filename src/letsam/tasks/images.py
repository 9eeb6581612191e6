"""Labeled images as data sets, with augmentation for training and without it for evaluation."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.data import Dataset

PADDING = 4  # on each side, before a crop of the original side


class CroppedImages(Dataset[tuple[Tensor, int]]):
    """Small images in memory; every read shifts an image by up to 4 pixels and flips it at random.

    The random numbers come from torch's global generator, which the training loop seeds and saves in its checkpoints,
    so that runs can be repeated and resumed bit for bit. A batch is read once per step, so all passes of the step see
    the same images.

    Args:
        images: uint8, shape ``(n, channels, side, side)``.
        targets: Classes, int64, shape ``(n,)``.
        mean: Mean of each channel, for pixels in [0, 1].
        std: Standard deviation of each channel.

    Example:
        >>> images = torch.zeros(2, 3, 32, 32, dtype=torch.uint8)
        >>> data = CroppedImages(images, torch.tensor([0, 1]), mean=[0.5] * 3, std=[0.25] * 3)
        >>> data[1][0].shape, data[1][1], data.without_augmentation().augmented
        (torch.Size([3, 32, 32]), 1, False)
    """

    def __init__(self, images: Tensor, targets: Tensor, mean: Sequence[float], std: Sequence[float]) -> None:
        self.padded = torch.nn.functional.pad(images, (PADDING,) * 4)  # with black, as is usual for CIFAR
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
        """The same images without augmentation; shares the memory."""
        plain = copy.copy(self)
        plain.augmented = False
        return plain


def _draw(places: int) -> tuple[int, int, bool]:
    """Row and column where a crop starts, and whether to flip it."""
    number = int(torch.randint(2 * places * places, ()))
    return number // 2 % places, number // 2 // places, bool(number % 2)


def normalised(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Scale pixels to [0, 1], subtract the mean and divide by the standard deviation of each channel.

    Args:
        images: uint8, shape ``(..., channels, height, width)``.
        mean: Mean of each channel, for pixels in [0, 1].
        std: Standard deviation of each channel.

    Returns:
        A new float32 tensor of the same shape, on the same device.

    Example:
        >>> normalised(torch.tensor([[[0, 255]]], dtype=torch.uint8), mean=[0.5], std=[0.25])
        tensor([[[-2.,  2.]]])
    """
    shifts, scales = (images.new_tensor(values, dtype=torch.float32)[:, None, None] for values in (mean, std))
    return images.float().div_(255).sub_(shifts).div_(scales)


def without_augmentation(dataset: Dataset[Any]) -> Dataset[Any]:
    """The data set without augmentation, for validation and for the loss on the training data.

    Args:
        dataset: Any data set, including wrappers with an attribute ``dataset`` (``Subset``, label noise).

    Returns:
        A copy without augmentation; ``dataset`` itself if it has none.

    Example:
        >>> data = torch.utils.data.TensorDataset(torch.zeros(2, 1))
        >>> without_augmentation(data) is data
        True
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
