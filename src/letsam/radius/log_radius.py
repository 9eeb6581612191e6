"""nu = log(rho): how the upper level moves the radius, given a slope."""

from __future__ import annotations

import math

import torch
from torch import Tensor

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
        nu = torch.tensor(rho, dtype=torch.float64).log()
        self.state = {name: torch.zeros_like(nu) for name in ("nu", "exp_avg", "exp_avg_sq", "updates")}
        self.state["nu"] = nu
        self.proposed: dict[str, Tensor] = {}

    def to(self, device: torch.device, dtype: torch.dtype) -> None:
        """Move to where the weights are."""
        self.state = {name: value.to(device=device, dtype=dtype) for name, value in self.state.items()}

    def highest(self, length: Tensor, step: int) -> Tensor | float:
        """The largest rho at this step: the upper bound, in the burn-in also a multiple of the prior."""
        low, high = self.bounds
        if self.prior is None or step >= self.burn_in:
            return high
        return (self.prior / length * math.exp(BURN_IN_GROWTH * step / self.burn_in)).clamp(low, high)

    def propose(
        self, rho: Tensor, slope: Tensor, rate: float | Tensor, length: Tensor, step: int, usable: Tensor
    ) -> Tensor:
        """One update; `commit` decides whether it counts.

        Args:
            rho: now (0-dim).
            slope: of the upper level along nu, up to a positive factor (0-dim).
            rate: of this update.
            length: ||eps_hat|| (0-dim).
            step: of the optimizer, from 0.
            usable: whether the slope comes from finite passes (0-dim bool); where not, nothing moves.

        Returns:
            The proposed radius (0-dim).
        """
        old = self.state
        early = max(0.0, 1 - step / self.burn_in) if self.burn_in else 0.0
        updates = old["updates"] + 1
        first = torch.lerp(slope, old["exp_avg"], BETAS[0])
        second = torch.lerp(slope.square(), old["exp_avg_sq"], BETAS[1])
        move = (first / (1 - BETAS[0] ** updates)) / ((second / (1 - BETAS[1] ** updates)).sqrt() + EPSILON)
        if self.prior is not None:
            excess = old["nu"] + (length / self.prior).log()
            move = move + self.weight * (1 + (BURN_IN_WEIGHT - 1) * early) * excess.clamp(-1, 1)
        nu = old["nu"] - rate * (1 + (BURN_IN_RATE - 1) * early) * move
        low, high = torch.full_like(nu, self.bounds[0]), torch.full_like(nu, 1.0) * self.highest(length, step)
        nu = nu.clamp(low.log(), high.log())
        valid = usable & slope.isfinite() & second.isfinite()  # a square overflows before its root
        proposed = {"nu": nu, "exp_avg": first, "exp_avg_sq": second, "updates": updates}
        self.proposed = {name: torch.where(valid, value, old[name]) for name, value in proposed.items()}
        return torch.where(valid, self.proposed["nu"].exp().clamp(low, high), rho)

    def commit(self, finite: Tensor) -> None:
        """Adopt what was proposed where `finite`."""
        for name, value in self.proposed.items():
            self.state[name] = torch.where(finite, value, self.state[name])
        self.proposed = {}
