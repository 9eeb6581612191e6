"""SharpnessAware: the composition, and one step told from top to bottom.

    sharpness-aware optimizer  =  perturbation  x  radius  x  base optimizer

- a *perturbation* says in which direction to climb and which gradient to descend with (`letsam.perturbations`);
- a *radius* says how far: fixed, scheduled or learned (`letsam.radius`);
- the *base optimizer* is any `torch.optim.Optimizer`, wrapped; its `param_groups` and `state` are the wrapper's.

Three compositions:

    SAM              SharpnessAware(SGD(...), SAMPerturbation(), 0.05)
    ASAM, AdamW      SharpnessAware(AdamW(...), ASAMPerturbation(), CosineRadius(0.5, 0.1, steps=1000))
    LETS-SAM         SharpnessAware(SGD(...), SAMPerturbation(), LearnedRadius(0.05))

A step climbs from the weights theta to theta + rho eps_hat (`letsam.step.ascent`), takes the gradient there, goes back
to theta and lets the base optimizer descend with it. All its training passes see the same dropout masks, and of its
passes only the first counts for running statistics and random generators (`letsam.step.replay`). Nothing in a step is
read by the host: radius, losses and the decision to skip a step that is not finite stay on the device.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from . import checks
from .closures.closure import Closure, checked_closure, require_gradients
from .perturbations import Perturbation
from .perturbations.decoupled import descend_decoupled
from .radius import Ascent, Radius
from .step import precision
from .step.ascent import Climb
from .step.clipping import clipping
from .step.composition import not_traced
from .step.randomness import devices_of
from .step.ranks import Group
from .step.record import Flight, Slopes
from .step.undo import StepGuard, without_state
from .tensors import Buffers, all_finite, copy_, gradients_of, lengths, norm, scale_

__all__ = ["Closure", "SharpnessAware"]


class SharpnessAware(Climb):
    """theta <- base(theta, g_rho), with g_rho = grad L(theta + rho eps_hat) taken at the perturbed weights.

    Args:
        base_optimizer: any `torch.optim.Optimizer` whose step needs no closure; made from the model's parameters. Its
            param groups with `perturb=False` descend, but are not perturbed (see `letsam.param_groups`).
        perturbation: direction and descent rule, `letsam.perturbations.Perturbation`.
        rho: a number > 0 (0 gives the base optimizer's own steps), a schedule or a `LearnedRadius`; copied.
        validation_closure: used by `step` where none is passed.
        model: the network, wrapped (DDP, Fabric, `torch.compile`) or not. Its buffers, such as BatchNorm's running
            statistics, then move once in a step, in the first training pass, and not at all in a step that is skipped.
            None: they move in every pass, validation included.
        max_grad_norm: > 0, clips the total norm of the gradient that the base optimizer descends with, as
            `torch.nn.utils.clip_grad_norm_` does (the ascent needs no clipping: its length is rho); None: no clipping.
        process_group: the processes over which losses are averaged: "default", torch's default group where
            torch.distributed is initialised; a `ProcessGroup`; or None, for runs that are independent of each other.
        m_sharpness: each process climbs along the gradient of its own batch, and each micro-batch of a closure from
            `letsam.accumulated` along its own (m-SAM); of several processes, `model` must be or hold a DDP. The radius
            is the same for all. Not for perturbations that remember gradients from step to step, where there are
            micro-batches.

    Attributes:
        base_optimizer: the wrapped optimizer.
        radius: this optimizer's own copy of the radius.
        metrics: 0-dim tensors of the last step: training_loss, rho, gradient_norm and skipped_steps; with a learned
            radius also validation_loss, generalization_gap and hypergradient (d upper / d rho) of the last update. With
            radii that differ between weights, rho and hypergradient have one value for each.
        validation_closure: as given; may be set at any time.
        max_grad_norm: as given; may be set at any time, and is no part of `state_dict`.
        model: as given; may be set at any time. Neither is part of `state_dict` or of a pickle; a deep copy keeps the
            copy of a model that was copied with it and before it.

    Raises:
        TypeError: an argument of the wrong type.
        ValueError: an argument out of range.

    Example:
        >>> import torch, letsam
        >>> weight = torch.nn.Parameter(torch.tensor([3.0, 4.0]))
        >>> base = torch.optim.SGD([weight], lr=0.1)
        >>> opt = SharpnessAware(base, letsam.perturbations.SAMPerturbation(), 0.5)
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
        self,
        base_optimizer: Optimizer,
        perturbation: Perturbation,
        rho: float | Radius,
        *,
        validation_closure: Closure | None = None,
        model: nn.Module | None = None,
        max_grad_norm: float | None = None,
        process_group: Group = "default",
        m_sharpness: bool = False,
    ) -> None:
        super().__init__(base_optimizer, perturbation, rho, model, process_group, m_sharpness)
        self.max_grad_norm = max_grad_norm
        self.validation_closure = validation_closure

    def _reset_scratch(self) -> None:
        super()._reset_scratch()
        self._ascent_gradients = Buffers()
        self._guard = StepGuard()
        self._flight: Flight | None = None

    @property
    def max_grad_norm(self) -> float | None:
        """The largest total norm of the gradient that the base optimizer descends with."""
        return self._max_grad_norm

    @max_grad_norm.setter
    def max_grad_norm(self, value: float | None) -> None:
        self._max_grad_norm = value if value is None else checks.positive("max_grad_norm", value)

    # --- a step ---------------------------------------------------------------------------------------------------

    @not_traced
    @torch.no_grad()
    def step(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        closure: Closure | None = None,
        validation_closure: Closure | None = None,
        *,
        grad_scaler: torch.amp.GradScaler | None = None,
    ) -> Tensor:
        """A whole step: all passes, the perturbation and back, the base optimizer's step, the radius.

        Args:
            closure: clears the gradients, computes the loss on the training batch, calls `backward()` and returns
                the loss, as for `torch.optim.LBFGS`. Called twice (see `LearnedRadius` for further passes).
            validation_closure: the same on a batch that the model is not trained on; for a learned radius.
                Defaults to `self.validation_closure`.
            grad_scaler: both closures then call `grad_scaler.scale(loss).backward()` and return the loss itself; the
                step unscales the gradients of every pass. Call `grad_scaler.update()` afterwards.

        Returns:
            The loss of the first call of `closure` (0-dim, detached).

        Raises:
            ValueError: no closure, a closure that leaves no gradients, does not scale them or returns a loss that is
                not a scalar, or a learned radius without a validation closure. Nothing has changed then, but that
                after a pass at perturbed weights has failed, a learned radius has no Z for its next update.
            TypeError: a closure that returns no tensor; `grad_scaler` is no scaler.
        """
        validation_closure = self.validation_closure if validation_closure is None else validation_closure
        closure = checked_closure(closure)
        if validation_closure is not None:
            checked_closure(validation_closure, "validation_closure")
        if self.radius.learns and validation_closure is None:
            raise ValueError(
                "`validation_closure` must be given for a learned radius, to `step` or as an attribute, got None"
            )
        self._ranks.check(self.model)
        self._grad_scaler = precision.begin(grad_scaler, self)
        self._abort()
        self._place()
        params, parts = self._trainable(), self._parts(closure)
        seen: list[Tensor] = []
        try:
            self._passes.begin(devices_of(params))
            if self.radius.validates_before(self._steps):
                loss = self._validate(validation_closure)
                seen += self.radius.see_validation(loss, params, self._weights)
            flight = self._begin(params, seen, *self._look(closure, parts), len(parts))
            if flight.climbed:
                self._climb_apart(flight, parts) if len(parts) > 1 else self._climb(flight, closure)
            loss = flight.loss
            assert loss is not None  # a step of one pass climbs
            self._descend(flight)
            if self.radius.validates_after(self._steps):
                self._look_back(flight, closure, validation_closure)
        except BaseException:
            self._abort()
            self.radius.discard()
            raise
        self._finish(flight)
        return loss

    @not_traced
    @torch.no_grad()
    def ascent_step(self, *, grad_scaler: torch.amp.GradScaler | None = None) -> None:
        """Climb: with the gradients at the weights in place, move to theta + rho eps_hat and clear the gradients.

        For training loops without closures; fixed and scheduled radii only. With `model`, its buffers stay from here on
        as the first pass has left them. Equal dropout masks are the loop's affair (`letsam.ReplayedRandomness`).

        Args:
            grad_scaler: with which the loss has been scaled; unscales the gradients. Give it to `descent_step`, too.

        Raises:
            ValueError: there are no gradients, or `step` alone can make the passes: those of a learned radius, or of a
                perturbation with several ascents.
            RuntimeError: the weights are perturbed already.
        """
        if self.radius.learns:
            raise ValueError(
                "`rho` must be fixed or scheduled for ascent_step(); a learned radius needs step(closure, ...)"
            )
        if self.perturbation.ascents > 1:
            raise ValueError(
                f"`perturbation` must have one ascent for ascent_step(), got {self.perturbation.ascents}: it needs "
                "step(closure)"
            )
        if self._flight is not None and self._flight.overwritten:
            self._abort()  # interrupted, and a checkpoint was loaded since
        if self._flight is not None:
            raise RuntimeError("ascent_step() was called twice: call descent_step() after the second backward()")
        self._ranks.check(self.model)
        self._place()
        params = self._trainable()
        require_gradients(params, "the backward() before ascent_step()")
        precision.unscale_(checks.checked_scaler(grad_scaler), self, params)
        self._grad_scaler = precision.begin(grad_scaler, self)  # may change the scale, which this pass had before
        self._passes.begin(())
        slopes = self._slopes(params)
        flight = self._begin(params, [], None, slopes)
        if flight.climbed:
            self._move(flight, slopes.moves, slopes.climbed)
        flight.versions = [param._version for param in params]
        self.zero_grad()
        torch.clear_autocast_cache()

    @not_traced
    @torch.no_grad()
    def descent_step(self, *, grad_scaler: torch.amp.GradScaler | None = None) -> None:
        """Go back to the weights and descend with the gradients that are in place now.

        Args:
            grad_scaler: as `ascent_step` was given. Call `grad_scaler.update()` afterwards.

        Raises:
            RuntimeError: no `ascent_step()` before.
            ValueError: another `grad_scaler`; or there are no gradients: the weights are back where they were.
        """
        flight = self._flight
        if flight is None:
            raise RuntimeError("descent_step() needs an ascent_step() before it")
        if checks.checked_scaler(grad_scaler) is not self._grad_scaler:
            raise ValueError(f"`grad_scaler` must be the one of ascent_step(), got {checks.shown(grad_scaler)}")
        try:
            require_gradients(flight.params, "the backward() before descent_step()")
            precision.unscale_(self._grad_scaler, self, flight.params)
        except ValueError:
            self._abort()
            raise
        self._descend(flight)
        self._finish(flight)

    def _begin(
        self, params: list[Tensor], seen: list[Tensor], loss: Tensor | None, slopes: Slopes, parts: int = 1
    ) -> Flight:
        """What is known at the weights: the radius, and what the way back needs."""
        gradient_norm = self._ranks.ascent_mean(slopes.whole)
        seen.append(gradient_norm)
        if loss is not None:
            seen.append(loss)
        lr = self.param_groups[0].get("lr", 1.0)
        self._follow(lr)
        average = self._ranks.ascent_average
        length = gradient_norm if slopes.climbed is slopes.whole else self._ranks.ascent_mean(slopes.climbed)
        known = None if parts > 1 else gradient_norm  # of parts it is the sum of their lengths
        rho = self.radius.at(
            Ascent(self._steps, lr, self._peak_lr, loss, length, params, average, self._weights, parts, known)
        )
        flight = Flight(params, [], seen, loss, rho, gradient_norm, self.perturbation.ascends(self._steps), slopes)
        self.perturbation.begin(self._steps, self.base_optimizer)
        flight.weights = self._weights.copy_of(params)
        self._flight = flight
        if flight.climbed and self.perturbation.keeps_ascent_gradient:
            held = self._ascent_gradients.copy_of(gradients_of(params))
            if average is not None:
                average(held)
            flight.ascent_gradients = dict(zip((p for p in params if p.grad is not None), held, strict=True))
        return flight

    def _descend(self, flight: Flight) -> None:
        """From g_rho at the perturbed weights to the base optimizer's step at theta."""
        params, weights = flight.params, flight.weights
        self._restore()
        gradients = gradients_of(params)
        if flight.climbed and self.radius.reads_growth(self._steps):
            sizes = [norm(gradients)]
            self.radius.see_growth(sizes[0])
        else:
            sizes = lengths(gradients)
        flight.finite = all_finite([*flight.seen, *sizes])
        ascent_gradients = flight.held_ascent_gradients()
        if flight.climbed:
            self.radius.see_perturbed_gradient(
                params, flight.rho, lambda z: self.perturbation.descent_derivative(z, gradients, ascent_gradients)
            )
        beside = self.perturbation.descent([p for p in params if p.grad is not None], gradients, ascent_gradients)
        if flight.climbed:
            self.radius.see_descent_gradient(params, beside, self._weights)
        if self.max_grad_norm is not None:
            factor, slope = clipping(gradients, self.max_grad_norm)
            if flight.climbed:
                self.radius.see_clipping(params, factor, slope, self._weights)
            scale_(gradients, factor)
        fresh = without_state(self.base_optimizer) if self.radius.learns else set[Tensor]()
        self._guard.save(self.base_optimizer, None if self.radius.validates_after(self._steps) else flight.finite)
        self.base_optimizer.step()
        if flight.climbed:
            self.radius.see_base_step(self.base_optimizer, params, weights, fresh)
        if beside is not None:
            descend_decoupled(self.base_optimizer, params, params, beside)
        self._guard.settle(self.base_optimizer, flight.finite, params, self._weights)
        self.radius.commit(flight.finite)

    def _look_back(self, flight: Flight, closure: Closure, validation_closure: Closure | None) -> None:
        """The upper level at the weights just made; the step is taken back where its passes fail."""
        params, stood = flight.params, flight.finite
        try:
            seen = self.radius.see_training(self._train(closure), params)
            seen += self.radius.see_validation(self._validate(validation_closure), params, None)
        except BaseException:
            self._guard.settle(self.base_optimizer, ~stood, params, self._weights)
            raise
        flight.finite = stood & all_finite(seen)
        self._guard.settle(self.base_optimizer, flight.finite | ~stood, params, self._weights)
        self.radius.commit(flight.finite)

    def _finish(self, flight: Flight) -> None:
        """Count the step and publish what it saw."""
        self._passes.end(flight.finite)
        self.perturbation.commit(flight.finite)
        precision.record(self._grad_scaler, self, flight.finite)
        self._steps += 1
        self._skipped = self._skipped + ~flight.finite
        self._opt_called = True  # what torch's schedulers look for when they warn of a wrong order
        self.metrics = {
            "rho": flight.rho,
            "gradient_norm": flight.gradient_norm,
            "skipped_steps": self._skipped,
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
        if self._flight is not None and self._flight.overwritten:
            self._flight = None
            self._passes.forget()
        self._restore()
        self.perturbation.discard()
        self._passes.abort()

    # --- copies and files -----------------------------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_max_grad_norm": self.max_grad_norm}

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

    def _load_own_state(self, own: dict[str, Any]) -> None:
        self._abort()
        self._reset_scratch()
        super()._load_own_state(own)
