"""An ascent that costs no pass: along the gradient with which the last step descended."""

from __future__ import annotations

import torch
from torch import Tensor

from letsam.perturbations import Facts
from letsam.perturbations.memory import PerturbationWithMemory
from letsam.perturbations.sam import reciprocal
from letsam.tensors import Tensors, copy_, norm
from letsam.variants import Variant


class LastGradientPerturbation(PerturbationWithMemory):
    """eps_hat = d / ||d|| with d = grad L(theta + rho eps_hat) of the step before; the first step does not climb.

    d is of another batch and of the weights before the last update. The gradient at theta is not computed, except where
    a learned radius needs it.

    Example:
        >>> weight, perturbation = torch.zeros(2), LastGradientPerturbation()
        >>> for g in (torch.tensor([3.0, 4.0]), torch.tensor([5.0, 0.0])):
        ...     direction = torch.zeros(2)
        ...     factor = perturbation.direction([weight], [direction], torch.tensor(0.0))
        ...     print(factor * direction)
        ...     _ = perturbation.descent([weight], [g], None)
        ...     perturbation.commit(torch.tensor(True))
        tensor([0., 0.])
        tensor([0.6000, 0.8000])

    Reference:
        AsyncSAM, arXiv:2503.11147, computes an ascent gradient beside the step before, on a second device. This one has
        no second device: it takes the gradient that is there.
    """

    facts = Facts("climb along the gradient of the last step, in one pass", "arXiv:2503.11147", "1", 3)
    follows_gradient = False

    def direction(self, weights: Tensors, gradients: Tensors, gradient_norm: Tensor) -> Tensor:
        """Replace the gradients by d; returns 1 / ||d||, or 0 if there is no d yet."""
        copy_(gradients, self.memory.values(weights))
        length = norm(gradients)
        return torch.where(length > 0, reciprocal(length), 0.0)

    def descent(self, weights: Tensors, gradients: Tensors, ascent_gradients: Tensors | None) -> None:
        """Keep the gradient for the next step; the descent is SAM's."""
        copy_(self.memory.begin(weights), gradients)

    def descent_derivative(self, weights: Tensors, gradients: Tensors, ascent_gradients: Tensors | None) -> None:
        """That of the identity."""


class LastGradientSAM(Variant):
    """A variant that is not registered: `letsam methods` and the tables of variants do not have it."""

    made_of = LastGradientPerturbation
    facts = LastGradientPerturbation.facts
