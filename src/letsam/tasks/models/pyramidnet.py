"""Deep pyramidal residual networks: the width increases in every block."""

from __future__ import annotations

from torch import Tensor, nn

from letsam.tasks.models.initial import he_normal


class PyramidBlock(nn.Module):
    """``x + BN(conv(relu(BN(conv(BN(x))))))``: no ReLU before the first convolution, one BN after the last.

    The shortcut has no weights: it pools if the side is halved, and pads with channels of zeros if the width increases.

    Args:
        channels: Channels of the input.
        width: Channels of the output, at least ``channels``.
        stride: Stride of the first convolution and the pooling, 1 or 2.

    Reference:
        D. Han et al., "Deep pyramidal residual networks", CVPR 2017, figures 5(b) and 6(d).
    """

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, width, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(width)
        self.added = width - channels
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """Shape ``(batch, channels, side, side)`` to ``(batch, width, side / stride, side / stride)``."""
        out = nn.functional.relu(self.bn2(self.conv1(self.bn1(x))), inplace=True)
        out = self.bn3(self.conv2(out))
        if self.stride > 1:
            x = nn.functional.avg_pool2d(x, self.stride)
        return out + nn.functional.pad(x, (0, 0, 0, 0, 0, self.added))


def pyramidnet(depth: int = 110, alpha: int = 270, *, channels: int = 3, classes: int = 10) -> nn.Module:
    """PyramidNet of basic blocks: block k of N has ``floor(16 + alpha * k / N)`` channels.

    Args:
        depth: Number of layers, 6 n + 2: the convolutions and the linear layer.
        alpha: Total increase of the number of channels from the stem to the last block, in equal steps.
        channels: Channels of the images.
        classes: Number of logits.

    Returns:
        The network, with inputs of shape ``(batch, channels, 32, 32)``; the default has 28.5 million weights.

    Raises:
        ValueError: If ``depth`` is not 6 n + 2.

    Reference:
        D. Han et al., "Deep pyramidal residual networks", CVPR 2017, equation 3 (additive) and table 1.

    Example:
        >>> import torch
        >>> pyramidnet(8, 12)(torch.zeros(2, 3, 32, 32)).shape
        torch.Size([2, 10])
    """
    if depth < 8 or (depth - 2) % 6:
        raise ValueError(f"`depth` must be 8, 14, 20, ..., got {depth}")
    per_stage = (depth - 2) // 6
    blocks = 3 * per_stage
    width = 16
    layers: list[nn.Module] = [nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)]
    for block in range(blocks):
        wider = 16 + alpha * (block + 1) // blocks
        layers.append(PyramidBlock(width, wider, stride=2 if block in (per_stage, 2 * per_stage) else 1))
        width = wider
    layers += [nn.BatchNorm2d(width), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return he_normal(nn.Sequential(*layers, nn.Linear(width, classes)))
