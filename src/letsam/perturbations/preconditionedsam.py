"""Preconditioned SAM: climb along the gradient as an adaptive base optimizer would scale it.

Singh, Mobahi, Agarwala, Dauphin, "Avoiding spurious sharpness minimization broadens applicability of SAM", 2025,
arXiv:2502.02407, find that on language the perturbation has to be preconditioned. The damping is ours.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from .. import checks
from ..tensors import Tensors, copy_, multiply_, norm, scale_
from ..tensors.shards import locals_of
from .base import Facts
from .sam import SAMPerturbation, reciprocal

SECOND_MOMENTS = ("exp_avg_sq", "square_avg")  # Adam and its relatives; RMSprop
TINY = 1e-12  # added to roots, so that a weight that has never had a gradient does not divide by zero


class PreconditionedSAMPerturbation(SAMPerturbation):
    """eps_hat = D g / ||D g||, D = 1 / (sqrt(v) + delta rms), rms = sqrt(mean of v), v the base's second moment.

    v is the average of squared gradients that Adam, AdamW or RMSprop keeps, from the steps before; rms is taken over
    all perturbed weights. So weights with small gradients climb as far as those with large ones, up to the damping
    delta. With a large delta it is SAM. A base optimizer without v, such as SGD, climbs as SAM does, bit for bit, as
    every first step does. Weights without v, beside others that have it, count as if their sqrt(v) were rms.

    Args:
        delta: damping, > 0, relative to the root mean square of the gradients.

    Raises:
        ValueError: `delta` is out of range.

    Example:
        >>> import torch, letsam
        >>> weight = torch.nn.Parameter(torch.tensor([1.0, 100.0]))
        >>> opt = letsam.PreconditionedSAM(torch.optim.Adam([weight], lr=0.1), rho=1.0, delta=1e-6)
        >>> seen = []
        >>> def closure():
        ...     opt.zero_grad()
        ...     seen.append(weight.detach().clone())
        ...     loss = weight.square().sum() / 2
        ...     loss.backward()
        ...     return loss
        >>> for _ in range(2):
        ...     _ = opt.step(closure)
        >>> (seen[1] - seen[0]).round(decimals=1).tolist()  # in the first step, along the gradient
        [0.0, 1.0]
        >>> (seen[3] - seen[2]).round(decimals=1)  # in the second step, both weights climb as far
        tensor([0.7000, 0.7000])

    Reference:
        arXiv:2502.02407, section 4.
    """

    facts = Facts(
        "Preconditioned SAM: climb as an adaptive base optimizer scales the gradient", "arXiv:2502.02407", copies=2
    )

    def __init__(self, delta: float = 0.1) -> None:
        self.delta = checks.positive("delta", delta)
        self._state: Any = {}

    def begin(self, step: int, base: Optimizer) -> None:
        """Keep a reference to the base optimizer's state, which holds v."""
        self._state = base.state

    def direction(self, weights: Tensors, gradients: Tensors, gradient_norm: Tensor) -> Tensor:
        """Turn g into D g in place; returns 1 / ||D g||."""
        pairs = [(i, v) for i, weight in enumerate(weights) if (v := self._second_moment(weight)) is not None]
        if not pairs:
            return super().direction(weights, gradients, gradient_norm)
        scaled, others = [gradients[i] for i, _ in pairs], set(range(len(gradients))) - {i for i, _ in pairs}
        roots = [torch.empty_like(gradient) for gradient in scaled]
        copy_(roots, [v for _, v in pairs])
        for root in locals_of(roots):
            root.sqrt_()
        rms = norm(roots) / sum(root.numel() for root in roots) ** 0.5
        for root in locals_of(roots):
            root.add_((rms * self.delta + TINY).to(root.dtype)).reciprocal_()
        multiply_(scaled, roots)
        if others:
            scale_([gradients[i] for i in others], 1 / (rms * (1 + self.delta) + TINY))
        return reciprocal(norm(gradients))

    def _second_moment(self, weight: Tensor) -> Tensor | None:
        state: dict[str, Any] = self._state.get(weight, {})
        found = next((state[name] for name in SECOND_MOMENTS if isinstance(state.get(name), Tensor)), None)
        return found if found is not None and found.shape == weight.shape else None

    def __getstate__(self) -> dict[str, Any]:
        """Without the state of the base optimizer, which is given in each step."""
        return {**self.__dict__, "_state": {}}
