"""MSAM, Momentum-SAM: perturb along the momentum instead of the gradient, so that a step needs one pass.

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
    """eps_hat = -v / ||v|| with v the base optimizer's momentum; theta <- base(theta, grad L(theta + rho eps_hat)).

    The sign is the paper's: the next update moves theta along -v, and the gradient is taken at distance rho in that
    direction. The gradient at theta is not computed, so a step costs as much as a base optimizer step, and no memory
    beyond the copy of the weights. The loss that `step` returns and stores as `metrics["training_loss"]` is therefore
    the loss at the perturbed weights, and `metrics["gradient_norm"]` is ||g_rho||. The first step has no momentum and
    does not climb.

    A radius that needs the loss or gradient at theta adds a pass there: `LossBudgetRadius` at every step,
    `LearnedRadius` in steps that measure the curvature and in steps that update it (with `interval=4`: 1 1/2 training
    passes and 1/4 of a validation pass per step).

    Raises:
        ValueError: a base optimizer without momentum, such as SGD or RMSprop with momentum=0.

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
        """Raise for param groups without momentum."""
        for group in param_groups:
            if not (group.get("momentum") or "betas" in group):
                raise ValueError("`base_optimizer` must have a momentum for MSAM, got a param group without one")

    def begin(self, step: int, base: Optimizer) -> None:
        """Keep a reference to the base optimizer's state, which holds the momentum."""
        self._state = base.state

    def direction(self, weights: Tensors, gradients: Tensors, gradient_norm: Tensor) -> Tensor:
        """Replace the gradients by v; returns -1 / ||v||, or 0 if there is no momentum yet."""
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
        """Drop the reference to the base optimizer's state; there is nothing else to keep."""
        self._state = {}

    def discard(self) -> None:
        """Drop the reference to the base optimizer's state."""
        self._state = {}
