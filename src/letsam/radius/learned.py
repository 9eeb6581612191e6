"""LETS, a radius that is learned by bilevel optimization while the network trains (Wang et al., arXiv:2408.08222).

The lower level is the step of the optimizer on a training batch, theta'(rho) = theta - lr P g_rho. The upper level
changes rho to decrease an objective at theta'(rho). The step builds Z = d theta' / d rho = -lr P H_rho eps_hat
(`letsam.tangent`); the radius is given losses and their slopes along Z, scalars. Its parts:

    objective         what is minimized (`ValidationLoss`, `CalibratedLoss`, the paper's `SquaredGap`)
    hypergradient     estimates H_rho eps_hat (`Secant`, `FiniteDifference`, `Diagonal`)
    rule              changes rho by the slope d upper / d log(rho) (`LogAdam`, with its `Prior`)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .. import checks
from ..tangent import Hypergradient
from ..tangent.blocks import PER, grown
from ..tangent.diagonal import Diagonal
from ..tangent.secant import Secant
from .base import Ascent, Evidence, Radius, Wants
from .fixed_parts import FixedParts
from .last_update import LastUpdate
from .log_adam import LogAdam
from .objective import Objective
from .rule import Rule, Update
from .scheduled import learning_rate_share
from .squared_gap import SquaredGap
from .timing import UpdateTimes
from .validation_loss import ValidationLoss


class LearnedRadius(FixedParts, Radius):
    """rho <- rule(rho, slope), slope = d objective(theta'(rho)) / d log(rho), by the hypergradient.

    Args:
        rho: initial radius, > 0, within the bounds of the rule, in units of the weights (ASAM: relative to them).
        objective: what the upper level minimizes; None: `ValidationLoss()`.
        hypergradient: estimator of the curvature term; None: `Secant()`, which needs no further pass.
        rule: how a slope changes the radius; None: `LogAdam()`, whose `Prior` depends on a constant added to the loss.
        per: "all": one radius for all weights. "group", "layer": one per param group or weight tensor, each with a
            slope, bounds and prior (docs/how-to/radii.md); `opt.rho` and the metrics then have one value per radius.
        interval: an update every `interval` steps, >= 1; None: every step of the rule's burn-in, then every 4th. May be
            set at any time; the other arguments are fixed.
        until: the number of steps, >= 1, after which the radius stays, without validation passes. None: never.

    Raises:
        ValueError: an argument out of range.
        TypeError: an argument of the wrong type.

    Example:
        >>> import torch, letsam
        >>> weight = torch.nn.Parameter(torch.tensor([3.0, 4.0]))
        >>> opt = letsam.SAM(torch.optim.SGD([weight], lr=0.1), rho=letsam.LearnedRadius(0.05))
        >>> def loss_on(x):
        ...     loss = (weight * x).sin().sum()
        ...     loss.backward()
        ...     return loss
        >>> for _ in range(3):
        ...     loss = opt.step(lambda: loss_on(1.0), lambda: loss_on(2.0))
        >>> bool(opt.rho != 0.05)
        True

    Reference:
        arXiv:2408.08222, equations (4) to (8); `LearnedRadius.paper` is the method of the paper. See docs/evidence.md.
    """

    learns = True
    fixed_parts = ("objective", "hypergradient", "rule", "per", "until")

    def __init__(
        self,
        rho: float,
        *,
        objective: Objective | None = None,
        hypergradient: Hypergradient | None = None,
        rule: Rule | None = None,
        per: str = "all",
        interval: int | None = None,
        until: int | None = None,
    ) -> None:
        self.objective = checks.part("objective", objective, Objective, ValidationLoss)
        self.hypergradient = checks.part("hypergradient", hypergradient, Hypergradient, Secant)
        self.rule = checks.part("rule", rule, Rule, LogAdam)
        self.per = checks.choice("per", per, PER)
        self.until = None if until is None else checks.whole("until", until, 1)
        self._times = UpdateTimes(None, self.rule.burn_in, self.objective.training_batch == "next", self.until)
        self.interval = interval
        super().__init__(self.rule.checked_start(rho))
        self.rule.start(self.rho)
        self._start, self._used = float(self.rho), self.rho  # the latter: of the last step, finite or not
        self._proposed: Tensor | None = None
        self._new_reach = self.reach  # of the last ascent; kept if its step is finite
        self._zero = torch.zeros_like(self.rho)
        self._overflow: Tensor | None = None  # whether this step failed because of its perturbation
        self._last = LastUpdate()

    @classmethod
    def paper(cls, rho: float, **options: Any) -> LearnedRadius:
        """The paper's method: squared gap on the same batch, diagonal curvature, no projection and no prior.

        Args:
            rho: initial radius, > 0.
            **options: `interval` (1), `per`, `until`; `lr` (0.02), `follow_lr` (False) and `bounds` as for `LogAdam`.

        Returns:
            A `LearnedRadius` with these parts.

        Raises:
            ValueError, TypeError: an argument out of range, of the wrong type, or one that would change the method.

        Example:
            >>> LearnedRadius.paper(0.05).objective
            SquaredGap(training_batch='same')

        Reference:
            arXiv:2408.08222, algorithm 1.
        """
        own: Any = {"interval": 1} | {k: options.pop(k) for k in ("interval", "per", "until") if k in options}
        options = {"lr": 0.02, "follow_lr": False} | options
        rule = LogAdam(prior=None, normalize=False, burn_in=0, guard=None, **options)
        diagonal = Diagonal(length_invariant=False)
        return cls(rho, objective=SquaredGap(training_batch="same"), hypergradient=diagonal, rule=rule, **own)

    @property
    def interval(self) -> int | None:
        """Steps from one update to the next; None: see the class."""
        return self._times.given

    @interval.setter
    def interval(self, value: int | None) -> None:
        self._times.given = value if value is None else checks.whole("interval", value, 1)

    def attach(self, param_groups: list[dict[str, Any]], ascends: Callable[[int], bool]) -> None:
        """Add a radius for every new group or layer; note which steps climb, since only these have a Z."""
        self._times.ascends = ascends
        if self.per == "all":
            return
        self.blocks.place(param_groups)
        count = self.blocks.count
        if self.rho.shape == (count,):
            return
        self.rho = self._used = grown(self.rho, count, self._start)
        self.rule.grow(count, self._start)
        self._last.grow(count)

    def to(self, device: torch.device, dtype: torch.dtype) -> None:
        """Move the radius and its rule to the device and dtype of the weights."""
        super().to(device, dtype)
        self.rule.to(device, dtype)
        self._new_reach = self.reach
        self._zero = self._zero.to(device=device, dtype=dtype)

    def wants(self, step: int) -> Wants:
        """A validation pass if an update is due, and Z in the step before it ("next") or in the same step ("same")."""
        same = self.objective.training_batch == "same"
        updates = self._times.due(step)
        tangent = updates if same else self._times.due(step + 1)
        return Wants(
            first_pass=tangent or (updates and not same),
            tangent=tangent,
            validation=None if not updates else "after" if same else "before",
            calibrates=self.objective.calibrates,
            label_noise=self.rule.label_noise if self.objective.matches_labels and updates else None,
            training_slope=self.objective.uses_training_slope,
            reach=self.rule.uses_reach and (tangent or step < self.rule.burn_in),
            growth=self.rule.measures(step),
        )

    def update(self, evidence: Evidence) -> None:
        """Use the measurements of an ascent, the losses and slopes of the upper level, or that a step has failed."""
        if evidence.overflow is not None:
            self._overflow = evidence.overflow
        if evidence.reach is not None:
            self._see_ascent(evidence)
        if evidence.validation_loss is not None:
            self._see_losses(evidence)

    def at(self, ascent: Ascent) -> Tensor:
        """The radius of this step, after its update if one is due."""
        rho, step = self.rho if self._proposed is None else self._proposed, ascent.step
        if 0 < step < self.rule.burn_in:  # the first step uses the initial radius as given
            updates = self.objective.training_batch == "next" and self._times.due(step)
            rho = self._proposed = self.rule.limit(rho, step, self.reach, updates)
        self._used = rho
        return self.blocks.spread(rho)

    def commit(self, finite: Tensor) -> None:
        """Keep the proposed radius if the whole step was finite; halve the old one if the perturbation made it fail."""
        known = self.rho if self._overflow is None else self.rule.shrink(self.rho, self._overflow)
        self.rho = known if self._proposed is None else torch.where(finite, self._proposed, known)
        self._last.commit(finite)
        if self._new_reach is not self.reach:
            self.reach = torch.where(finite, self._new_reach, self.reach)
        self.rule.commit(finite)
        self._forget()

    def discard(self) -> None:
        """Forget the proposed radius: a closure raised."""
        self.rule.discard()
        self._forget()

    def _forget(self) -> None:
        self._proposed = self._overflow = None
        self._new_reach, self._last.seen = self.reach, {}

    def _see_ascent(self, evidence: Evidence) -> None:
        assert evidence.reach is not None
        self._new_reach = evidence.reach
        if evidence.growth is not None:
            assert evidence.training_loss is not None and evidence.climbs is not None  # noqa: PT018
            rho = self._used if self._used.ndim == 0 else self._used.mean()
            distance = torch.where(evidence.climbs, rho * self._new_reach, self._zero)
            self.rule.observe(evidence.training_loss, distance, evidence.growth)

    def _see_losses(self, evidence: Evidence) -> None:
        """Propose a new radius; `commit` decides whether it is kept."""
        self._last.seen = evidence.losses()
        if evidence.validation_slope is None or evidence.usable is None:
            self._last.seen["hypergradient"] = torch.zeros_like(self.rho)
            return
        rho = self.rho if self._proposed is None else self._proposed
        hypergradient, slope = self.objective.slopes(evidence, None if self.rule.normalize else rho.reciprocal())
        self._last.seen["hypergradient"] = torch.where(evidence.usable, hypergradient.to(self.rho.dtype), self._zero)
        step, share = evidence.step, learning_rate_share(evidence.lr, evidence.peak_lr)
        losses = evidence.training_loss, evidence.validation_loss, evidence.gain, self.objective.calibrates
        update = Update(step, self._times.steps(step), share, self._new_reach, evidence.usable, *losses)
        self._proposed = self.rule.propose(rho, slope.to(self.rho.dtype), update)

    def metrics(self) -> dict[str, Tensor]:
        """The radii and, from the first update on, the measurements of the last update."""
        return {"rho": self._used} | self._last.metrics()

    def state_dict(self) -> dict[str, Any]:
        """The radii, the state of the rule, and what `metrics` reports."""
        own = {"reach": self.reach.clone(), "reported": self._last.state_dict()}
        return super().state_dict() | self.rule.state_dict() | own

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state that `state_dict` returned."""
        checks.saved("rho", state["rho"], self.rho.shape, above=0.0)
        super().load_state_dict(state)
        self.rule.load_state_dict(state)
        self.reach = checks.saved("reach", state["reach"], lowest=0.0).to(self.reach, copy=True)
        self._last.load_state_dict(state["reported"], self.rho.device)
        self._forget()
