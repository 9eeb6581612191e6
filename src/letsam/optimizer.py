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
base optimizer descend with it. Nothing in a step is read by the host: radius, losses and the decision to skip a step
that is not finite stay on the device.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from . import _checks
from ._flight import Flight
from ._guard import StepGuard
from ._tensors import Buffers, add_, copy_, gradients_of, norm, pass_is_finite, scalar_dtype, scale_
from .perturbations import Perturbation
from .radius import Ascent, FixedRadius, Radius

Closure = Callable[[], Tensor]
STATE_KEY = "sharpness_aware"


class SharpnessAware(Optimizer):
    """theta <- base(theta, g_rho), with g_rho = grad L(theta + rho eps_hat) taken at the perturbed weights.

    Args:
        base_optimizer: any `torch.optim.Optimizer` whose step needs no closure; made from the model's parameters.
        perturbation: direction and descent rule, `letsam.perturbations.Perturbation`.
        rho: a number > 0 (0 gives the base optimizer's own steps), a schedule or a `LearnedRadius`; copied.

    Attributes:
        base_optimizer: the wrapped optimizer.
        radius: this optimizer's own copy of the radius.
        metrics: 0-dim tensors of the last step: training_loss, rho, gradient_norm and skipped_steps; with a learned
            radius also validation_loss, generalization_gap and hypergradient (d upper / d rho) of the last update.
        validation_closure: used by `step` where none is passed.

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
        validation_closure: Closure | None = None,
    ) -> None:  # fmt: skip
        base = _checked_base(base_optimizer)
        if not isinstance(perturbation, Perturbation):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"`perturbation` must be a Perturbation, got {_checks.shown(perturbation)}")
        radius = _radius(rho)
        perturbation.attach(base.param_groups)
        # torch's own __init__ sets up its hooks; the groups it makes land in a stand-in, because ours are the base's
        self.__dict__["base_optimizer"] = SimpleNamespace(param_groups=[], state={}, defaults={})
        super().__init__([torch.empty(0)], {})
        self.base_optimizer = base
        self.perturbation = perturbation
        self.radius = radius
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

    # --- torch.optim.Optimizer's contract: groups, state and defaults are the base optimizer's ---------------------

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The base optimizer's groups, the very same objects."""
        return self.base_optimizer.param_groups

    @param_groups.setter
    def param_groups(  # pyright: ignore[reportIncompatibleVariableOverride]
        self, value: list[dict[str, Any]]
    ) -> None:
        self.base_optimizer.param_groups = value

    @property
    def state(self) -> Any:
        """The base optimizer's state."""
        return self.base_optimizer.state

    @state.setter
    def state(self, value: Any) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]
        self.base_optimizer.state = value

    @property
    def defaults(self) -> dict[str, Any]:
        """The base optimizer's defaults."""
        return self.base_optimizer.defaults

    @defaults.setter
    def defaults(self, value: dict[str, Any]) -> None:
        self.base_optimizer.defaults = value

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group to the base optimizer (see `torch.optim.Optimizer.add_param_group`)."""
        if "perturbation" not in self.__dict__:  # torch's __init__, into the stand-in
            super().add_param_group(param_group)
            return
        self.base_optimizer.add_param_group(param_group)
        self.perturbation.attach(self.param_groups)

    def __getstate__(self) -> dict[str, Any]:
        kept = ("base_optimizer", "perturbation", "radius", "metrics", "_steps", "_peak_lr", "_skipped")
        return {name: self.__dict__[name] for name in kept}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.validation_closure = None
        self._reset_scratch()

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
        if closure is None or not callable(closure):
            raise ValueError(
                "`closure` must be a function that clears the gradients, computes the loss, calls backward() and "
                f"returns the loss, got {_checks.shown(closure)}"
            )
        if self.radius.learns and validation_closure is None:
            raise ValueError(
                "`validation_closure` must be given for a learned radius, to `step` or as an attribute, got None"
            )
        self._restore()
        self._place()
        params = self._trainable()
        finite = torch.ones((), dtype=torch.bool, device=params[0].device)
        try:
            if self.radius.validates_before(self._steps):
                loss = self._evaluate(validation_closure, "validation_closure")
                finite &= self.radius.see_validation(loss, params)
            loss = self._evaluate(closure, "closure")
            flight = self._ascend(params, finite, loss)
            if flight.climbed:
                self.radius.probe(params, flight.weights, flight.rho, lambda: self._probe(closure, flight))
                flight.finite &= self._evaluate(closure, "closure").isfinite()
        except BaseException:
            self._restore()
            self.radius.discard()
            raise
        self._descend(flight)
        if self.radius.validates_after(self._steps):
            self._look_back(flight, closure, validation_closure)
        self._finish(flight)
        return loss

    @torch.no_grad()
    def ascent_step(self) -> None:
        """Climb: with the gradients at the weights in place, move to theta + rho eps_hat and clear the gradients.

        For training loops without closures; fixed and scheduled radii only.

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
        self._require_gradients(params, "the backward() before ascent_step()")
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
            self._require_gradients(flight.params, "the backward() before descent_step()")
        except ValueError:
            self._restore()
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
            again = self.radius.see_training(self._evaluate(closure, "closure"), params)
            held_out = self.radius.see_validation(self._evaluate(validation_closure, "validation_closure"), params)
        except BaseException:
            self._guard.settle(self.base_optimizer, torch.zeros_like(flight.finite), params, flight.weights)
            self.radius.discard()
            raise
        flight.finite &= again & held_out
        self._guard.settle(self.base_optimizer, flight.finite, params, flight.weights)
        self.radius.commit(flight.finite)

    def _finish(self, flight: Flight) -> None:
        """Count the step and publish what it saw."""
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

    def _evaluate(self, closure: Closure | None, name: str) -> Tensor:
        """Run one pass from cleared gradients, and check what it leaves."""
        assert closure is not None
        self.zero_grad()  # a closure that forgets its backward() must not pass with the gradients of the pass before
        with torch.enable_grad():
            loss = closure()
        if not isinstance(loss, Tensor):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"`{name}` must return the loss as a tensor, got {_checks.shown(loss)}")
        if loss.numel() != 1:
            raise ValueError(f"`{name}` must return a scalar loss, got a tensor of shape {tuple(loss.shape)}")
        self._require_gradients(self._trainable(), f"`{name}`")
        return loss.detach().reshape(())

    def _probe(self, closure: Closure, flight: Flight) -> Tensor:
        """A further training pass at perturbed weights, for the radius."""
        loss = self._evaluate(closure, "closure")
        flight.finite &= pass_is_finite(loss, flight.params)
        return loss

    def _require_gradients(self, params: list[Tensor], name: str) -> None:
        gradients = gradients_of(params)
        if not gradients:
            raise ValueError(
                f"{name} must leave gradients in the optimizer's parameters, got none: call loss.backward()"
            )
        if any(g.layout != torch.strided for g in gradients):
            raise ValueError(f"{name} must leave dense gradients, got sparse ones: use sparse=False in the embedding")

    # --- keeping track --------------------------------------------------------------------------------------------

    def _trainable(self) -> list[Tensor]:
        params = [p for group in self.param_groups for p in group["params"] if p.requires_grad]
        if not params:
            raise ValueError("`base_optimizer` must hold at least one parameter with requires_grad=True, got none")
        return params

    def _place(self) -> None:
        """Keep the scalars where the weights are, also when the model has moved since."""
        params = [p for group in self.param_groups for p in group["params"]]
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

    def state_dict(self) -> dict[str, Any]:
        """The base optimizer's state_dict plus, under "sharpness_aware", radius, perturbation and counters.

        Returns:
            A dictionary that `torch.save` writes and `load_state_dict` of a fresh object reads. No scratch buffers:
            between two steps there is only Z, and only where the next step's upper-level update needs it.
        """
        for hook in self._optimizer_state_dict_pre_hooks.values():
            hook(self)
        own: dict[str, Any] = {
            "radius": {"type": type(self.radius).__name__, **self.radius.state_dict()},
            "perturbation": {"type": type(self.perturbation).__name__, **self.perturbation.state_dict()},
            "steps": self._steps,
            "skipped_steps": self._skipped.clone(),
            "peak_lr": self._peak_lr,
        }
        state_dict = {**self.base_optimizer.state_dict(), STATE_KEY: own}
        for hook in self._optimizer_state_dict_post_hooks.values():
            changed = hook(self, state_dict)
            state_dict = state_dict if changed is None else changed
        return state_dict

    @torch.no_grad()
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take back what `state_dict` gave; continues bit for bit.

        Args:
            state_dict: of an optimizer with the same groups, perturbation and kind of radius.

        Raises:
            ValueError: it comes from something else. Nothing has changed then.
        """
        state_dict = dict(state_dict)
        for hook in self._optimizer_load_state_dict_pre_hooks.values():
            changed = hook(self, state_dict)
            state_dict = state_dict if changed is None else dict(changed)
        own = state_dict.pop(STATE_KEY, None)
        self._check_state(own, state_dict)
        self.base_optimizer.load_state_dict(state_dict)
        self._restore()
        self._reset_scratch()
        self.radius.load_state_dict(own["radius"])
        self.perturbation.load_state_dict(own["perturbation"])
        self._steps, self._peak_lr = own["steps"], own["peak_lr"]
        self._skipped = torch.as_tensor(own["skipped_steps"]).to(self._skipped.device, copy=True)
        for hook in self._optimizer_load_state_dict_post_hooks.values():
            hook(self)

    def _check_state(self, own: dict[str, Any] | None, base: dict[str, Any]) -> None:
        keys = ("radius", "perturbation", "steps", "skipped_steps", "peak_lr")
        known = isinstance(own, dict) and {"state", "param_groups"} <= base.keys()
        if own is None or not known or any(key not in own for key in keys):
            raise ValueError(
                f"`state_dict` must be one of a letsam optimizer (with the key {STATE_KEY!r}), got another optimizer's"
            )
        for part in ("radius", "perturbation"):
            expected = type(getattr(self, part)).__name__
            found = own[part]["type"] if isinstance(own[part], dict) and "type" in own[part] else None
            if found != expected:
                raise ValueError(f"`state_dict` must hold a {expected} as its {part}, got {found}")
        try:  # on copies, so that a damaged one changes nothing
            copy.deepcopy(self.radius).load_state_dict(own["radius"])
            copy.copy(self.perturbation).load_state_dict(own["perturbation"])
            _checks.whole("steps", own["steps"], 0)
            torch.as_tensor(own["skipped_steps"])
            torch.as_tensor(own["peak_lr"])
        except Exception as error:
            raise ValueError(f"`state_dict` must be complete, got a damaged one ({error!r})") from error


def _checked_base(base: object) -> Optimizer:
    if not isinstance(base, Optimizer):
        raise TypeError(f"`base_optimizer` must be a torch.optim.Optimizer, got {_checks.shown(base)}")
    if isinstance(base, (SharpnessAware, torch.optim.LBFGS)):
        raise TypeError(f"`base_optimizer` must step without a closure of its own, got {type(base).__name__}")
    return base


def _radius(rho: object) -> Radius:
    if isinstance(rho, Radius):
        return copy.deepcopy(rho)
    if isinstance(rho, Tensor) and rho.ndim == 0:
        rho = rho.item()
    if isinstance(rho, bool) or not isinstance(rho, (int, float)):
        raise TypeError(f"`rho` must be a number > 0, a schedule or a LearnedRadius, got {_checks.shown(rho)}")
    return FixedRadius(float(rho))
