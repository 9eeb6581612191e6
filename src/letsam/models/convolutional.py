"""A small convolutional network for images of any size, and for spectrograms."""

from __future__ import annotations

from torch import nn

from letsam.tasks.models.initial import he_normal


def small_cnn(
    channels: int, outputs: int, *, side: int = 32, width: int = 16, widest: int = 128, side_at_end: int = 4
) -> nn.Module:
    """3x3 convolutions with stride 2, each followed by BatchNorm and ReLU, until the shorter side is small.

    Args:
        channels: of the images, >= 1.
        outputs: numbers in an output, >= 1.
        side: of the images in pixels, the shorter one; it only determines the number of convolutions.
        width: channels of the first convolution; the others have twice as many as the one before.
        widest: the largest number of channels.
        side_at_end: convolutions are added until the side is at most this.

    Returns:
        The network; the global average of the last convolution goes into a linear layer.

    Example:
        >>> import torch
        >>> small_cnn(1, 10, side=28)(torch.zeros(2, 1, 28, 40)).shape
        torch.Size([2, 10])
    """
    layers: list[nn.Module] = [
        nn.Conv2d(channels, width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
    ]
    while side > side_at_end:
        wider = min(2 * width, widest)
        layers += [nn.Conv2d(width, wider, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(wider), nn.ReLU()]
        width, side = wider, (side + 1) // 2
    return he_normal(nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, outputs)))
