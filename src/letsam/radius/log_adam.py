"""The default rule of a learned radius: Adam on the logarithm of the radius, with a prior."""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from torch import Tensor

from .. import checks
from ..tangent.blocks import grown
from .prior import SUMS, Prior
from .rule import BOUNDS, Rule, Update
from .validation_guard import ValidationGuard

NAMES = ("nu", "exp_avg", "exp_avg_sq", "updates")
BETAS = (0.9, 0.999)
EPSILON = 1e-16  # far below the hypergradients of a well-trained network, which decrease with its loss
BURN_IN_RATE = 2.0  # factor of the rate at the beginning of the burn-in
BURN_IN_GROWTH = 2.0  # log of the largest ratio of reach to prior at the end of the burn-in
DEFAULT_PRIOR = Prior()
DEFAULT_GUARD = ValidationGuard()


class LogAdam(Rule):
    """nu <- nu - rate * (Adam(slope) + pull of the prior), rho = exp(nu).

    Adam's term is roughly the mean of the slopes divided by their root mean square, mostly between -1 and 1. If it
    stays at e, below the weight w of the prior, the radius settles at a factor of exp(e / w) from the prior. If it is
    larger than w, the radius keeps moving away from the prior for as long as that lasts.

    At the beginning of the burn-in the rate is doubled; the factor decreases linearly to 1 at its end. From the second
    step to the end of the burn-in, the perturbation reaches at most exp(2 step / burn_in) times as far as the prior,
    because training often does not start with a large radius. The prior itself rises during the burn-in, and this limit
    uses its current value in steps with an update and its full value in other steps. So the radius changes only at
    updates, unless it is far too large.

    Args:
        lr: rate of nu per step, > 0: roughly how far log(rho) moves in a step when the slopes agree. An update that
            stands for k steps moves k times as far.
        prior: a `Prior`, or None for no prior and no limit during the burn-in.
        follow_lr: multiply the rate by the base learning rate divided by its peak, so that both decay together.
        bounds: (lowest, highest) rho, 0 < lowest < highest.
        normalize: True: the slope is the cosine between the gradient of the upper level and Z, so early and late slopes
            count equally. False: the slope is rho * d upper / d rho, which decreases with the loss.
        burn_in: number of steps, >= 0.
        guard: a `ValidationGuard`: slopes count as 0 where the validation data do not fit the training data. None: no
            guard.

    Raises:
        ValueError: an argument out of range.
        TypeError: an argument of the wrong type.

    Example:
        >>> import letsam
        >>> radius = letsam.LearnedRadius(0.05, rule=LogAdam(lr=0.02, prior=None))
        >>> radius.rule.bounds
        (0.0001, 10.0)

    Reference:
        Kingma and Ba, arXiv:1412.6980, algorithm 1; arXiv:2408.08222, algorithm 1, which moves rho by gradient descent.
    """

    def __init__(
        self,
        lr: float = 0.05,
        *,
        prior: Prior | None = DEFAULT_PRIOR,
        follow_lr: bool = True,
        bounds: tuple[float, float] = BOUNDS,
        normalize: bool = True,
        burn_in: int = 100,
        guard: ValidationGuard | None = DEFAULT_GUARD,
    ) -> None:
        super().__init__(bounds)
        self.lr = checks.positive("lr", lr)
        if not isinstance(prior, Prior | None):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"`prior` must be a letsam.Prior or None, got {checks.shown(prior)}")
        if not isinstance(guard, ValidationGuard | None):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"`guard` must be a letsam.ValidationGuard or None, got {checks.shown(guard)}")
        self.prior, self.guard = copy.deepcopy(prior), copy.deepcopy(guard)
        self.follow_lr = checks.flag("follow_lr", follow_lr)
        self.normalize = checks.flag("normalize", normalize)
        self.burn_in = checks.whole("burn_in", burn_in, 0)
        self.uses_reach = prior is not None
        self._proposed: Tensor | None = None
        self._highest: Tensor | float | None = None  # largest log(rho) in the update of this step
        self.start(torch.ones((), dtype=torch.float64))

    def start(self, rho: Tensor) -> None:
        """Start at these radii, with new moments."""
        nu = rho.log() if rho.ndim else rho.new_tensor(math.log(rho.item()))
        self._values = torch.stack([nu, *[torch.zeros_like(rho)] * 3])  # see NAMES
        self._proposed = None
        self._constants()
        for part in self._parts:
            part.start(rho)

    @property
    def _parts(self) -> list[Prior | ValidationGuard]:
        """What keeps a state of its own."""
        return [part for part in (self.prior, self.guard) if part is not None]

    def _constants(self) -> None:
        """Make the constants that operators need as tensors, on the device of the weights."""
        like: dict[str, Any] = {"dtype": self._values.dtype, "device": self._values.device}
        self._betas = torch.tensor(BETAS, **like)
        self._powers = torch.tensor((1.0, 2.0), **like)
        self._lowest = torch.tensor(math.log(self.bounds[0]), **like)

    def to(self, device: torch.device, dtype: torch.dtype) -> None:
        """Move the state to the device and dtype of the weights."""
        self._values = self._values.to(device=device, dtype=dtype)
        self._constants()
        for part in self._parts:
            part.to(device, dtype)

    def grow(self, count: int, rho: float) -> None:
        """Make the state one value per radius, for `count` radii; new ones start at rho."""
        start = (math.log(rho), 0.0, 0.0, 0.0)
        self._values = torch.stack([grown(v, count, x) for v, x in zip(self._values.unbind(), start, strict=True)])

    @property
    def label_noise(self) -> Tensor | None:
        """What the guard has found; None without a guard."""
        return None if self.guard is None else self.guard.label_noise.known

    def measures(self, step: int) -> bool:
        """True in the first steps, for the curvature limit of the prior."""
        return self.prior is not None and self.prior.measures(step)

    def observe(self, loss: Tensor, distance: Tensor, growth: Tensor) -> None:
        """Pass the measurements to the prior."""
        if self.prior is not None:
            self.prior.observe(loss, distance, growth)

    def log_highest(self, reach: Tensor, step: int, updates: bool) -> tuple[Tensor | None, Tensor | float]:
        """The log-radius of the prior, and the largest log-radius of this step.

        Args:
            reach: as in `Update`.
            step: of the optimizer, from 0.
            updates: whether this step updates the radius; if not, the full prior is used.

        Returns:
            The log-radius at which the perturbation reaches as far as the prior (None without a prior), and the limit.
        """
        low, high = map(math.log, self.bounds)
        if self.prior is None:
            return None, high
        log_radius = self.prior.log_radius(reach, self.prior.share(step, self.burn_in) if updates else 1.0)
        if step >= self.burn_in:
            return log_radius, high
        return log_radius, (log_radius + BURN_IN_GROWTH * step / self.burn_in).clamp(low, high)

    def propose(self, rho: Tensor, slope: Tensor, update: Update) -> Tensor:
        """Propose one update; see `Rule.propose`."""
        log_radius, highest = self.log_highest(update.reach, update.step, True)
        self._highest = highest
        if self.guard is not None and update.training_loss is not None and update.validation_loss is not None:
            losses = update.training_loss, update.validation_loss
            slope = slope * self.guard.observe(update.step, *losses, update.gain, update.usable, update.calibrated)
        old_nu, _, _, updates = self._values.unbind()
        betas, powers = (pair.view(2, *[1] * slope.ndim) for pair in (self._betas, self._powers))
        early = max(0.0, 1 - update.step / self.burn_in) if self.burn_in else 0.0
        updates = updates + 1
        moments = (slope**powers).lerp(self._values[1:3], betas)
        first, second = (moments / (1 - betas**updates)).unbind()
        move = first / (second.sqrt() + EPSILON)
        if log_radius is not None and self.prior is not None:
            move = self.prior.pull(move, old_nu - log_radius, early)
        rate = (self.lr * update.lr_share if self.follow_lr else self.lr) * update.steps
        nu = _plus(old_nu, -rate * (1 + (BURN_IN_RATE - 1) * early), move)
        if isinstance(highest, Tensor):
            nu = nu.clamp(self._lowest, highest)
        else:
            nu = nu.clamp(math.log(self.bounds[0]), highest)
        valid = update.usable & (moments[1] < torch.inf)  # False if the slope or its square is not finite
        self._proposed = torch.where(valid, torch.stack([nu, *moments.unbind(), updates]), self._values)
        return torch.where(valid, nu.exp().clamp(*self.bounds), rho)

    def limit(self, rho: Tensor, step: int, reach: Tensor, updates: bool) -> Tensor:
        """rho, or the limit of the burn-in if that is smaller; see the class."""
        highest = self.log_highest(reach, step, updates)[1] if self._highest is None else self._highest
        return rho.clamp(max=highest.exp() if isinstance(highest, Tensor) else self.bounds[1])

    def shrink(self, rho: Tensor, overflow: Tensor) -> Tensor:
        """Halve the radius, with its logarithm; the moments stay. See `Rule.shrink`."""
        self._values[0].add_(overflow, alpha=-math.log(2.0))
        return super().shrink(rho, overflow)

    def commit(self, finite: Tensor) -> None:
        """Keep the proposed state if `finite`."""
        if self._proposed is not None:
            self._values = torch.where(finite, self._proposed, self._values)
        self._proposed = self._highest = None
        for part in self._parts:
            part.commit(finite)

    def discard(self) -> None:
        """Drop the proposed state."""
        self._proposed = self._highest = None
        for part in self._parts:
            part.discard()

    def state_dict(self) -> dict[str, Any]:
        """nu, Adam's moments and count of updates, and the sums of the prior."""
        own = {name: value.clone() for name, value in zip(NAMES, self._values.unbind(), strict=True)}
        zeros = {name: self._values.new_zeros(()) for name in SUMS}  # so that the layout is the same without a prior
        guarded = {} if self.guard is None else self.guard.state_dict()
        return own | (zeros if self.prior is None else self.prior.state_dict()) | guarded

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state that `state_dict` returned."""
        shape, lowest = self._values.shape[1:], {"exp_avg_sq": 0.0, "updates": 0.0}
        loaded = [checks.saved(name, state[name], shape, lowest=lowest.get(name)) for name in NAMES]
        self._values = torch.stack([value.to(self._values) for value in loaded])
        self._proposed = self._highest = None
        for part in self._parts:
            part.load_state_dict(state)


def _plus(value: Tensor, factor: float | Tensor, change: Tensor) -> Tensor:
    """value + factor * change, in one operator if the factor is a number."""
    return value + factor * change if isinstance(factor, Tensor) else value.add(change, alpha=factor)
