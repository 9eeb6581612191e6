"""AE-SAM: a SAM step where the gradient norm is large compared with recent steps, a base optimizer step elsewhere.

Jiang, Yang, Zhang, Kwok, "An Adaptive Policy to Employ Sharpness-Aware Minimization", ICLR 2023, arXiv:2304.14647.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from .. import checks
from ..tensors import Tensors
from .base import Facts
from .sam import SAMPerturbation, reciprocal


class AESAMPerturbation(SAMPerturbation):
    """eps_hat = g / ||g|| on steps with ||g||^2 >= mu + c sigma, and 0 on the others.

    mu and sigma^2 are moving averages of the squared gradient norm s = ||g||^2 and of its variance, updated with this
    step's s before the comparison:

        mu      <- decay mu + (1 - decay) s
        sigma^2 <- decay sigma^2 + (1 - decay) (s - mu)^2

    Both start at 0, so the first steps climb. c decreases linearly from `highest` to `lowest` over `steps`; without
    `steps` it is constant, halfway between the two.

    The decision is made on the device, so that the host never waits for it. The weights are updated as in the paper,
    but **a step costs 2 passes instead of about 1 1/2**: the paper skips the second pass of a step that does not climb,
    whereas here it runs at the unperturbed weights.

    Args:
        steps: >= 1, length of the run in steps; None: unknown.
        lowest: c at the end, the paper's lambda_1.
        highest: c at the beginning, the paper's lambda_2; at least `lowest`.
        decay: of the moving averages, from 0 to below 1; the paper's delta.

    Raises:
        ValueError: an argument out of range.
        TypeError: an argument of the wrong type.

    Example:
        >>> import torch
        >>> perturbation, weight = AESAMPerturbation(), torch.zeros(1)
        >>> factors = []
        >>> for g in (torch.tensor([2.0]), torch.tensor([0.1])):
        ...     factors.append(perturbation.direction([weight], [g], g.norm()))
        ...     perturbation.commit(torch.tensor(True))
        >>> factors
        [tensor(0.5000), tensor(0.)]

    Reference:
        Jiang et al., arXiv:2304.14647.
    """

    facts = Facts(
        "AE-SAM: climb only in steps with a large gradient norm",
        "arXiv:2304.14647",
        "2",
        1,
        "yes; steps that do not climb have no effect on it",
    )

    def __init__(
        self, steps: int | None = None, lowest: float = -1.0, highest: float = 1.0, decay: float = 0.9
    ) -> None:
        self.steps = steps if steps is None else checks.whole("steps", steps, 1)
        self.lowest, self.highest = checks.number("lowest", lowest), checks.number("highest", highest)
        if self.highest < self.lowest:
            raise ValueError(f"`highest` must be at least `lowest` = {self.lowest}, got {self.highest}")
        self.decay = checks.share("decay", decay)
        self._moments: tuple[Tensor, Tensor] | None = None  # mu, sigma^2
        self._proposed: tuple[Tensor, Tensor] | None = None
        self._step = 0

    def begin(self, step: int, base: Optimizer) -> None:
        """Store the step number, on which c depends."""
        self._step = step

    def direction(self, weights: Tensors, gradients: Tensors, gradient_norm: Tensor) -> Tensor:
        """1 / ||g|| if this step climbs, else 0."""
        square = gradient_norm.square()
        mean, variance = self._known(square)
        mean = torch.lerp(square, mean, self.decay)
        variance = torch.lerp((square - mean).square(), variance, self.decay)
        self._proposed = mean, variance
        share = 0.5 if self.steps is None else min(self._step / self.steps, 1.0)
        threshold = mean + (self.highest + share * (self.lowest - self.highest)) * variance.sqrt()
        return torch.where(square >= threshold, reciprocal(gradient_norm), 0.0)

    def _known(self, like: Tensor) -> tuple[Tensor, Tensor]:
        if self._moments is None:
            return torch.zeros_like(like), torch.zeros_like(like)
        mean, variance = self._moments
        return mean.to(like), variance.to(like)

    def commit(self, finite: Tensor) -> None:
        """Keep the new averages if the step is finite and the square of its gradient norm has not overflowed."""
        if self._proposed is not None:
            old = self._known(self._proposed[0])
            finite = finite & (self._proposed[1] < torch.inf)  # the variance is NaN if the mean is infinite
            mean, variance = (torch.where(finite, new, known) for new, known in zip(self._proposed, old, strict=True))
            self._moments = mean, variance
        self._proposed = None

    def discard(self) -> None:
        """Keep the averages from before the step."""
        self._proposed = None

    def state_dict(self) -> dict[str, Any]:
        """The moving averages mu and sigma^2."""
        return {"moments": None if self._moments is None else tuple(m.clone() for m in self._moments)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state that `state_dict` returned."""
        moments = state["moments"]
        if moments is not None:
            mean, variance = (checks.saved("moments", moment, lowest=0.0).clone() for moment in moments)
            moments = mean, variance
        self._moments = moments
        self._proposed = None
