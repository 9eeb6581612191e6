"""nu = log(rho): how the upper level moves the radius, given a slope."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

NAMES = ("nu", "exp_avg", "exp_avg_sq", "updates")
BETAS = (0.9, 0.999)
EPSILON = 1e-16  # far below the hypergradients of a well-trained network, which fall with its loss
BURN_IN_RATE = 2.0  # how many times faster the first step of the burn-in is
BURN_IN_GROWTH = 2.0  # logarithm of the multiple of the prior that is allowed at the end of the burn-in
BURN_IN_WEIGHT = 3.6  # how many times heavier the prior weighs then; times its weight it stays below Adam's first step


class LogRadius:
    """nu <- nu - rate * (Adam(slope) + pull), pull = weight * clamp(log(length / prior), -1, 1).

    `length` is that of the perturbation, ||rho eps_hat||, so that one prior serves SAM (where it is rho) and ASAM.
    Adam's term is within -1 and 1 and about mean / deviation of the slopes: evidence below `weight` does not hold the
    radius away from the prior, evidence above it carries the radius as far as it lasts.

    During the burn-in, `burn_in` steps, the rate is up to 2 times and the weight of the prior up to 3.6 times as high,
    both falling in a line, and the perturbation is at most exp(2 step / burn_in) times as long as the prior.

    Args:
        rho: starting radius.
        bounds: (lowest, highest) rho.
        prior: length of the perturbation that is held without evidence, > 0; None for no prior.
        weight: of the prior, >= 0.
        burn_in: steps, >= 0.
    """

    def __init__(
        self, rho: float, bounds: tuple[float, float], prior: float | None, weight: float, burn_in: int
    ) -> None:
        self.bounds, self.prior, self.weight, self.burn_in = bounds, prior, weight, burn_in
        self.values = torch.tensor([math.log(rho), 0.0, 0.0, 0.0], dtype=torch.float64)  # see NAMES
        self.betas = torch.tensor(BETAS, dtype=torch.float64)
        self.proposed: Tensor | None = None

    def to(self, device: torch.device, dtype: torch.dtype) -> None:
        """Move to where the weights are."""
        self.values = self.values.to(device=device, dtype=dtype)
        self.betas = torch.tensor(BETAS, dtype=dtype, device=device)

    def highest(self, length: Tensor, step: int) -> Tensor | float:
        """The largest rho at this step: the upper bound, in the burn-in also a multiple of the prior."""
        low, high = self.bounds
        if self.prior is None or step >= self.burn_in:
            return high
        return (self.prior * math.exp(BURN_IN_GROWTH * step / self.burn_in) / length).clamp(low, high)

    def propose(
        self, rho: Tensor, slope: Tensor, rate: float | Tensor, length: Tensor, highest: Tensor | float, step: int,
        usable: Tensor,
    ) -> Tensor:  # fmt: skip
        """One update; `commit` decides whether it counts.

        Args:
            rho: now (0-dim).
            slope: of the upper level along nu, up to a positive factor (0-dim).
            rate: of this update.
            length: ||eps_hat|| (0-dim).
            highest: what `highest` returned.
            step: of the optimizer, from 0.
            usable: whether the slope comes from finite passes (0-dim bool); where not, nothing moves.

        Returns:
            The proposed radius (0-dim).
        """
        old_nu, _, _, updates = self.values.unbind()
        betas = self.betas.view(2, *[1] * slope.ndim)
        early = max(0.0, 1 - step / self.burn_in) if self.burn_in else 0.0
        updates = updates + 1
        moments = torch.stack([slope, slope.square()]).lerp(self.values[1:3], betas)
        first, second = (moments / (1 - betas**updates)).unbind()
        move = first / (second.sqrt() + EPSILON)
        if self.prior is not None:
            excess = ((length / self.prior).log() + old_nu).clamp(-1, 1)
            move = move + self.weight * (1 + (BURN_IN_WEIGHT - 1) * early) * excess
        low, high = math.log(self.bounds[0]), highest.log() if isinstance(highest, Tensor) else math.log(highest)
        nu = (old_nu - rate * (1 + (BURN_IN_RATE - 1) * early) * move).clamp(min=low).clamp(max=high)
        valid = usable & (moments[1] < torch.inf)  # the square of a slope that is not finite is not finite either
        self.proposed = torch.where(valid, torch.stack([nu, *moments.unbind(), updates]), self.values)
        return torch.where(valid, nu.exp().clamp(min=self.bounds[0]).clamp(max=highest), rho)

    def commit(self, finite: Tensor) -> None:
        """Adopt what was proposed where `finite`."""
        if self.proposed is not None:
            self.values = torch.where(finite, self.proposed, self.values)
        self.proposed = None

    def state_dict(self) -> dict[str, Tensor]:
        """Under the names in NAMES."""
        return {name: value.clone() for name, value in zip(NAMES, self.values.unbind(), strict=True)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self.values = torch.stack([torch.as_tensor(state[name]).to(self.values) for name in NAMES])
        self.proposed = None
