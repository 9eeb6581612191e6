"""Radii relative to the norm of the weights, of all together or of each tensor; they take any other radius."""

from __future__ import annotations

from .base import Radius
from .fixed import as_radius


def relative(rho: float | Radius) -> Radius:
    """eps = rho ||theta|| eps_hat: the radius is relative to the norm of the weights that are perturbed.

    A relative radius means the same for small and large networks, and while weights grow or decay. A schedule then
    schedules the relative value, and a `LearnedRadius` learns it, with d eps / d rho = ||theta|| eps_hat. The `bounds`
    of its rule are relative; its `Prior` remains in units of the weights. A `LossBudgetRadius` has no meaning here: the
    loss would increase by ||theta|| times the budget.

    Args:
        rho: a number >= 0, a schedule, a `LearnedRadius` or any other radius in units of the weights; copied.

    Returns:
        A radius of the same class.

    Raises:
        TypeError: not a radius.
        ValueError: a number < 0, or a radius that is relative already.

    Example:
        >>> import torch, letsam
        >>> weight = torch.nn.Parameter(torch.tensor([3.0, 4.0]))
        >>> opt = letsam.SAM(torch.optim.SGD([weight], lr=0.1), rho=relative(0.1))
        >>> weight.grad = torch.tensor([0.0, 2.0])
        >>> opt.ascent_step()
        >>> weight.data  # moved by a tenth of its length, 5
        tensor([3.0000, 4.5000])
    """
    return _in_units("relative", rho)


def layerwise(rho: float | Radius) -> Radius:
    """eps_i = rho ||theta_i|| eps_hat_i / ||eps_hat_i||: each weight tensor is perturbed in proportion to its norm.

    This is the trust ratio of LARS and LAMB, applied to the perturbation: layers with small gradients are perturbed as
    much as others. In total, ||eps|| = rho ||theta||. A tensor of zeros is not perturbed. Schedules, learning, bounds,
    the prior and loss budgets behave as with `relative`.

    Look-LayerSAM multiplies g_i / ||g|| by ||theta_i|| / ||g_i||, so its relative radius is rho / ||g||; here it is
    rho, whatever the gradient norm.

    Args:
        rho: a number >= 0, a schedule, a `LearnedRadius` or any other radius in units of the weights; copied.

    Returns:
        A radius of the same class.

    Raises:
        TypeError: not a radius.
        ValueError: a number < 0, or a radius that is relative already.

    Example:
        >>> import torch, letsam
        >>> weights = [torch.nn.Parameter(torch.tensor([value])) for value in (1.0, 10.0)]
        >>> opt = letsam.SAM(torch.optim.SGD(weights, lr=0.1), rho=layerwise(0.1))
        >>> weights[0].grad, weights[1].grad = torch.tensor([1e3]), torch.tensor([1e-3])
        >>> opt.ascent_step()
        >>> [round(weight.item(), 4) for weight in weights]
        [1.1, 11.0]

    Reference:
        Look-LayerSAM, Liu et al., arXiv:2203.02714; LAMB, You et al., arXiv:1904.00962, algorithm 2.
    """
    return _in_units("layerwise", rho)


def _in_units(units: str, rho: float | Radius) -> Radius:
    radius = as_radius(rho)
    if radius.units is not None:
        raise ValueError(f"`rho` must be a radius in units of the weights, got a {radius.kind}")
    radius.units = units
    return radius
