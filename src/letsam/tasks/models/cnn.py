"""A small network of three convolutions, without normalization."""

from __future__ import annotations

from torch import nn


def cnn(widths: tuple[int, int, int] = (8, 16, 64), hidden: int = 128, *, classes: int = 10) -> nn.Module:
    """Three 3x3 convolutions, which reduce 28x28 images to sides of 14, 7 and 3, and one hidden layer.

    The first convolution has stride 2, the others are followed by 2x2 max pooling.

    Args:
        widths: Channels of each convolution.
        hidden: Units of the hidden layer.
        classes: Number of logits.

    Returns:
        The network, with inputs of shape ``(batch, 1, 28, 28)``.

    Example:
        >>> import torch
        >>> cnn()(torch.zeros(2, 1, 28, 28)).shape
        torch.Size([2, 10])
    """
    first, second, third = widths
    # Pooling before ReLU gives the same output as after it, with a quarter of the ReLU operations.
    return nn.Sequential(
        nn.Conv2d(1, first, kernel_size=3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(first, second, kernel_size=3, padding=1),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Conv2d(second, third, kernel_size=3, padding=1),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(third * 3 * 3, hidden),
        nn.ReLU(),
        nn.Linear(hidden, classes),
    )
