"""Residual networks for small images: a 3x3 stem, stages of basic blocks, global average pooling."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from letsam.tasks.models.initial import he_normal


class BasicBlock(nn.Module):
    """``relu(x + BN(conv(relu(BN(conv(x))))))``, with a 1x1 convolution on the shortcut if the shape changes.

    Args:
        channels: Channels of the input.
        width: Channels of the output.
        stride: Stride of the first convolution and the shortcut.

    Reference:
        K. He et al., "Deep residual learning for image recognition", CVPR 2016, figure 2 (option B shortcuts).
    """

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.shortcut = nn.Sequential()
        if stride != 1 or channels != width:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels, width, 1, stride, bias=False),
                nn.BatchNorm2d(width),
            )

    def forward(self, x: Tensor) -> Tensor:
        """Shape ``(batch, channels, side, side)`` to ``(batch, width, side / stride, side / stride)``."""
        out = nn.functional.relu(self.bn1(self.conv1(x)), inplace=True)
        out = self.bn2(self.conv2(out)) + self.shortcut(x)
        return nn.functional.relu(out, inplace=True)


def resnet(
    widths: Sequence[int], blocks: int, *, stem_stride: int = 1, channels: int = 3, classes: int = 10
) -> nn.Module:
    """A residual network: a stem and one stage per width; every stage except the first halves the side.

    Args:
        widths: Channels of each stage; the stem has as many as the first stage.
        blocks: Basic blocks per stage; the depth is ``2 * blocks * len(widths) + 2``.
        stem_stride: Stride of the 3x3 stem.
        channels: Channels of the images.
        classes: Number of logits.

    Returns:
        The network, with inputs of shape ``(batch, channels, side, side)``.

    Example:
        >>> import torch
        >>> resnet((8, 16), blocks=1)(torch.zeros(2, 3, 32, 32)).shape
        torch.Size([2, 10])
    """
    width = widths[0]
    layers: list[nn.Module] = [
        nn.Conv2d(channels, width, 3, stem_stride, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
    ]
    for stage, wider in enumerate(widths):
        for block in range(blocks):
            layers.append(BasicBlock(width, wider, stride=2 if stage > 0 and block == 0 else 1))
            width = wider
    return he_normal(nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, classes)))


def resnet18(*, width: int = 64, channels: int = 3, classes: int = 10) -> nn.Module:
    """ResNet-18 for CIFAR: 4 stages of 2 blocks, with 1, 2, 4 and 8 times ``width`` channels; 11.17 million weights.

    Args:
        width: Channels of the stem.
        channels: Channels of the images.
        classes: Number of logits.

    Returns:
        The network.
    """
    return resnet([width, 2 * width, 4 * width, 8 * width], blocks=2, channels=channels, classes=classes)
