"""LETS: a radius that is learned by bilevel optimization while the network trains.

Wang, Jiang, Fu, Zhang, "Enhancing Sharpness-Aware Minimization by Learning Perturbation Radius", ECML PKDD 2024,
arXiv:2408.08222.

The lower level is the step of the optimizer on a training batch, theta'(rho) = theta - lr P g_rho. The upper level
moves rho so that an objective at theta'(rho) falls. With Z = d theta' / d rho = -lr P H_rho eps_hat,

    gap = L_vl(theta') - L_tr(theta')
    squared_gap:      d upper / d rho = gap * (grad L_vl(theta') - grad L_tr(theta')) . Z
    validation_loss:  d upper / d rho = grad L_vl(theta') . Z

rho = exp(nu) stays positive; nu is moved by Adam on rho * d upper / d rho.

With `training_batch="next"` the training loss at theta' is that of the next step's first pass, which runs at exactly
theta'. So the only further pass is the validation pass, made before it at the same weights:

    step t      Z_t = ...                                       one buffer, kept until the next step
    step t+1    validation pass -> L_vl, grad L_vl . Z_t
                first training pass -> L_tr, grad L_tr . Z_t    -> rho_(t+1), used by this very step
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from .. import _checks
from .._tensors import Buffers, Tensors, copy_, dot, norm, pass_is_finite, scale_
from ..hypergradient import HYPERGRADIENTS, Hypergradient
from ..hypergradient.update_derivative import apply_update_derivative
from .base import Ascent, Evaluate, Radius
from .scheduled import learning_rate_share

OBJECTIVES = ("squared_gap", "validation_loss")
TRAINING_BATCHES = ("next", "same")
BETAS = (0.9, 0.999)
EPSILON = 1e-16  # far below the hypergradients of a well-trained network, which fall with its loss


class LearnedRadius(Radius):
    """rho = exp(nu), nu <- nu - rate * Adam(rho * d upper / d rho).

    The defaults are the best form known. Evidence (docs/evidence.md, 3 seeds): with 40% label noise, refit, within 0.5
    points of the best of a grid of seven fixed radii on Fashion-MNIST and within 3 on digits, far above SGD and the
    paper's reading; on clean data 0.2 to 0.5 points below the best of the grid. Start at 0.1 or below: where SAM itself
    never starts training, neither does this.

    Args:
        rho: starting radius, > 0, within `bounds`, in units of the weights (ASAM: relative to them).
        objective: "validation_loss", or the paper's "squared_gap" (validation minus training loss, squared and halved).
        hypergradient: how H_rho eps_hat is estimated: "secant" (no further pass), "finite_difference" (one
            further training pass), "diagonal" (the paper's), or a `letsam.hypergradient.Hypergradient` object.
        training_batch: where the training loss at the new weights is measured: on the "next" batch (no further pass) or
            on the "same" (one further training pass, the paper's reading).
        length_invariant: project H_rho eps_hat on the complement of g_rho. A larger rho makes g_rho longer; without
            the projection a longer step is mistaken for a flatter minimum.
        interval: an upper-level update every `interval` steps, >= 1.
        lr: rate of nu, > 0: the most that log(rho) moves in one update, about.
        follow_lr: multiply the rate of nu by (base learning rate / its peak), so that both decay together.
        bounds: (lowest, highest) rho, 0 < lowest < highest.

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
        interval: int = 1,
        lr: float = 0.02,
        follow_lr: bool = True,
        bounds: tuple[float, float] = (1e-4, 10.0),
    ) -> None:
        self.objective = _checks.choice("objective", objective, OBJECTIVES)
        if not isinstance(hypergradient, Hypergradient):
            hypergradient = HYPERGRADIENTS[_checks.choice("hypergradient", hypergradient, tuple(HYPERGRADIENTS))]()
        self.hypergradient = hypergradient
        self.training_batch = _checks.choice("training_batch", training_batch, TRAINING_BATCHES)
        self.length_invariant = _checks.flag("length_invariant", length_invariant)
        self.interval = _checks.whole("interval", interval, 1)
        self.lr = _checks.positive("lr", lr)
        self.follow_lr = _checks.flag("follow_lr", follow_lr)
        self.bounds = _bounds(bounds)
        super().__init__(_within(self.bounds, _checks.positive("rho", rho)))
        self._moments = {name: torch.zeros_like(self.rho) for name in ("nu", "exp_avg", "exp_avg_sq", "updates")}
        self._moments["nu"] = self.rho.log()
        self._proposed: dict[str, Tensor] = {}
        self._buffers = Buffers()
        self._held: list[Tensor] = []  # Z between steps; g_0, eps_hat or a probed gradient during one
        self._carries = False  # whether _held is the Z of the step before
        self._usable = torch.zeros((), dtype=torch.bool)  # whether that step was finite
        self._probe_step: Tensor | None = None
        self._step = 0
        self._rate: float | Tensor = self.lr
        self._measured: dict[str, Tensor] = {}

    @classmethod
    def paper(cls, rho: float, **options: Any) -> LearnedRadius:
        """The paper's reading: squared gap, diagonal curvature, training loss on the same batch, nothing projected.

        Args:
            rho: starting radius, > 0.
            **options: `interval`, `lr`, `follow_lr` (here False unless given) or `bounds` as for `LearnedRadius`.

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
        }
        if fixed := sorted(reading.keys() & options.keys()):
            raise TypeError(f"`{fixed[0]}` is part of the paper's reading, got {_checks.shown(options[fixed[0]])}")
        settings: dict[str, Any] = {"follow_lr": False, **reading, **options}
        return cls(rho, **settings)

    # --- what the optimizer calls, in the order of a step ---------------------------------------------------------

    def to(self, device: torch.device, dtype: torch.dtype) -> None:
        """Move the radius and its optimizer to where the weights are."""
        super().to(device, dtype)
        self._moments = {name: value.to(device=device, dtype=dtype) for name, value in self._moments.items()}
        self._usable = self._usable.to(device)

    def validates_before(self, step: int) -> bool:
        """At every `interval`-th step when the training loss comes from the next batch."""
        return self.training_batch == "next" and self._updates_at(step)

    def validates_after(self, step: int) -> bool:
        """At every `interval`-th step when the training loss comes from the same batch."""
        return self.training_batch == "same" and self._updates_at(step)

    def see_validation(self, loss: Tensor, params: Tensors) -> Tensor:
        """Keep L_vl and grad L_vl . Z: scalars only."""
        self._measured |= {"validation_loss": loss, "validation_slope": self._slope(params)}
        if self.training_batch == "same":
            self._update()
        return pass_is_finite(loss, params)

    def see_training(self, loss: Tensor, params: Tensors) -> Tensor:
        """Keep L_tr(theta') and grad L_tr . Z of the same batch."""
        self._measured |= {"training_loss": loss, "training_slope": self._slope(params)}
        return pass_is_finite(loss, params)

    def at(self, ascent: Ascent) -> Tensor:
        """The radius of this step, after the update that this step's first pass completes."""
        self._step = ascent.step
        self._rate = self.lr * learning_rate_share(ascent) if self.follow_lr else self.lr
        if self.validates_before(ascent.step):
            assert ascent.loss is not None
            self._measured |= {"training_loss": ascent.loss, "training_slope": self._slope(ascent.params)}
            self._update()
        self._carries = False
        if self._wants_curvature and self.hypergradient.holds == "gradient":
            self._hold(ascent.params)
        return self._proposed["rho"] if self._proposed else self.rho

    def see_direction(self, params: Tensors, factor: Tensor) -> None:
        """Hold eps_hat for the estimators that need it."""
        if self._wants_curvature and self.hypergradient.holds != "gradient":
            self._hold(params)
            scale_(self._held, factor)

    def probe(self, params: Tensors, weights: Tensors, rho: Tensor, evaluate: Evaluate) -> None:
        """One training pass at rho + h for the estimators that probe."""
        if not (self._wants_curvature and self.hypergradient.holds == "probe"):
            return
        self._probe_step = self.hypergradient.probe_step(weights, self._held)
        for radius in (rho + self._probe_step, rho):
            for param, weight, direction in zip(params, weights, self._held, strict=True):
                torch.addcmul(weight, direction, radius.to(weight.dtype), out=param)
            if radius is not rho:
                evaluate()
        self._hold(params)

    def see_descent_gradient(self, params: Tensors, rho: Tensor) -> None:
        """What is held becomes H_rho eps_hat, projected if asked for."""
        if not self._wants_curvature:
            return
        pairs = self._with_gradients(params)
        held, gradients = [z for z, _ in pairs], [g for _, g in pairs]
        self.hypergradient.curvature(held, gradients, rho, self._probe_step)
        if self.length_invariant:
            square = norm(gradients).square().clamp(min=torch.finfo(rho.dtype).tiny)
            share = dot(gradients, held) / square
            for z, gradient in pairs:
                z.addcmul_(gradient, share.to(z.dtype), value=-1)

    def see_base_step(self, base: Optimizer, params: Tensors, weights: Tensors, fresh: set[Tensor]) -> None:
        """H_rho eps_hat becomes Z: the base optimizer's own update enters."""
        if not self._wants_curvature:
            return
        apply_update_derivative(base, params, weights, fresh, self._held)
        for z, param in zip(self._held, params, strict=True):
            if param.grad is None:
                z.zero_()  # the base optimizer has not moved this weight
        self._carries = True

    def commit(self, finite: Tensor) -> None:
        """Adopt the proposed radius where the whole step was finite."""
        if self._proposed:
            self.rho = torch.where(finite, self._proposed.pop("rho"), self.rho)
        for name, value in self._proposed.items():
            self._moments[name] = torch.where(finite, value, self._moments[name])
        self._proposed = {}
        self._usable = finite

    def discard(self) -> None:
        """Forget the proposed radius: a closure raised. The Z of the step before lives on unless `at` has used it."""
        self._proposed = {}

    def metrics(self) -> dict[str, Tensor]:
        """What the last upper-level update saw; the hypergradient is 0 until there is one."""
        if "validation_loss" not in self._measured:
            return {}
        return {
            "validation_loss": self._measured["validation_loss"],
            "generalization_gap": self._measured["validation_loss"] - self._measured["training_loss"],
            "hypergradient": self._measured["hypergradient"],
        }

    def state_dict(self) -> dict[str, Any]:
        """rho, its optimizer and, where the next step still needs it, Z."""
        state = super().state_dict() | {name: value.clone() for name, value in self._moments.items()}
        if self._carries and self.training_batch == "next":
            state |= {"usable": self._usable.clone(), "Z": {i: z.clone() for i, z in enumerate(self._held)}}
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        super().load_state_dict(state)
        for name, value in self._moments.items():
            self._moments[name] = torch.as_tensor(state[name]).to(value, copy=True)
        self._proposed, self._measured = {}, {}
        self._held = [z.clone() for _, z in sorted(state.get("Z", {}).items())]
        self._carries = bool(self._held)
        if self._carries:
            self._usable = torch.as_tensor(state["usable"]).to(self._usable.device, copy=True)

    # --- the upper level ------------------------------------------------------------------------------------------

    def _updates_at(self, step: int) -> bool:
        return (step + 1) % self.interval == 0

    @property
    def _wants_curvature(self) -> bool:
        """Whether this step's Z will be used: by the next step, or at the end of this one."""
        return self._updates_at(self._step + 1 if self.training_batch == "next" else self._step)

    def _hold(self, params: Tensors) -> None:
        """Copy the gradients into the buffer, 0 where there is none."""
        self._held = self._buffers.like(params)
        present = self._with_gradients(params)
        copy_([z for z, _ in present], [g for _, g in present])
        for z, param in zip(self._held, params, strict=True):
            if param.grad is None:
                z.zero_()

    def _with_gradients(self, params: Tensors) -> list[tuple[Tensor, Tensor]]:
        """What is held and the gradient, for the weights that have one."""
        return [(z, p.grad) for z, p in zip(self._held, params, strict=True) if p.grad is not None]

    def _slope(self, params: Tensors) -> Tensor:
        """The gradients' dot product with Z; 0 where there is no Z that fits."""
        fits = self._carries and [z.shape for z in self._held] == [p.shape for p in params]
        pairs = [(p.grad, z.to(p)) for z, p in zip(self._held, params, strict=False) if fits and p.grad is not None]
        if not pairs:
            self._carries = False
            return self.rho.new_zeros(())
        return dot([g for g, _ in pairs], [z for _, z in pairs])

    def _update(self) -> None:
        """One step of Adam on nu, proposed: `commit` decides."""
        measured = self._measured
        gap = measured["validation_loss"] - measured["training_loss"]
        if self.objective == "squared_gap":
            hypergradient = gap * (measured["validation_slope"] - measured["training_slope"])
        else:
            hypergradient = measured["validation_slope"]
        hypergradient = torch.where(self._usable, hypergradient, 0.0).to(self.rho.dtype)
        measured["hypergradient"] = hypergradient
        if not self._carries:
            return
        old = self._moments
        slope = hypergradient * self.rho
        updates = old["updates"] + 1
        first = torch.lerp(slope, old["exp_avg"], BETAS[0])
        second = torch.lerp(slope.square(), old["exp_avg_sq"], BETAS[1])
        direction = (first / (1 - BETAS[0] ** updates)) / ((second / (1 - BETAS[1] ** updates)).sqrt() + EPSILON)
        nu = (old["nu"] - self._rate * direction).clamp(*(math.log(bound) for bound in self.bounds))
        valid = self._usable & hypergradient.isfinite() & second.isfinite()  # a square overflows before its root
        proposed = {"nu": nu, "exp_avg": first, "exp_avg_sq": second, "updates": updates}
        self._proposed = {name: torch.where(valid, value, old[name]) for name, value in proposed.items()}
        rho = nu.exp().clamp(*self.bounds)
        self._proposed["rho"] = torch.where(valid, rho, self.rho)


def _bounds(bounds: Any) -> tuple[float, float]:
    try:
        low, high = bounds
    except (TypeError, ValueError) as error:
        raise TypeError(f"`bounds` must be a pair (lowest, highest), got {_checks.shown(bounds)}") from error
    low, high = _checks.positive("bounds", low), _checks.positive("bounds", high)
    if not low < high:
        raise ValueError(f"`bounds` must be (lowest, highest) with lowest < highest, got ({low}, {high})")
    return low, high


def _within(bounds: tuple[float, float], rho: float) -> float:
    if not bounds[0] <= rho <= bounds[1]:
        raise ValueError(f"`rho` must be within `bounds` = {bounds}, got {rho}")
    return rho
