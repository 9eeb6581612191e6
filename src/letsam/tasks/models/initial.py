"""Initialization of convolutional networks."""

from __future__ import annotations

from torch import nn


def he_normal(network: nn.Sequential) -> nn.Sequential:
    """Initialize the weights of all convolutions from a normal distribution with variance ``2 / fan_out``.

    Args:
        network: Changed in place.

    Returns:
        The network.

    Reference:
        K. He et al., "Delving deep into rectifiers", ICCV 2015, equation 14.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return network
