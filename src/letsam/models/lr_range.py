"""A range test of the learning rate: a few dozen steps of the base optimizer with a growing learning rate."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

STEPS = 60
DECADES = 3  # below and above the default
SMOOTHING = 0.8
DIVERGED = 3.0  # times the decrease so far, above the lowest loss; at least the first loss, for the noise of batches
FRACTION = 0.1  # of the learning rate with the lowest loss
LEAST_GAIN = 0.02  # of the first loss: a smaller decrease says nothing about learning rates


@dataclass(frozen=True)
class LearningRates:
    """What a range test has found.

    Args:
        found: the learning rate to train with.
        default: that of the base optimizer; it is kept where no learning rate decreased the loss.
        rates: the learning rate of each step.
        losses: the smoothed loss of each step, measured before the step.
    """

    found: float
    default: float
    rates: tuple[float, ...]
    losses: tuple[float, ...]


def range_test(
    model: Callable[[Any], Any],
    base: torch.optim.Optimizer,
    loss: Callable[[Any, Any], Tensor],
    batches: Iterable[tuple[Any, Any]],
    steps: int = STEPS,
) -> LearningRates:
    """Find a learning rate for a base optimizer; the weights are changed.

    The learning rate grows by a constant factor from a thousandth of the default to a thousand times the default, one
    step for each batch. The loss is smoothed (exponential mean with weight 0.8 for the past, without its bias). The
    test ends early where it is not finite, or is above the lowest by more than the first loss and by more than three
    times the decrease so far. A tenth of the learning rate with the lowest smoothed loss is chosen.

    Args:
        model: gives outputs for inputs; in training mode.
        base: the base optimizer of its weights; several parameter groups keep the ratio of their learning rates.
        loss: of outputs and targets, a scalar.
        batches: inputs and targets; at least `steps` of them, or the test ends with the last.
        steps: >= 2.

    Returns:
        The learning rate and the curve.

    Reference:
        L. N. Smith, "Cyclical learning rates for training neural networks", WACV 2017, section 3.3; a tenth of the
        minimum as in fastai.
    """
    initial = [float(group["lr"]) for group in base.param_groups]
    default = initial[0]
    rates: list[float] = []
    losses: list[float] = []
    mean = 0.0
    for step, (inputs, targets) in zip(range(steps), batches, strict=False):
        factor = 10.0 ** (DECADES * (2 * step / (steps - 1) - 1))
        for group, lr in zip(base.param_groups, initial, strict=True):
            group["lr"] = lr * factor
        base.zero_grad()
        value = loss(model(inputs), targets)
        value.backward()
        mean = SMOOTHING * mean + (1 - SMOOTHING) * float(value.detach())
        smooth = mean / (1 - SMOOTHING ** (step + 1))
        if not math.isfinite(smooth) or (losses and _diverged(losses, smooth)):
            break
        rates.append(default * factor)
        losses.append(smooth)
        base.step()
    return LearningRates(_chosen(rates, losses, default), default, tuple(rates), tuple(losses))


def _diverged(losses: list[float], smooth: float) -> bool:
    lowest = min(losses)
    return smooth - lowest > max(DIVERGED * (losses[0] - lowest), abs(losses[0]))


def _chosen(rates: list[float], losses: list[float], default: float) -> float:
    if not losses:
        return default
    lowest = min(range(len(losses)), key=losses.__getitem__)
    if losses[0] - losses[lowest] <= LEAST_GAIN * abs(losses[0]):
        return default
    return float(f"{FRACTION * rates[lowest]:.3g}")  # the further digits would only suggest precision
