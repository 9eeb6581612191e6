"""MSAM, Momentum-SAM: look where the momentum is about to lead, at the price of one pass a step.

Becker, Altrock, Risse, "Momentum-SAM: Sharpness Aware Minimization without Computational Overhead", 2024,
arXiv:2401.12033.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from ..tensors import Tensors, copy_, norm
from .base import Facts, Perturbation
from .sam import reciprocal

MOMENTS = ("momentum_buffer", "exp_avg")  # SGD, RMSprop, Muon; Adam and its relatives


class MSAMPerturbation(Perturbation):
    """eps_hat = -v / ||v||, with v the base optimizer's momentum; the only pass is at theta + rho eps_hat.

    The sign is the paper's: theta is about to move along -v, and the gradient is taken rho further on. There is no
    gradient at theta, so a step costs what the base optimizer's costs, and no memory beyond the saved weights. What
    `step` returns, and `metrics["training_loss"]`, is then the loss at the perturbed weights, and `gradient_norm` is
    ||g_rho||. The first step, without a momentum, does not climb.

    A radius that needs the loss or the gradient at theta makes the pass there: `LossBudgetRadius` at every step,
    `LearnedRadius` in the steps whose curvature it measures and in those that update it (at `interval=4`, 1 1/2
    training passes a step and a quarter of a validation pass).

    Raises:
        ValueError: a base optimizer without momentum (SGD or RMSprop with momentum=0, say).

    Example:
        >>> import torch, letsam
        >>> weight = torch.nn.Parameter(torch.tensor([3.0, 4.0]))
        >>> opt = letsam.MSAM(torch.optim.SGD([weight], lr=0.1, momentum=0.9), rho=1.0)
        >>> seen = []
        >>> def closure():
        ...     opt.zero_grad()
        ...     seen.append(weight.detach().clone())
        ...     loss = weight.square().sum() / 2
        ...     loss.backward()
        ...     return loss
        >>> for _ in range(2):
        ...     _ = opt.step(closure)
        >>> seen  # the second is (1 - lr) theta - theta / ||theta||
        [tensor([3., 4.]), tensor([2.1000, 2.8000])]

    Reference:
        arXiv:2401.12033, section 2.4 and algorithm 1.
    """

    facts = Facts(
        "MSAM: climb along the momentum, in one pass",
        "arXiv:2401.12033",
        "1",
        1,
        "yes; a further pass in the steps that measure the curvature or update the radius",
        rho=0.3,
    )
    follows_gradient = False

    def __init__(self) -> None:
        self._state: Any = {}

    def attach(self, param_groups: list[dict[str, Any]]) -> None:
        """Refuse groups without momentum."""
        for group in param_groups:
            if not (group.get("momentum") or "betas" in group):
                raise ValueError("`base_optimizer` must have a momentum for MSAM, got a param group without one")

    def begin(self, step: int, base: Optimizer) -> None:
        """Look up the momentum."""
        self._state = base.state

    def direction(self, weights: Tensors, gradients: Tensors, gradient_norm: Tensor) -> Tensor:
        """The momentum, downhill; a factor of 0 where there is none yet."""
        for weight, gradient in zip(weights, gradients, strict=True):
            state: dict[str, Any] = self._state.get(weight, {})
            momentum: Tensor | None = next((state[name] for name in MOMENTS if state.get(name) is not None), None)
            if momentum is None:
                gradient.zero_()
            else:
                copy_([gradient], [momentum])
        length = norm(gradients)
        return torch.where(length > 0, -reciprocal(length), 0.0)

    def commit(self, finite: Tensor) -> None:
        """The base optimizer's state is its own affair."""
        self._state = {}

    def discard(self) -> None:
        """The base optimizer's state is its own affair."""
        self._state = {}
