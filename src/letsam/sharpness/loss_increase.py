"""Ascent sharpness: the increase of the loss after one ascent step."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from typing import Any, overload

import torch
from torch import nn

from .. import checks
from ..groups import perturbed_parameters
from ..perturbations import ASAMPerturbation, Perturbation, SAMPerturbation
from ..tensors import norm
from .losses import LossFunction, mean_gradient, mean_loss, measured, shares

PERTURBATIONS: dict[str, type[Perturbation]] = {"sam": SAMPerturbation, "asam": ASAMPerturbation}


@overload
def ascent_sharpness(
    model: nn.Module,
    loss_fn: LossFunction,
    batches: Iterable[Any],
    rho: float,
    perturbation: str | Perturbation = "sam",
) -> float: ...
@overload
def ascent_sharpness(
    model: nn.Module,
    loss_fn: LossFunction,
    batches: Iterable[Any],
    rho: Sequence[float],
    perturbation: str | Perturbation = "sam",
) -> list[float]: ...
def ascent_sharpness(
    model: nn.Module,
    loss_fn: LossFunction,
    batches: Iterable[Any],
    rho: float | Sequence[float],
    perturbation: str | Perturbation = "sam",
) -> float | list[float]:
    """L(theta + rho eps_hat) - L(theta), with eps_hat the ascent direction of SAM or ASAM at theta.

    L is the mean loss over all batches, and g its gradient. eps_hat is g / ||g|| for "sam", and T^2 g / ||T g|| with
    T = diag(|theta|) for "asam". To first order the increase is rho ||g|| (for "asam": rho ||T g||). If the gradient is
    0, so is the measure. It is a lower bound of the largest increase within the ball of radius rho.

    It costs one gradient pass and one forward pass over the batches, and a further forward pass per radius.

    Args:
        model: evaluated in evaluation mode and restored bit for bit.
        loss_fn: (outputs, targets) -> mean loss, a scalar, as in `Task.loss`.
        batches: (inputs, targets) pairs on the model's device; read once, kept in memory, weighted by `len(targets)`.
            With a single batch of m samples, the result is the paper's m-sharpness of that batch.
        rho: radius > 0, or several, in units of the weights ("asam": relative to them).
        perturbation: "sam", "asam" or a `letsam.perturbations.Perturbation` with a single ascent step. One that
            perturbs only some weights, such as `letsam.perturbations.samon.SAMONPerturbation`, changes only those.

    Returns:
        The increase of the loss, or a list with one value per radius.

    Raises:
        ValueError: an argument out of range, a perturbation with several ascent steps or sub-batches, no samples or no
            parameter to perturb.
        TypeError: an argument of the wrong type.

    Example:
        >>> model = torch.nn.Linear(1, 1, bias=False)
        >>> _ = torch.nn.init.constant_(model.weight, 2.0)
        >>> data = [(torch.ones(4, 1), torch.zeros(4, 1))]
        >>> ascent_sharpness(model, torch.nn.functional.mse_loss, data, rho=[0.5, 1.0])  # (2 + rho)^2 - 2^2
        [2.25, 5.0]

    Reference:
        Foret et al., arXiv:2010.01412, section 2 and equation (2); Kwon et al., arXiv:2102.11600, equation (3).
    """
    several = isinstance(rho, Sequence) and not isinstance(rho, str)
    values = list(rho) if isinstance(rho, Sequence) and several else [rho]
    radii = [checks.positive("rho", value) for value in values]
    if not radii:
        raise ValueError("`rho` must be a number > 0 or several, got none")
    if isinstance(perturbation, Perturbation):
        chosen = copy.deepcopy(_checked(perturbation))
    else:
        chosen = PERTURBATIONS[checks.choice("perturbation", perturbation, tuple(PERTURBATIONS))]()
    parts = shares(batches)
    with measured(model) as weights:
        perturbed = perturbed_parameters(model, chosen.perturbs)
        moved, gradients, starts = _uphill(model, mean_gradient(model, loss_fn, parts), weights, perturbed)
        if not moved:
            raise ValueError(f'`model` must have gradients in weights of perturb="{chosen.perturbs}", got none')
        base = mean_loss(model, loss_fn, parts)
        with torch.no_grad():
            chosen.attach(
                [{"params": starts, "param_names": [name for name, _ in moved]}]
            )  # of `starts`, which it sees
            factor = chosen.direction(starts, gradients, norm(gradients))
            rises: list[float] = []
            for radius in radii:
                for (_, param), start, direction in zip(moved, starts, gradients, strict=True):
                    param.copy_(start + direction * (radius * factor).to(start.dtype))
                rises.append(mean_loss(model, loss_fn, parts) - base)
    return rises if several else rises[0]


def _checked(perturbation: Perturbation) -> Perturbation:
    for what in ("ascents", "sub_batches"):
        count = getattr(perturbation, what)
        if count != 1:
            raise ValueError(
                "`perturbation` must climb once, along one gradient, for ascent sharpness, got "
                f"{type(perturbation).__name__} with {what} = {count}"
            )
    return perturbation


def _uphill(
    model: nn.Module, gradients: list[torch.Tensor | None], weights: list[torch.Tensor], perturbed: set[torch.Tensor]
) -> tuple[list[tuple[str, nn.Parameter]], list[torch.Tensor], list[torch.Tensor]]:
    """The named weights that are perturbed and have a gradient, copies of the gradients, and the unperturbed values."""
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    rows = [(n, g, w) for n, g, w in zip(named, gradients, weights, strict=True) if g is not None and n[1] in perturbed]
    return [n for n, _, _ in rows], [g.clone() for _, g, _ in rows], [w for _, _, w in rows]
