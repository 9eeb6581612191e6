"""One-sided calibration: a validation loss that does not reward a network for becoming more confident.

With validation labels that are more certain than the training labels (clean labels next to noisy ones, say), a network
is underconfident on the validation data. Its validation loss then falls when all outputs are scaled up, which a smaller
radius does sooner than a larger one. So every slope asks for a smaller radius, whatever it does to generalization.
Here this part of the gradient is removed where it enters the network, at the outputs. The part that scales the outputs
down stays: overconfidence is evidence for a larger radius.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .output_gradients import OutputGradients

FEWEST = 3  # outputs per sample; with fewer, their scale is all that a sample has to say


def without_confidence(cotangent: Tensor, outputs: Tensor) -> Tensor:
    """c_i <- c_i - z_i (c_i . z_i) / (z_i . z_i) where the sum of all c_i . z_i < 0; c unchanged otherwise.

    The sum is the derivative of the loss with respect to a common scale of the outputs. It is negative if scaling them
    up would lower the loss. With fewer than three outputs per sample, the whole batch counts as one vector z.

    Args:
        cotangent: c = d loss / d outputs, of shape (..., outputs of a sample).
        outputs: z, in the same shape.

    Returns:
        The changed c, in its dtype.

    Example:
        >>> z = torch.tensor([[2.0, 0.0, 0.0]])
        >>> without_confidence(torch.tensor([[-0.5, 0.4, 0.1]]), z)  # the loss asks for a larger first output
        tensor([[0.0000, 0.4000, 0.1000]])
        >>> without_confidence(torch.tensor([[0.5, -0.4, -0.1]]), z)
        tensor([[ 0.5000, -0.4000, -0.1000]])

    Reference:
        Guo et al., arXiv:1706.04599, for calibration by the scale of the outputs.
    """
    wide = torch.promote_types(cotangent.dtype, torch.float32)
    c, z = cotangent.detach().to(wide), outputs.detach().to(wide)
    if c.ndim == 0 or c.shape[-1] < FEWEST:
        product, square = (c * z).sum(), (z * z).sum()
    else:
        product, square = (c * z).sum(-1, keepdim=True), (z * z).sum(-1, keepdim=True)
    share = torch.where(square > 0, product / square, 0.0)
    return torch.where(product.sum() < 0, c - share * z, c).to(cotangent.dtype)


class OneSidedCalibration(OutputGradients):
    """A context for a pass: `without_confidence` is applied to the gradient that reaches the network's outputs."""

    def changed(self, cotangent: Tensor, outputs: Tensor, call: int) -> Tensor:
        """Without the component along the outputs, if scaling them up would lower the loss."""
        return without_confidence(cotangent, outputs)
