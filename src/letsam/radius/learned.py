"""LETS: a radius that is learned by bilevel optimization while the network trains.

Wang, Jiang, Fu, Zhang, "Enhancing Sharpness-Aware Minimization by Learning Perturbation Radius", ECML PKDD 2024,
arXiv:2408.08222.

The lower level is the step of the optimizer on a training batch, theta'(rho) = theta - lr P g_rho. The upper level
moves rho so that an objective at theta'(rho) falls. A learned radius has three parts:

    objective         what falls: the validation loss, or the paper's squared gap (`ValidationLoss`, `SquaredGap`)
    hypergradient     how H_rho eps_hat in Z = d theta' / d rho = -lr P H_rho eps_hat is estimated (`Secant`, ...)
    rule              how the slope d upper / d log(rho) moves rho (`LogAdam`, with its `Prior`)

The step builds Z (`letsam.tangent`) and gives the radius numbers alone: losses, and the slopes of the losses along Z.
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
from .log_adam import LogAdam
from .objective import Objective
from .rule import Rule, Update
from .scheduled import learning_rate_share
from .squared_gap import SquaredGap
from .timing import UpdateTimes
from .validation_loss import ValidationLoss

PAPER: dict[str, Any] = {"lr": 0.02, "follow_lr": False}  # unless given


class LearnedRadius(Radius):
    """rho <- rule(rho, slope), slope = d objective(theta'(rho)) / d log(rho), by the hypergradient.

    The defaults were chosen on the suite and are measured there against grids of fixed radii (docs/evidence.md). What
    else was tried, and where it is better, is in docs/search.md.

    Args:
        rho: starting radius, > 0, within the bounds of the rule, in units of the weights (ASAM: relative to them).
        objective: what the upper level makes small; None: `ValidationLoss()`.
        hypergradient: estimator of the curvature term; None: `Secant()`, which needs no further pass.
        rule: how a slope moves the radius; None: `LogAdam()`.
        per: "all": one radius for all weights. "group", "layer": one for each param group, or for each weight tensor
            (which LARS and LAMB call a layer). No further passes: the dot products of each block are used, as if no
            block's radius changed the gradients of another block's weights (see docs/how-to/radii.md). Each radius has
            its own Adam, the prior draws each to where it would draw one radius for all, and the bounds hold for each.
            `opt.rho`, `metrics["rho"]` and `metrics["hypergradient"]` then have one value for each.
        interval: an update every `interval` steps, >= 1; None: every step of the rule's burn-in, then every 4th.

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
        arXiv:2408.08222, equations (4) to (8); `LearnedRadius.paper` is its reading.
    """

    learns = True

    def __init__(
        self,
        rho: float,
        *,
        objective: Objective | None = None,
        hypergradient: Hypergradient | None = None,
        rule: Rule | None = None,
        per: str = "all",
        interval: int | None = None,
    ) -> None:
        self.objective = checks.part("objective", objective, Objective, ValidationLoss)
        self.hypergradient = checks.part("hypergradient", hypergradient, Hypergradient, Secant)
        self.rule = checks.part("rule", rule, Rule, LogAdam)
        self.per = checks.choice("per", per, PER)
        self.interval = interval if interval is None else checks.whole("interval", interval, 1)
        super().__init__(self.rule.checked_start(rho))
        self.rule.start(self.rho)
        self._times = UpdateTimes(self.interval, self.rule.burn_in, self.objective.training_batch == "next")
        self._start = float(self.rho)
        self._used = self.rho  # in the step, before it is known whether that is finite
        self._proposed: Tensor | None = None
        self._reach = self._new_reach = torch.ones_like(self.rho)  # of eps_hat; adopted at the end of a step
        self._zero = torch.zeros_like(self.rho)
        self._seen: dict[str, Tensor] = {}  # by the update of this step
        self._reported: dict[str, Tensor] = {}  # by the last update that counts

    @classmethod
    def paper(cls, rho: float, **options: Any) -> LearnedRadius:
        """The paper's reading: squared gap on the same batch, diagonal curvature, no projection and no prior.

        Args:
            rho: starting radius, > 0.
            **options: `interval` (1 unless given) and `per` as for `LearnedRadius`; `lr` (0.02), `follow_lr` (False)
                and `bounds` as for `LogAdam`.

        Returns:
            A `LearnedRadius` of those parts.

        Raises:
            ValueError: an argument out of range.
            TypeError: an argument of the wrong type, or one that would make it another method.

        Example:
            >>> LearnedRadius.paper(0.05).objective
            SquaredGap(training_batch='same')

        Reference:
            arXiv:2408.08222, algorithm 1.
        """
        own: dict[str, Any] = {"interval": 1} | {
            name: options.pop(name) for name in ("interval", "per") if name in options
        }
        return cls(
            rho,
            objective=SquaredGap(training_batch="same"),
            hypergradient=Diagonal(length_invariant=False),
            rule=LogAdam(prior=None, normalize=False, burn_in=0, **PAPER | options),
            **own,
        )

    def attach(self, param_groups: list[dict[str, Any]], ascends: Callable[[int], bool]) -> None:
        """Make a radius for every group or layer that is new; only a step that climbs has a Z."""
        self._times.ascends = ascends
        if self.per == "all":
            return
        self.blocks.place(param_groups)
        count = self.blocks.count
        if self.rho.shape == (count,):
            return
        self.rho = self._used = grown(self.rho, count, self._start)
        self.rule.grow(count, self._start)
        if self._reported:
            self._reported["hypergradient"] = grown(self._reported["hypergradient"], count, 0.0)

    def to(self, device: torch.device, dtype: torch.dtype) -> None:
        """Move the radius and its rule to where the weights are."""
        super().to(device, dtype)
        self.rule.to(device, dtype)
        self._reach = self._new_reach = self._reach.to(device=device, dtype=dtype)
        self._zero = self._zero.to(device=device, dtype=dtype)

    def wants(self, step: int) -> Wants:
        """A validation pass where an update is due, and Z in the step before it (or in that step itself)."""
        same = self.objective.training_batch == "same"
        updates = self._times.due(step)
        tangent = updates if same else self._times.due(step + 1)
        return Wants(
            first_pass=tangent or (updates and not same),
            tangent=tangent,
            validation=None if not updates else "after" if same else "before",
            training_slope=self.objective.uses_training_slope,
            reach=self.rule.uses_reach and (tangent or step < self.rule.burn_in),
            growth=self.rule.measures(step),
        )

    def update(self, evidence: Evidence) -> None:
        """Take in an ascent, or the losses and slopes of the upper level: scalars only."""
        if evidence.reach is not None:
            self._see_ascent(evidence)
        if evidence.validation_loss is not None:
            self._see_losses(evidence)

    def at(self, ascent: Ascent) -> Tensor:
        """The radius of this step, after its update if there is one."""
        rho, step = self.rho if self._proposed is None else self._proposed, ascent.step
        if 0 < step < self.rule.burn_in:  # the first step takes the starting radius as given
            updates = self.objective.training_batch == "next" and self._times.due(step)
            rho = self._proposed = self.rule.limit(rho, step, self._reach, updates)
        self._used = rho
        return self.blocks.spread(rho)

    def commit(self, finite: Tensor) -> None:
        """Adopt the proposed radius where the whole step was finite."""
        if self._proposed is not None:
            self.rho = torch.where(finite, self._proposed, self.rho)
        if self._seen:  # this step has updated the radius
            self._reported = {n: torch.where(finite, x, self._reported.get(n, x)) for n, x in self._seen.items()}
        if self._new_reach is not self._reach:
            self._reach = torch.where(finite, self._new_reach, self._reach)
        self.rule.commit(finite)
        self._forget()

    def discard(self) -> None:
        """Forget the proposed radius: a closure raised."""
        self.rule.discard()
        self._forget()

    def _forget(self) -> None:
        self._proposed, self._new_reach, self._seen = None, self._reach, {}

    def _see_ascent(self, evidence: Evidence) -> None:
        assert evidence.reach is not None and evidence.climbs is not None  # noqa: PT018
        self._new_reach = torch.where(evidence.climbs, evidence.reach.to(self.rho.dtype), self._reach)
        if evidence.growth is not None:
            assert evidence.training_loss is not None
            rho = self._used if self._used.ndim == 0 else self._used.mean()
            distance = torch.where(evidence.climbs, rho * self._new_reach, self._zero)
            self.rule.observe(evidence.training_loss, distance, evidence.growth)

    def _see_losses(self, evidence: Evidence) -> None:
        """One update of the radius, proposed: `commit` decides."""
        self._seen = evidence.losses()
        if evidence.validation_slope is None or evidence.usable is None:
            self._seen["hypergradient"] = torch.zeros_like(self.rho)
            return
        scale = None if self.rule.normalize else self.rho.reciprocal()
        hypergradient, slope = self.objective.slopes(evidence, scale)
        self._seen["hypergradient"] = torch.where(evidence.usable, hypergradient.to(self.rho.dtype), self._zero)
        step, share = evidence.step, learning_rate_share(evidence.lr, evidence.peak_lr)
        update = Update(step, self._times.steps(step), share, self._new_reach, evidence.usable)
        self._proposed = self.rule.propose(self.rho, slope.to(self.rho.dtype), update)

    def metrics(self) -> dict[str, Tensor]:
        """The radii and, from the first update on, what the last one saw."""
        if not self._reported:
            return {"rho": self._used}
        seen = {name: self._reported[name] for name in ("validation_loss", "hypergradient")}
        gap = self._reported["validation_loss"] - self._reported["training_loss"]
        return {"rho": self._used, "generalization_gap": gap, **seen}

    def state_dict(self) -> dict[str, Any]:
        """rho, its rule, and what `metrics` reports."""
        state = super().state_dict() | self.rule.state_dict()
        state["reach"] = self._reach.clone()
        state["reported"] = {name: value.clone() for name, value in self._reported.items()}
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        super().load_state_dict(state)
        self.rule.load_state_dict(state)
        self._reach = torch.as_tensor(state["reach"]).to(self._reach, copy=True)
        self._reported = {name: torch.as_tensor(value).to(self.rho.device) for name, value in state["reported"].items()}
        self._forget()
