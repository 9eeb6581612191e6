"""SharpnessAware: the composition, and one step told from top to bottom.

    sharpness-aware optimizer  =  perturbation  x  radius  x  base optimizer

- a *perturbation* says in which direction to climb and which gradient to descend with (`letsam.perturbations`);
- a *radius* says how far: fixed, scheduled or learned (`letsam.radius`);
- the *base optimizer* is any `torch.optim.Optimizer`, wrapped; its `param_groups` and `state` are the wrapper's.

Three compositions:

    SAM              SharpnessAware(SGD(...), SteepestAscent(), 0.05)
    ASAM, AdamW      SharpnessAware(AdamW(...), AdaptiveAscent(), CosineRadius(0.5, 0.1, steps=1000))
    LETS-SAM         SharpnessAware(SGD(...), SteepestAscent(), LearnedRadius(0.05))

A step climbs from the weights theta to theta + rho eps_hat, takes the gradient there, goes back to theta and lets the
base optimizer descend with it. All its training passes see the same dropout masks, and of its passes only the first
counts for running statistics and random generators (`letsam._passes`). Nothing in a step is read by the host: radius,
losses and the decision to skip a step that is not finite stay on the device.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from . import _checks
from ._closures import Closure, checked_closure, evaluate, require_gradients
from ._flight import Flight
from ._guard import StepGuard
from ._passes import Passes
from ._randomness import devices_of
from ._statistics import checked_model
from ._tensors import Buffers, add_, copy_, gradients_of, norm, pass_is_finite, scalar_dtype, scale_
from ._wrapper import Wrapper, check_own_state
from .perturbations import Perturbation
from .radius import Ascent, FixedRadius, Radius

__all__ = ["Closure", "SharpnessAware"]


class SharpnessAware(Wrapper):
    """theta <- base(theta, g_rho), with g_rho = grad L(theta + rho eps_hat) taken at the perturbed weights.

    Args:
        base_optimizer: any `torch.optim.Optimizer` whose step needs no closure; made from the model's parameters.
        perturbation: direction and descent rule, `letsam.perturbations.Perturbation`.
        rho: a number > 0 (0 gives the base optimizer's own steps), a schedule or a `LearnedRadius`; copied.
        validation_closure: used by `step` where none is passed.
        model: the network, wrapped (DDP, Fabric, `torch.compile`) or not. Its buffers, such as BatchNorm's running
            statistics, then move once in a step, in the first training pass, and not at all in a step that is skipped.
            None: they move in every pass, validation included.

    Attributes:
        base_optimizer: the wrapped optimizer.
        radius: this optimizer's own copy of the radius.
        metrics: 0-dim tensors of the last step: training_loss, rho, gradient_norm and skipped_steps; with a learned
            radius also validation_loss, generalization_gap and hypergradient (d upper / d rho) of the last update.
        validation_closure: as given; may be set at any time.
        model: as given; may be set at any time. Neither is part of `state_dict` or of a pickle; a deep copy keeps the
            copy of a model that was copied with it and before it.

    Raises:
        TypeError: an argument of the wrong type.
        ValueError: an argument out of range.

    Example:
        >>> import torch, letsam
        >>> weight = torch.nn.Parameter(torch.tensor([3.0, 4.0]))
        >>> base = torch.optim.SGD([weight], lr=0.1)
        >>> opt = SharpnessAware(base, letsam.perturbations.SteepestAscent(), 0.5)
        >>> def closure():
        ...     opt.zero_grad()
        ...     loss = weight.square().sum() / 2
        ...     loss.backward()
        ...     return loss
        >>> opt.step(closure).item(), weight.detach()  # (1 - lr (1 + rho / 5)) theta
        (12.5, tensor([2.6700, 3.5600]))

    Reference:
        arXiv:2010.01412, algorithm 1; arXiv:2408.08222, algorithm 1.
    """

    def __init__(
        self, base_optimizer: Optimizer, perturbation: Perturbation, rho: float | Radius, *,
        validation_closure: Closure | None = None, model: nn.Module | None = None,
    ) -> None:  # fmt: skip
        super().__init__(base_optimizer)
        if not isinstance(perturbation, Perturbation):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"`perturbation` must be a Perturbation, got {_checks.shown(perturbation)}")
        self.radius = _radius(rho)
        self.model = model
        perturbation.attach(self.param_groups)
        self.perturbation = perturbation
        self.validation_closure = validation_closure
        self.metrics: dict[str, Tensor] = {}
        self._steps = 0
        self._peak_lr: float | Tensor = 0.0
        self._skipped = torch.zeros((), dtype=torch.int64)
        self._reset_scratch()
        self._place()

    def _reset_scratch(self) -> None:
        self._weights = Buffers()
        self._ascent_gradients = Buffers()
        self._guard = StepGuard()
        self._flight: Flight | None = None

    @property
    def model(self) -> nn.Module | None:
        """The network whose buffers a step moves once."""
        return self._passes.model

    @model.setter
    def model(self, model: nn.Module | None) -> None:
        self._passes = Passes(model if model is None else checked_model(model, self._params()))

    # --- a step ---------------------------------------------------------------------------------------------------

    @property
    def rho(self) -> Tensor:
        """The current radius: a 0-dim tensor on the device of the weights."""
        return self.radius.rho

    @torch.no_grad()
    def step(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, closure: Closure | None = None, validation_closure: Closure | None = None
    ) -> Tensor:
        """A whole step: all passes, the perturbation and back, the base optimizer's step, the radius.

        Args:
            closure: clears the gradients, computes the loss on the training batch, calls `backward()` and returns
                the loss, as for `torch.optim.LBFGS`. Called twice (see `LearnedRadius` for further passes).
            validation_closure: the same on a batch that the model is not trained on; for a learned radius.
                Defaults to `self.validation_closure`.

        Returns:
            The loss of the first call of `closure` (0-dim, detached).

        Raises:
            ValueError: no closure, a closure that leaves no gradients or returns a loss that is not a scalar, or a
                learned radius without a validation closure. Nothing has changed then.
            TypeError: a closure that returns no tensor.
        """
        validation_closure = validation_closure or self.validation_closure
        closure = checked_closure(closure)
        if self.radius.learns and validation_closure is None:
            raise ValueError(
                "`validation_closure` must be given for a learned radius, to `step` or as an attribute, got None"
            )
        self._abort()
        self._place()
        params = self._trainable()
        finite = torch.ones((), dtype=torch.bool, device=params[0].device)
        try:
            self._passes.begin(devices_of(params))
            if self.radius.validates_before(self._steps):
                loss = self._validate(validation_closure)
                finite &= self.radius.see_validation(loss, params)
            loss = self._train(closure)
            self._passes.keep()
            flight = self._ascend(params, finite, loss)
            if flight.climbed:
                self.radius.probe(params, flight.weights, flight.rho, lambda: self._probe(closure, flight))
                flight.finite &= self._train(closure).isfinite()
            self._descend(flight)
            if self.radius.validates_after(self._steps):
                self._look_back(flight, closure, validation_closure)
        except BaseException:
            self._abort()
            self.radius.discard()
            raise
        self._finish(flight)
        return loss

    @torch.no_grad()
    def ascent_step(self) -> None:
        """Climb: with the gradients at the weights in place, move to theta + rho eps_hat and clear the gradients.

        For training loops without closures; fixed and scheduled radii only. With `model`, its buffers stay from here on
        as the first pass has left them. Equal dropout masks are the loop's affair (`letsam.ReplayedRandomness`).

        Raises:
            ValueError: there are no gradients, or the radius is learned (its order of passes needs `step`).
            RuntimeError: the weights are perturbed already.
        """
        if self.radius.learns:
            raise ValueError(
                "`rho` must be fixed or scheduled for ascent_step(); a learned radius needs step(closure, ...)"
            )
        if self._flight is not None:
            raise RuntimeError("ascent_step() was called twice: call descent_step() after the second backward()")
        self._place()
        params = self._trainable()
        require_gradients(params, "the backward() before ascent_step()")
        self._passes.begin(())
        self._ascend(params, torch.ones((), dtype=torch.bool, device=params[0].device), None)
        self.zero_grad()

    @torch.no_grad()
    def descent_step(self) -> None:
        """Go back to the weights and descend with the gradients that are in place now.

        Raises:
            RuntimeError: no `ascent_step()` before.
            ValueError: there are no gradients; the weights are back where they were.
        """
        flight = self._flight
        if flight is None:
            raise RuntimeError("descent_step() needs an ascent_step() before it")
        try:
            require_gradients(flight.params, "the backward() before descent_step()")
        except ValueError:
            self._abort()
            raise
        self._descend(flight)
        self._finish(flight)

    def _ascend(self, params: list[Tensor], finite: Tensor, loss: Tensor | None) -> Flight:
        """From g_0 at theta to the perturbed weights."""
        gradients = gradients_of(params)
        gradient_norm = norm(gradients)
        finite &= gradient_norm.isfinite()
        if loss is not None:
            finite &= loss.isfinite()
        lr = self.param_groups[0].get("lr", 1.0)
        self._follow(lr)
        rho = self.radius.at(Ascent(self._steps, lr, self._peak_lr, loss, gradient_norm, params))
        flight = Flight(params, [], finite, loss, rho, gradient_norm, self.perturbation.ascends(self._steps))
        flight.weights = self._weights.copy_of(params)
        self._flight = flight
        if not flight.climbed:
            return flight
        moved = [p for p in params if p.grad is not None]
        if self.perturbation.keeps_ascent_gradient:
            flight.ascent_gradients = dict(zip(moved, self._ascent_gradients.copy_of(gradients), strict=True))
        factor = self.perturbation.direction(moved, gradients, gradient_norm)
        self.radius.see_direction(params, factor)
        if rho.ndim:
            rho = torch.stack([r for r, p in zip(rho.unbind(), params, strict=True) if p.grad is not None])
        scale_(gradients, rho * factor)
        add_(moved, gradients)
        return flight

    def _descend(self, flight: Flight) -> None:
        """From g_rho at the perturbed weights to the base optimizer's step at theta."""
        params, weights = flight.params, flight.weights
        self._restore()
        gradients = gradients_of(params)
        flight.finite &= norm(gradients).isfinite()
        if flight.climbed:
            self.radius.see_descent_gradient(params, flight.rho)
        self.perturbation.descent(gradients, flight.held_ascent_gradients())
        fresh = self._guard.save(self.base_optimizer)
        self.base_optimizer.step()
        if flight.climbed:
            self.radius.see_base_step(self.base_optimizer, params, weights, fresh)
        self._guard.settle(self.base_optimizer, flight.finite, params, weights)
        self.radius.commit(flight.finite)

    def _look_back(self, flight: Flight, closure: Closure, validation_closure: Closure | None) -> None:
        """The upper level at the weights just made; the step is taken back where its passes fail."""
        params = flight.params
        try:
            again = self.radius.see_training(self._train(closure), params)
            held_out = self.radius.see_validation(self._validate(validation_closure), params)
        except BaseException:
            self._guard.settle(self.base_optimizer, torch.zeros_like(flight.finite), params, flight.weights)
            raise
        flight.finite &= again & held_out
        self._guard.settle(self.base_optimizer, flight.finite, params, flight.weights)
        self.radius.commit(flight.finite)

    def _finish(self, flight: Flight) -> None:
        """Count the step and publish what it saw."""
        self._passes.end(flight.finite)
        self._steps += 1
        self._skipped += ~flight.finite
        self._opt_called = True  # what torch's schedulers look for when they warn of a wrong order
        self.metrics = {
            "rho": flight.rho,
            "gradient_norm": flight.gradient_norm,
            "skipped_steps": self._skipped.clone(),
        }
        if flight.loss is not None:
            self.metrics["training_loss"] = flight.loss
        self.metrics |= self.radius.metrics()

    def _restore(self) -> None:
        """Put the unperturbed weights back, bit for bit; driven by the snapshot, not by the gradients."""
        if self._flight is not None:
            copy_(self._flight.params, self._flight.weights)
            self._flight = None

    def _abort(self) -> None:
        """Take back a step that has not come to its end: a pass has raised, or is still to come."""
        self._restore()
        self._passes.abort()

    def _train(self, closure: Closure) -> Tensor:
        """A training pass: buffers and random numbers as in every other one of this step."""
        self._passes.again()
        return self._evaluate(closure, "closure")

    def _validate(self, closure: Closure | None) -> Tensor:
        """A validation pass: it leaves no trace, and its random numbers are its own."""
        self._passes.aside(self._steps)
        return self._evaluate(closure, "validation_closure")

    def _evaluate(self, closure: Closure | None, name: str) -> Tensor:
        assert closure is not None
        self.zero_grad()  # a closure that forgets its backward() must not pass with the gradients of the pass before
        return evaluate(closure, name, self._trainable())

    def _probe(self, closure: Closure, flight: Flight) -> Tensor:
        """A further training pass at perturbed weights, for the radius."""
        loss = self._train(closure)
        flight.finite &= pass_is_finite(loss, flight.params)
        return loss

    def _params(self) -> list[Tensor]:
        return [p for group in self.param_groups for p in group["params"]]

    def _trainable(self) -> list[Tensor]:
        params = [p for p in self._params() if p.requires_grad]
        if not params:
            raise ValueError("`base_optimizer` must hold at least one parameter with requires_grad=True, got none")
        return params

    def _place(self) -> None:
        """Keep the scalars where the weights are, also when the model has moved since."""
        params = self._params()
        device, dtype = params[0].device, scalar_dtype(params)
        if self.rho.device != device or self.rho.dtype != dtype:
            self.radius.to(device, dtype)
        self._skipped = self._skipped.to(device)

    def _follow(self, lr: float | Tensor) -> None:
        """Remember the largest learning rate; a scheduler's `initial_lr` counts, so that warm-up is seen as one."""
        initial = self.param_groups[0].get("initial_lr", lr)
        if isinstance(lr, Tensor) or isinstance(initial, Tensor) or isinstance(self._peak_lr, Tensor):
            peaks = [torch.as_tensor(value, device=self.rho.device) for value in (self._peak_lr, lr, initial)]
            self._peak_lr = torch.stack([peak.to(self.rho.dtype) for peak in peaks]).amax()
        else:
            self._peak_lr = max(self._peak_lr, lr, initial)

    # --- copies and files -----------------------------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        kept = ("base_optimizer", "perturbation", "radius", "metrics", "_steps", "_peak_lr", "_skipped")
        return {name: self.__dict__[name] for name in kept}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.validation_closure = self.model = None
        self._reset_scratch()

    def __deepcopy__(self, memo: dict[int, Any]) -> SharpnessAware:
        twin = type(self).__new__(type(self))
        memo[id(self)] = twin
        twin.__setstate__(copy.deepcopy(self.__getstate__(), memo))
        twin.model = memo.get(id(self.model))
        return twin

    def _group_added(self) -> None:
        self.perturbation.attach(self.param_groups)

    def _own_state(self) -> dict[str, Any]:
        return {
            "radius": {"type": type(self.radius).__name__, **self.radius.state_dict()},
            "perturbation": {"type": type(self.perturbation).__name__, **self.perturbation.state_dict()},
            "steps": self._steps,
            "skipped_steps": self._skipped.clone(),
            "peak_lr": self._peak_lr,
        }

    def _check_own_state(self, own: dict[str, Any]) -> None:
        parts = {"radius": copy.deepcopy(self.radius), "perturbation": copy.copy(self.perturbation)}
        check_own_state(own, parts)

    def _load_own_state(self, own: dict[str, Any]) -> None:
        self._abort()
        self._reset_scratch()
        self.radius.load_state_dict(own["radius"])
        self.perturbation.load_state_dict(own["perturbation"])
        self._steps, self._peak_lr = own["steps"], own["peak_lr"]
        self._skipped = torch.as_tensor(own["skipped_steps"]).to(self._skipped.device, copy=True)


def _radius(rho: object) -> Radius:
    if isinstance(rho, Radius):
        return copy.deepcopy(rho)
    if isinstance(rho, Tensor) and rho.ndim == 0:
        rho = rho.item()
    if isinstance(rho, bool) or not isinstance(rho, (int, float)):
        raise TypeError(f"`rho` must be a number > 0, a schedule or a LearnedRadius, got {_checks.shown(rho)}")
    return FixedRadius(float(rho))
