"""F-SAM, Friendly SAM: climb along what is particular to the batch.

Li, Zhou, He, Cheng, Huang, "Friendly Sharpness-Aware Minimization", CVPR 2024, arXiv:2403.12350.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .. import _checks
from .._tensors import Tensors, add_scaled_, norm
from .base import Facts, Perturbation
from .memory import Memory, State
from .sam import reciprocal


class NoiseAscent(Perturbation):
    """eps_hat = d / ||d||, d = g - sigma m, with m an average of the gradients of earlier steps.

    The full gradient, of which m is an estimate, does not help generalisation in the perturbation; what remains is the
    noise of the batch. m <- decay m + (1 - decay) g after the step has used it, and begins with the first gradient:
    the authors' code. With sigma = 1 it makes no difference whether g enters m before or after.

    Args:
        sigma: >= 0, how much of the average is taken off; 0 is SAM.
        decay: of the average, from 0 to below 1; the paper's lambda.

    Raises:
        ValueError: an argument out of range.

    Example:
        >>> import torch
        >>> weight, perturbation = torch.zeros(2), NoiseAscent()
        >>> for g in (torch.tensor([1.0, 0.0]), torch.tensor([1.0, 2.0])):
        ...     factor = perturbation.direction([weight], [g], g.norm())
        ...     perturbation.commit(torch.tensor(True))
        >>> factor * g
        tensor([0., 1.])

    Reference:
        arXiv:2403.12350, section 4 and algorithm 1.
    """

    facts = Facts("F-SAM: climb along the noise of the batch", "arXiv:2403.12350", copies=3)

    def __init__(self, sigma: float = 1.0, decay: float = 0.9) -> None:
        self.sigma = _checks.not_negative("sigma", sigma)
        self.decay = _checks.share("decay", decay)
        self._average = Memory()

    def attach(self, param_groups: list[dict[str, Any]]) -> None:
        """Keep the average by weight."""
        self._average.attach(param_groups)

    def direction(self, weights: Tensors, gradients: Tensors, gradient_norm: Tensor) -> Tensor:
        """The gradients less sigma times the average before this step."""
        self._average.average_(weights, gradients, 1 - self.decay)
        add_scaled_(gradients, self._average.values(weights), torch.full_like(gradient_norm, -self.sigma))
        return reciprocal(norm(gradients))

    def commit(self, finite: Tensor) -> None:
        """Keep the average."""
        self._average.commit(finite)

    def discard(self) -> None:
        """Keep the average of before."""
        self._average.discard()

    def state_dict(self) -> dict[str, State]:
        """The average."""
        return {"average": self._average.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self._average = self._average.loaded(state["average"])
