"""LETS: a radius that is learned by bilevel optimization while the network trains.

Wang, Jiang, Fu, Zhang, "Enhancing Sharpness-Aware Minimization by Learning Perturbation Radius", ECML PKDD 2024,
arXiv:2408.08222.

The lower level is the step of the optimizer on a training batch, theta'(rho) = theta - lr P g_rho. The upper level
moves rho so that an objective at theta'(rho) falls. With Z = d theta' / d rho = -lr P H_rho eps_hat,

    gap = L_vl(theta') - L_tr(theta')
    squared_gap:      d upper / d rho = gap * (grad L_vl(theta') - grad L_tr(theta')) . Z
    validation_loss:  d upper / d rho = grad L_vl(theta') . Z

rho = exp(nu) stays positive; nu is moved by Adam, and by a prior (`letsam.radius.log_radius`).

With `training_batch="next"` the training loss at theta' is that of the next step's first pass, which runs at exactly
theta'. So the only further pass is the validation pass, made before it at the same weights:

    step t      Z_t = ...                                       one buffer, kept until the next step
    step t+1    validation pass -> L_vl, grad L_vl . Z_t
                first training pass -> L_tr, grad L_tr . Z_t    -> rho_(t+1), used by this very step
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from .. import checks
from ..hypergradient import HYPERGRADIENTS, Hypergradient
from ..perturbations.units import Reach
from ..tangent.blocks import PER, Blocks, grown
from ..tangent.tangent import StepDerivative
from ..tensors import Buffers, Tensors, gradients_of, norm
from .base import Ascent, Derivative, Evaluate, Radius
from .log_radius import LogRadius
from .scheduled import learning_rate_share

OBJECTIVES = ("squared_gap", "validation_loss")
TRAINING_BATCHES = ("next", "same")
INTERVAL = 4  # steps from one update to the next after the burn-in: 2 1/4 passes a step
REPORTED = ("validation_loss", "training_loss", "hypergradient")


class LearnedRadius(Radius):
    """rho = exp(nu), nu <- nu - rate * (Adam(slope) + pull of the prior).

    The slope along nu is the cosine between the gradient of the upper level and Z (with the squared gap: the gap times
    the difference of two), or rho * d upper / d rho.

    The defaults were chosen on the suite, and are measured there against grids of fixed radii (docs/evidence.md); what
    else was tried, and where it is better, is told in docs/search.md.

    Args:
        rho: starting radius, > 0, within `bounds`, in units of the weights (ASAM: relative to them).
        objective: "validation_loss", or the paper's "squared_gap" (validation minus training loss, squared and halved).
        hypergradient: how H_rho eps_hat is estimated: "secant" (no further pass), "finite_difference" (one
            further training pass), "diagonal" (the paper's), or a `letsam.hypergradient.Hypergradient` object.
        training_batch: where the training loss at the new weights is measured: on the "next" batch (no further pass) or
            on the "same" (one further training pass, the paper's reading).
        length_invariant: project H_rho eps_hat on the complement of g_rho. A larger rho makes g_rho longer; without
            the projection a longer step may be mistaken for a flatter minimum.
        interval: an upper-level update every `interval` steps, >= 1; None: every step of the burn-in, every 4th then.
        lr: rate of nu per step, > 0: about how far log(rho) moves where the slopes agree; in the burn-in, and where the
            prior pulls the same way, up to three times as far. An update for k steps moves k times as far.
        follow_lr: multiply the rate of nu by (base learning rate / its peak), so that both decay together.
        bounds: (lowest, highest) rho, 0 < lowest < highest.
        normalize: divide the slopes by the lengths of both vectors. They then count equally from the first step to the
            last, while the hypergradient itself fades with the loss; False: Adam sees rho * d upper / d rho.
        prior: how far the perturbation reaches unless the evidence is against it, > 0, in units of the weights; None
            for no prior. For SAM it is a radius, for ASAM rho ||T g|| / ||g|| (see `Perturbation.reach`).
        prior_weight: pull of the prior, >= 0, beside Adam's term, mostly within -1 and 1; one number, or two: of a
            radius that is too small, and of one that is too large. The slopes of single steps speak for ever smaller
            radii in the first part of almost every run, so the first is the larger.
        prior_rise: > 0, limits the prior where the loss is curved: with R the share of itself by which the loss, over
            the prior, rises beyond what its gradient says, as measured in the first 25 steps, the prior is multiplied
            by min(1, `prior_rise` / R)^2 (see `letsam.radius.log_radius`). None for no such limit, such as for a loss
            whose 0 means nothing, or where the second pass sees other samples than the first (`letsam.selected`); in
            m-sharpness across processes there is none.
        burn_in: steps, >= 0, at the beginning in which the start is forgotten and training begins, which it often does
            not under a large radius: the prior rises in a line, from a tenth of itself to the whole; nu moves up to
            twice as fast and the prior pulls down up to 3.6 times as hard; the perturbation, but for the first step's,
            may reach as far as the prior and ever farther, up to 7 times at the end. Without an update, the prior
            that limits a step is the whole one, so that the radius moves at updates alone unless it is far too large.
        per: "all": one radius for all weights; "group", "layer": one for each param group, or for each weight tensor,
            which is what LARS and LAMB call a layer. No further passes: the dot products of each block are used, as if
            no block's radius changed the gradients of another one's weights (see `docs/how-to/radii.md`). Each radius
            has its own Adam; `prior` draws each to where one radius for all would be drawn, `bounds` hold for each.
            `rho` of the optimizer, `metrics["rho"]` and `metrics["hypergradient"]` then have one value for each.

    Raises:
        ValueError: an argument out of range.
        TypeError: an argument of the wrong type.

    Example:
        >>> import torch, letsam
        >>> _ = torch.manual_seed(0)
        >>> model = torch.nn.Linear(2, 1)
        >>> opt = letsam.SAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=letsam.LearnedRadius(0.05))
        >>> def loss_on(x):
        ...     opt.zero_grad()
        ...     loss = model(x).square().mean()
        ...     loss.backward()
        ...     return loss
        >>> for _ in range(3):
        ...     loss = opt.step(lambda: loss_on(torch.ones(4, 2)), lambda: loss_on(torch.eye(2)))
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
        objective: str = "validation_loss",
        hypergradient: str | Hypergradient = "secant",
        training_batch: str = "next",
        length_invariant: bool = True,
        interval: int | None = None,
        lr: float = 0.05,
        follow_lr: bool = True,
        bounds: tuple[float, float] = (1e-4, 10.0),
        normalize: bool = True,
        prior: float | None = 0.2,
        prior_weight: float | tuple[float, float] = (0.7, 0.1),
        prior_rise: float | None = 0.2,
        burn_in: int = 100,
        per: str = "all",
    ) -> None:
        self.objective = checks.choice("objective", objective, OBJECTIVES)
        if not isinstance(hypergradient, Hypergradient):
            hypergradient = HYPERGRADIENTS[checks.choice("hypergradient", hypergradient, tuple(HYPERGRADIENTS))]()
        self.hypergradient = hypergradient
        self.training_batch = checks.choice("training_batch", training_batch, TRAINING_BATCHES)
        self.length_invariant = checks.flag("length_invariant", length_invariant)
        self.interval = interval if interval is None else checks.whole("interval", interval, 1)
        self.lr = checks.positive("lr", lr)
        self.follow_lr = checks.flag("follow_lr", follow_lr)
        self.bounds = _bounds(bounds)
        self.normalize = checks.flag("normalize", normalize)
        self.prior = prior if prior is None else checks.positive("prior", prior)
        self.prior_weight = _weights(prior_weight)
        self.prior_rise = prior_rise if prior_rise is None else checks.positive("prior_rise", prior_rise)
        self.burn_in = checks.whole("burn_in", burn_in, 0)
        super().__init__(_within(self.bounds, checks.positive("rho", rho)))
        self._nu = LogRadius(float(self.rho), self.bounds, self.prior, self.prior_weight, self.burn_in, self.prior_rise)
        self._proposed: Tensor | None = None
        self._reach = self._new_reach = torch.ones_like(self.rho)  # of eps_hat; adopted at the end of a step
        self._commits = 0  # of this step: a step that looks back has two
        self._start = float(self.rho)
        self._used = self.rho  # in the step, before it is known whether that is finite
        self.per = checks.choice("per", per, PER)
        self._blocks = Blocks(self.per)
        self._derivative = StepDerivative(self.hypergradient, self.length_invariant, self._blocks)
        self._zero = torch.zeros_like(self.rho)
        self._usable = torch.zeros((), dtype=torch.bool)  # whether the step that Z is of was finite
        self._ascends: Callable[[int], bool] = _always
        self._parts = 1
        self._climbs: Tensor | None = None  # of this step: False where the perturbation is 0 by its own decision
        self._before: tuple[Tensor, Tensor] | None = None  # (L, ||g_0||) of this step where the curvature is measured
        self._step = 0
        self._rate: float | Tensor = self.lr
        self._measured: dict[str, Tensor] = {}
        self._reported: dict[str, Tensor] = {}  # the part of it that `metrics` repeats until the next update

    @classmethod
    def paper(cls, rho: float, **options: Any) -> LearnedRadius:
        """The paper's reading: squared gap, diagonal curvature, training loss on the same batch, nothing projected.

        Args:
            rho: starting radius, > 0.
            **options: `interval`, `lr`, `follow_lr` (here False unless given), `bounds` or `per` as for
                `LearnedRadius`.

        Returns:
            A `LearnedRadius` with those settings.

        Raises:
            TypeError: an option that would make it another method.

        Example:
            >>> LearnedRadius.paper(0.05).training_batch
            'same'

        Reference:
            arXiv:2408.08222, algorithm 1.
        """
        reading: dict[str, Any] = {
            "objective": "squared_gap",
            "hypergradient": "diagonal",
            "training_batch": "same",
            "length_invariant": False,
            "normalize": False,
            "prior": None,
            "prior_weight": 0.0,
            "prior_rise": None,
            "burn_in": 0,
        }
        if fixed := sorted(reading.keys() & options.keys()):
            raise TypeError(f"`{fixed[0]}` is part of the paper's reading, got {checks.shown(options[fixed[0]])}")
        settings: dict[str, Any] = {"follow_lr": False, "interval": 1, "lr": 0.02, **reading, **options}
        return cls(rho, **settings)

    # --- what the optimizer calls, in the order of a step ---------------------------------------------------------

    def attach(self, param_groups: list[dict[str, Any]], ascends: Callable[[int], bool]) -> None:
        """Make a radius for every group or layer that is new; only a step that climbs has a Z."""
        self._ascends = ascends
        if self.per == "all":
            return
        self._blocks.place(param_groups)
        count = self._blocks.count
        if self.rho.shape == (count,):
            return
        self.rho = self._used = grown(self.rho, count, self._start)
        self._nu.grow(count, self._start)
        if self._reported:
            self._reported["hypergradient"] = grown(self._reported["hypergradient"], count, 0.0)

    def to(self, device: torch.device, dtype: torch.dtype) -> None:
        """Move the radius and its optimizer to where the weights are."""
        super().to(device, dtype)
        self._nu.to(device, dtype)
        self._reach = self._new_reach = self._reach.to(device=device, dtype=dtype)
        self._usable = self._usable.to(device)
        self._zero = self._zero.to(device=device, dtype=dtype)

    def reads_ascent(self, step: int) -> bool:
        """Where the training loss completes an update, and where the curvature will be wanted."""
        self._step = step
        return self.validates_before(step) or self._wants_curvature

    def validates_before(self, step: int) -> bool:
        """At every `interval`-th step when the training loss comes from the next batch."""
        return self.training_batch == "next" and self._updates_at(step)

    def validates_after(self, step: int) -> bool:
        """At every `interval`-th step when the training loss comes from the same batch."""
        return self.training_batch == "same" and self._updates_at(step)

    def see_validation(self, loss: Tensor, params: Tensors, scratch: Buffers | None) -> list[Tensor]:
        """Keep L_vl and grad L_vl . Z: scalars only."""
        self._measured |= {"validation_loss": loss}
        length = self._measure("validation_slope", params, scratch)
        if self.training_batch == "same":
            room = self._room(True)
            self._update(room, self._nu.highest(room, self._step))
        return [loss, length]

    def see_training(self, loss: Tensor, params: Tensors) -> list[Tensor]:
        """Keep L_tr(theta') and grad L_tr . Z of the same batch."""
        self._measured |= {"training_loss": loss}
        if self.objective == "validation_loss":
            return [loss, norm(gradients_of(params))]
        return [loss, self._measure("training_slope", params, None)]

    def at(self, ascent: Ascent) -> Tensor:
        """The radius of this step, after the update that this step's first pass completes."""
        self._step, self._commits, self._climbs = ascent.step, 0, None
        self._derivative.average, self._parts = ascent.average, ascent.parts
        self._rate = self.lr * learning_rate_share(ascent) if self.follow_lr else self.lr
        self._before = None
        if self._nu.measures(ascent.step) and ascent.loss is not None and ascent.average is None:
            whole = norm(gradients_of(ascent.params)) if ascent.whole_norm is None else ascent.whole_norm
            self._before = ascent.loss, whole
        updates = self.validates_before(ascent.step)
        room = self._room(updates) if updates or ascent.step < self.burn_in else None
        highest = self._nu.highest(room, ascent.step)
        if updates:
            assert ascent.loss is not None
            self._measured |= {"training_loss": ascent.loss}
            if self.objective == "squared_gap":
                self._measure("training_slope", ascent.params, ascent.scratch)
            self._update(room, highest)
        self._derivative.carries = False
        if self._wants_curvature:
            self._derivative.begin(ascent.params)
        rho = self.rho if self._proposed is None else self._proposed
        if 0 < ascent.step < self.burn_in:  # the first step takes the start as it is given
            rho = self._proposed = rho.clamp(max=highest.exp() if isinstance(highest, Tensor) else self.bounds[1])
        self._used = rho
        return self._blocks.spread(rho)

    def see_direction(self, params: Tensors, factor: Tensor, reach: Reach) -> None:
        """Measure how far eps_hat reaches, and hold it for the estimators that need it."""
        climbs, first = factor != 0, self._climbs is None
        self._climbs = climbs if self._climbs is None else self._climbs | climbs
        if self.prior is not None and (self._wants_curvature or self._step < self.burn_in or self._before is not None):
            found = torch.where(climbs, reach().to(self.rho.dtype), self._reach)
            self._derivative.agree_on([found])
            if self._parts > 1:
                found = found / self._parts if first else self._new_reach + found / self._parts
            self._new_reach = found
        if self._wants_curvature:
            self._derivative.climb(params, factor, self._parts)

    def probe(self, params: Tensors, weights: Tensors, rho: Tensor, evaluate: Evaluate) -> None:
        """One training pass at rho + h for the estimators that probe."""
        if self._wants_curvature:
            self._derivative.probe(params, weights, rho, evaluate)

    def reads_growth(self, step: int) -> bool:
        """In the first steps, which measure how curved the loss is."""
        return self._before is not None

    def see_growth(self, gradient_norm: Tensor) -> None:
        """Compare ||g_rho|| with ||g_0||, for the prior."""
        assert self._before is not None
        assert self._climbs is not None
        loss, length = self._before
        rho = self._used if self._used.ndim == 0 else self._used.mean()
        distance = torch.where(self._climbs, rho * self._new_reach, self._zero)
        self._nu.see_curvature(loss, distance, gradient_norm - length)

    def see_perturbed_gradient(self, params: Tensors, rho: Tensor, derivative: Derivative) -> None:
        """The derivative of g_rho, and with it that of the gradient that descends."""
        if self._wants_curvature:
            self._derivative.differentiate(params, rho, derivative)

    def see_descent_gradient(self, params: Tensors, beside: Tensors | None, weights: Buffers) -> None:
        """Project that, if asked for: on the complement of all that the step descends with."""
        if self._wants_curvature:
            self._derivative.project(params, beside, weights)

    def see_clipping(self, params: Tensors, factor: Tensor, slope: Tensor, weights: Buffers) -> None:
        """The derivative of the clipped gradient: changes of its length no longer count."""
        if self._wants_curvature:
            self._derivative.clip(params, factor, slope, weights)

    def see_base_step(self, base: Optimizer, params: Tensors, weights: Tensors, fresh: set[Tensor]) -> None:
        """The derivative of the new weights, Z: the base optimizer's own update enters."""
        if self._wants_curvature:
            self._derivative.step(base, params, weights, fresh)

    def commit(self, finite: Tensor) -> None:
        """Adopt the proposed radius where the whole step was finite."""
        if self._proposed is not None:
            self.rho = torch.where(finite, self._proposed, self.rho)
        self._proposed = None
        self._derivative.end()
        self._usable = finite if self._climbs is None else finite & self._climbs
        if "hypergradient" in self._measured:  # this step has updated the radius
            seen = {name: self._measured[name] for name in REPORTED}
            self._reported = {name: torch.where(finite, x, self._reported.get(name, x)) for name, x in seen.items()}
            self._measured = {}
        self._commits += 1
        if self._commits == 2 or not self.validates_after(self._step):
            self._nu.commit(finite)
            self._reach = self._new_reach = torch.where(finite, self._new_reach, self._reach)

    def discard(self) -> None:
        """Forget the proposed radius: a closure raised. The Z of the step before lives on unless `at` has used it."""
        self._nu.discard()
        self._proposed, self._new_reach = None, self._reach
        self._measured = {}
        self._derivative.end()

    def metrics(self) -> dict[str, Tensor]:
        """The radii and, from the first upper-level update on, what the last one saw."""
        used = {"rho": self._used}
        if not self._reported:
            return used
        gap = self._reported["validation_loss"] - self._reported["training_loss"]
        return used | {
            "validation_loss": self._reported["validation_loss"],
            "generalization_gap": gap,
            "hypergradient": self._reported["hypergradient"],
        }

    def state_dict(self) -> dict[str, Any]:
        """rho, its optimizer and, where the next step still needs it, Z."""
        state = super().state_dict() | self._nu.state_dict()
        state["reach"] = self._reach.clone()
        state["reported"] = {name: value.clone() for name, value in self._reported.items()}
        if self._derivative.carries and self.training_batch == "next":
            state |= {"usable": self._usable.clone(), "Z": self._derivative.state_dict()}
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        super().load_state_dict(state)
        self._nu.load_state_dict(state)
        self._reach = self._new_reach = torch.as_tensor(state["reach"]).to(self._reach, copy=True)
        self._proposed = None
        self._reported = {name: torch.as_tensor(value).to(self.rho.device) for name, value in state["reported"].items()}
        self._measured = {}
        self._derivative.load_state_dict(state.get("Z", {}))
        if self._derivative.carries:
            self._usable = torch.as_tensor(state["usable"]).to(self._usable.device, copy=True)

    # --- the upper level ------------------------------------------------------------------------------------------

    def _interval_at(self, step: int) -> int:
        if self.interval is None:
            return 1 if step < self.burn_in else INTERVAL
        return self.interval

    def _updates_at(self, step: int) -> bool:
        """Every `interval`-th step; where only some steps climb, such an update waits for the next that has a Z."""
        since = self._since(step)
        return any((due + 1) % self._interval_at(due) == 0 for due in range(step - since + 1, step + 1))

    def _since(self, step: int) -> int:
        """How many steps ago there was a Z to update with, before the one there is at `step`; 0 if there is none."""
        late = int(self.training_batch == "next")
        if not self._ascends(step - late):
            return 0
        earlier = step - 1
        while earlier >= 0 and not self._ascends(earlier - late):
            earlier -= 1
        return step - earlier

    @property
    def _wants_curvature(self) -> bool:
        """Whether this step's Z will be used: by the next step, or at the end of this one."""
        return self._updates_at(self._step + 1 if self.training_batch == "next" else self._step)

    def _measure(self, name: str, params: Tensors, scratch: Buffers | None) -> Tensor:
        """Keep the gradients' dot product with Z, 0 where there is no Z that fits, and what to divide it by.

        Returns:
            The norm of the gradients.
        """
        slope, scale, length = self._derivative.slope(params, scratch)
        if slope is None:
            slope = torch.zeros_like(self.rho)
        elif not self.normalize:
            scale = self.rho.reciprocal()
        self._measured |= {name: slope, name + "_scale": scale.clamp(min=torch.finfo(scale.dtype).tiny)}
        return length

    def _room(self, updates: bool) -> Tensor | None:
        """See `LogRadius.room`; of the perturbation made last. Without an update only the whole prior counts."""
        return None if self.prior is None else self._nu.room(self._new_reach, self._step if updates else self.burn_in)

    def _update(self, room: Tensor | None, highest: Tensor | float) -> None:
        """One step of nu, up to the highest rho, proposed: `commit` decides."""
        measured = self._measured
        hypergradient = measured["validation_slope"]
        slope = hypergradient / measured["validation_slope_scale"]
        if self.objective == "squared_gap":
            gap = measured["validation_loss"] - measured["training_loss"]
            hypergradient = gap * (hypergradient - measured["training_slope"])
            slope = gap * (slope - measured["training_slope"] / measured["training_slope_scale"])
        measured["hypergradient"] = torch.where(self._usable, hypergradient.to(self.rho.dtype), self._zero)
        if not self._derivative.carries:
            return
        rate = self._rate * max(self._interval_at(self._step), self._since(self._step))
        slope = slope.to(self.rho.dtype)
        self._proposed = self._nu.propose(self.rho, slope, rate, room, highest, self._step, self._usable)


def _weights(weight: Any) -> tuple[float, float]:
    try:
        below, above = weight
    except TypeError:
        below = above = weight
    except ValueError as error:
        raise ValueError(
            f"`prior_weight` must be one number or two, (below, above), got {checks.shown(weight)}"
        ) from error
    return checks.not_negative("prior_weight", below), checks.not_negative("prior_weight", above)


def _always(step: int) -> bool:
    return True


def _bounds(bounds: Any) -> tuple[float, float]:
    try:
        low, high = bounds
    except (TypeError, ValueError) as error:
        raise TypeError(f"`bounds` must be a pair (lowest, highest), got {checks.shown(bounds)}") from error
    low, high = checks.positive("bounds", low), checks.positive("bounds", high)
    if not low < high:
        raise ValueError(f"`bounds` must be (lowest, highest) with lowest < highest, got ({low}, {high})")
    return low, high


def _within(bounds: tuple[float, float], rho: float) -> float:
    if not bounds[0] <= rho <= bounds[1]:
        raise ValueError(f"`rho` must be within `bounds` = {bounds}, got {rho}")
    return rho
