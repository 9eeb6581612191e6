"""The derivative of `torch.optim.Muon`: momentum, then the orthogonalization by Newton-Schulz iterations."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (torch's matrix products carry few annotations)

from __future__ import annotations

import math

import torch
from torch import Tensor

from .registered_rules import WeightUpdate, register_update_rule


def muon_rule(change: Tensor, update: WeightUpdate) -> Tensor:
    """d theta' = -lr' dO with O the orthogonalized momentum and lr' the learning rate adjusted to the shape.

        B' = mu B + (1 - mu) g;    O = NS((1 - mu) g + mu B') with Nesterov momentum, else NS(B')

    The decoupled weight decay does not depend on g. torch iterates in bfloat16, whose rounding has no derivative; here
    the same iteration is differentiated in float32 (float64 for float64 weights).

    Args:
        change: the derivative of the gradient, a matrix.
        update: the weight, its gradient and its momentum after the step.

    Returns:
        The derivative of the new weight.
    """
    group, buffer, gradient = update.group, update.state["momentum_buffer"], update.gradient
    momentum, nesterov = group["momentum"], group["nesterov"]
    point = gradient.lerp(buffer, momentum) if nesterov else buffer
    factor = (1 - momentum) * (1 + momentum if nesterov else 1)
    tangent = orthogonalized(point, change, group["ns_coefficients"], group["ns_steps"], group["eps"])[1]
    rows, columns = change.shape
    shape = {
        "match_rms_adamw": 0.2 * math.sqrt(max(rows, columns)),
    }.get(group["adjust_lr_fn"], math.sqrt(max(1, rows / columns)))
    return (-group["lr"] * shape * factor) * tangent.to(change.dtype)


def orthogonalized(
    matrix: Tensor, change: Tensor, coefficients: tuple[float, float, float], steps: int, eps: float
) -> tuple[Tensor, Tensor]:
    """Newton-Schulz iterations X <- a X + (b A + c A^2) X with A = X X^T, from X = matrix / ||matrix||.

    Args:
        matrix: M.
        change: dM.
        coefficients: a, b, c.
        steps: number of iterations.
        eps: smallest norm that M is divided by.

    Returns:
        The last X, and its derivative along dM.

    Example:
        >>> x, dx = orthogonalized(torch.eye(2), torch.eye(2), (2.0, -1.5, 0.5), 5, 1e-7)
        >>> x.allclose(torch.eye(2), atol=1e-3), dx.abs().max() < 1e-3  # longer, but in the same direction
        (True, tensor(True))
    """
    a, b, c = coefficients
    dtype = torch.promote_types(matrix.dtype, torch.float32)
    x: Tensor = matrix.to(dtype)
    dx: Tensor = change.to(dtype)
    tall = x.shape[0] > x.shape[1]
    if tall:
        x, dx = x.t(), dx.t()
    length = torch.linalg.vector_norm(x)
    scale = length.clamp(min=eps)
    along = torch.where(length > eps, (x * dx).sum() / scale**2, 0.0)
    x, dx = x / scale, (dx - along * x) / scale
    for _ in range(steps):
        gram = x @ x.t()
        half = dx @ x.t()
        dgram = half + half.t()
        polynomial = b * gram + c * (gram @ gram)
        product = dgram @ gram
        dpolynomial = b * dgram + c * (product + product.t())
        x, dx = a * x + polynomial @ x, a * dx + dpolynomial @ x + polynomial @ dx
    return (x.t(), dx.t()) if tall else (x, dx)


if hasattr(torch.optim, "Muon"):  # since torch 2.9
    register_update_rule(torch.optim.Muon, muon_rule)
