"""Wide residual networks: few and wide blocks with pre-activation."""

from __future__ import annotations

from torch import Tensor, nn

from letsam.tasks.models.initial import he_normal


class WideBlock(nn.Module):
    """``shortcut(x) + conv(relu(BN(conv(relu(BN(x))))))``.

    If the shape changes, the shortcut is a 1x1 convolution of ``relu(BN(x))``; otherwise it is ``x``.

    Args:
        channels: Channels of the input.
        width: Channels of the output.
        stride: Stride of the first convolution and the shortcut.
    """

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, width, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        changes = stride != 1 or channels != width
        self.shortcut = nn.Conv2d(channels, width, 1, stride, bias=False) if changes else None

    def forward(self, x: Tensor) -> Tensor:
        """Shape ``(batch, channels, side, side)`` to ``(batch, width, side / stride, side / stride)``."""
        activated = nn.functional.relu(self.bn1(x), inplace=True)
        out = self.conv2(nn.functional.relu(self.bn2(self.conv1(activated)), inplace=True))
        return out + (x if self.shortcut is None else self.shortcut(activated))


def wide_resnet(depth: int = 28, widen: int = 10, *, channels: int = 3, classes: int = 10) -> nn.Module:
    """WRN-``depth``-``widen`` without dropout; WRN-28-10 has 36.5 million weights.

    Args:
        depth: Number of layers, 6 n + 4: the convolutions and the linear layer.
        widen: Factor on the 16, 32 and 64 channels of the three stages.
        channels: Channels of the images.
        classes: Number of logits.

    Returns:
        The network, with inputs of shape ``(batch, channels, 32, 32)``.

    Raises:
        ValueError: If ``depth`` is not 6 n + 4.

    Reference:
        S. Zagoruyko and N. Komodakis, "Wide residual networks", BMVC 2016, table 1.

    Example:
        >>> import torch
        >>> wide_resnet(10, 1)(torch.zeros(2, 3, 32, 32)).shape
        torch.Size([2, 10])
    """
    if depth < 10 or (depth - 4) % 6:
        raise ValueError(f"`depth` must be 10, 16, 22, 28, ..., got {depth}")
    width = 16
    layers: list[nn.Module] = [nn.Conv2d(channels, width, 3, padding=1, bias=False)]
    for stage in range(3):
        wider = 16 * widen * 2**stage
        for block in range((depth - 4) // 6):
            layers.append(WideBlock(width, wider, stride=2 if stage > 0 and block == 0 else 1))
            width = wider
    layers += [nn.BatchNorm2d(width), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return he_normal(nn.Sequential(*layers, nn.Linear(width, classes)))
