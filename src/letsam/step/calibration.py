"""Calibration of a validation pass: its gradient is changed where it enters the network, at the outputs.

With validation labels that are more certain than the training labels (clean labels next to noisy ones, say), a network
is underconfident on the validation data. Its validation loss then falls when all outputs are scaled up, which a smaller
radius does sooner than a larger one. So every slope asks for a smaller radius, whatever it does to generalization.
There are two cures:

- Where a run shows how many more of the training labels are wrong (`letsam.radius.ExcessNoise`), the gradient becomes
  that of validation labels which are wrong as often.
- The part of the gradient that scales the outputs up is removed. The part that scales them down stays: overconfidence
  is evidence for a larger radius.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from .output_gradients import OutputGradients

LEAST = -1e30  # outputs below it count as this, so that 0 times an output is 0
FEWEST = 3  # outputs per sample; with fewer, their scale is all that a sample has to say
IMPOSSIBLE = 1e-30  # probability of an output that is masked out
TOLERANCE = 1e-2  # relative error of the gradient of a cross-entropy, in half precision too


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


def random_labels(cotangent: Tensor, outputs: Tensor) -> Tensor:
    """w_i (y_i - 1 / K): what the gradient at the outputs gains if the labels of a cross-entropy are drawn at random.

    The gradient of a cross-entropy is c_i = w_i (softmax(z_i) - y_i), with a one-hot y_i and some weight w_i. Rows of c
    that have another form give 0. With two classes, some other losses have this form as well. K counts the outputs
    whose probability is not 0: labels that are masked out are not drawn.

    Args:
        cotangent: c = d loss / d outputs, of shape (..., K).
        outputs: z, in the same shape.

    Returns:
        A tensor in the shape of c. Its dot product with the outputs is how much the loss gains.

    Example:
        >>> z = torch.zeros(1, 2)
        >>> random_labels(torch.tensor([[-0.5, 0.5]]), z)  # label 0, probabilities one half
        tensor([[ 0.5000, -0.5000]])
        >>> random_labels(torch.tensor([[0.5, 0.5]]), z)  # of another loss
        tensor([[0., 0.]])

    Reference:
        Szegedy et al., arXiv:1512.00567, section 7: the cross-entropy is linear in the labels.
    """
    wide = torch.promote_types(cotangent.dtype, torch.float32)
    c, z = cotangent.detach().to(wide), outputs.detach().to(wide)
    if c.ndim == 0 or c.shape[-1] < 2:
        return torch.zeros_like(c)
    probabilities = z.softmax(-1)
    labels = torch.zeros_like(c).scatter(-1, c.argmin(-1, keepdim=True), 1.0)  # there alone is c below 0
    others = 1 - labels
    weight = (c * others).sum(-1, keepdim=True) / (probabilities * others).sum(-1, keepdim=True)
    apart = (c - weight * (probabilities - labels)).abs().amax(-1, keepdim=True)
    possible = (probabilities > IMPOSSIBLE).to(c)
    drawn = labels - possible / possible.sum(-1, keepdim=True)
    return torch.where(apart <= TOLERANCE * weight, weight * drawn, 0.0)  # 0 for NaN


class OutputCalibration(OutputGradients):
    """A context for a pass: changes the gradient that reaches the network's outputs.

    Args:
        label_noise: share s of the labels that are wrong in training and right in validation (0-dim); None: 0. Then
            s `random_labels` is added: the expected gradient of labels that are wrong as often as in training.
        one_sided: whether `without_confidence` is applied after that.

    Attributes:
        gain: how much the loss of the pass would gain with labels drawn at random (0-dim, scaled as the gradients are);
            None: there were no outputs.
    """

    def __init__(self, label_noise: Tensor | None = None, *, one_sided: bool = True) -> None:
        super().__init__()
        self.one_sided = one_sided
        self.label_noise, self.gain = label_noise, cast("Tensor | None", None)

    def changed(self, cotangent: Tensor, outputs: Tensor, call: int) -> Tensor:
        """With label noise as in training, and without the component along the outputs."""
        drawn = random_labels(cotangent, outputs)
        gain = (drawn * outputs.to(drawn).clamp(min=LEAST)).sum()  # 0 for an output of minus infinity
        self.gain = gain if call == 0 or self.gain is None else self.gain + gain
        if self.label_noise is not None:
            cotangent = torch.add(cotangent, drawn * self.label_noise.to(drawn)).to(cotangent.dtype)
        return without_confidence(cotangent, outputs) if self.one_sided else cotangent
