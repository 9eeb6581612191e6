"""Networks for rows of numbers: a multilayer perceptron and a residual one."""

from __future__ import annotations

from torch import Tensor, nn


def mlp(features: int, outputs: int, *, width: int = 128, depth: int = 2, dropout: float = 0.0) -> nn.Sequential:
    """A multilayer perceptron: ``depth`` hidden layers with ReLU. Inputs of any shape are flattened.

    Args:
        features: numbers in an input, >= 1.
        outputs: numbers in an output, >= 1.
        width: units of each hidden layer.
        depth: number of hidden layers, >= 0.
        dropout: after each hidden layer, at least 0 and below 1.

    Returns:
        The network.

    Example:
        >>> import torch
        >>> mlp(4, 3, width=8)(torch.zeros(2, 4)).shape
        torch.Size([2, 3])
    """
    layers: list[nn.Module] = [nn.Flatten()]
    for index in range(depth):
        layers += [nn.Linear(features if index == 0 else width, width), nn.ReLU()]
        if dropout:
            layers.append(nn.Dropout(dropout))
    return nn.Sequential(*layers, nn.Linear(width if depth else features, outputs))


class ResidualPerceptronBlock(nn.Module):
    """``x + dropout(linear(dropout(relu(linear(norm(x))))))``.

    Args:
        width: of the input and the output.
        hidden: units in between.
        dropout: at least 0 and below 1.
    """

    def __init__(self, width: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.first = nn.Linear(width, hidden)
        self.second = nn.Linear(hidden, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Shape ``(batch, width)``, as the input."""
        return x + self.dropout(self.second(self.dropout(nn.functional.relu(self.first(self.norm(x))))))


def residual_mlp(
    features: int, outputs: int, *, width: int = 128, depth: int = 3, dropout: float = 0.1
) -> nn.Sequential:
    """A residual perceptron for tables: a linear layer, residual blocks, and a head with normalization.

    Args:
        features: numbers in an input, >= 1.
        outputs: numbers in an output, >= 1.
        width: of the stream; the blocks have twice as many hidden units.
        depth: number of blocks, >= 1.
        dropout: in the blocks, at least 0 and below 1.

    Returns:
        The network.

    Reference:
        Y. Gorishniy et al., "Revisiting deep learning models for tabular data", NeurIPS 2021, section 3.2 (with layer
        normalization, so that a batch may have one sample).

    Example:
        >>> import torch
        >>> residual_mlp(4, 3, width=8)(torch.zeros(2, 4)).shape
        torch.Size([2, 3])
    """
    blocks = [ResidualPerceptronBlock(width, 2 * width, dropout) for _ in range(depth)]
    head = [nn.LayerNorm(width), nn.ReLU(), nn.Linear(width, outputs)]
    return nn.Sequential(nn.Flatten(), nn.Linear(features, width), *blocks, *head)
