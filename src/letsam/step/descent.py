"""The descent: from g_rho at the perturbed weights to the base optimizer's step at theta, and undoing that step."""

from __future__ import annotations

from torch import Tensor

from ..closures import Closure, SkipStep
from ..perturbations import Perturbation
from ..perturbations.decoupled import descend_decoupled
from ..radius import Evidence
from ..tensors import Tensors, all_finite, finite_from, gradients_of, lengths, norm, scale_
from .clipping import clipping
from .parts import Parts
from .passes import Passes
from .record import StepRecord
from .undo import without_state


class DescentPhase:
    """From the gradient at the perturbed weights to the new weights, which are kept only if the step was finite.

    Args:
        parts: perturbation, radius, tangent and base optimizer.
        passes: runs the closures.
    """

    def __init__(self, parts: Parts, passes: Passes) -> None:
        self._parts, self._passes = parts, passes

    def descend(self, record: StepRecord, max_grad_norm: float | None) -> None:
        """Take the base optimizer's step from the restored weights; it is undone, on the device, if not finite."""
        params, parts, tangent = record.params, self._parts, record.tangent
        gradients = gradients_of(params)
        self._check_finite(record, gradients)
        self._report_ascent(record)
        ascent_gradients, perturbation = record.held_ascent_gradients(), parts.perturbation
        if tangent is not None:
            tangent.differentiate(
                params, record.rho, lambda z: perturbation.descent_derivative(z, gradients, ascent_gradients)
            )
        decoupled = None
        if record.wants.climbs:
            decoupled = perturbation.descent([p for p in params if p.grad is not None], gradients, ascent_gradients)
            if type(perturbation).descent is not Perturbation.descent:  # finite gradients may have become infinite
                record.finite = record.finite & all_finite(lengths([*gradients, *(decoupled or ())]))
        if tangent is not None:
            tangent.project(params, decoupled, parts.weights)
        if max_grad_norm is not None:
            factor, slope = clipping(gradients, max_grad_norm)
            if tangent is not None:
                tangent.clip(params, factor, slope, parts.weights)
            scale_(gradients, factor)
        self._step_base(record, decoupled)

    def evaluate_update(self, record: StepRecord, closure: Closure, validation_closure: Closure) -> None:
        """Update the radius with losses at the new weights; the step is undone if one of these passes fails."""
        params, parts, finite = record.params, self._parts, record.finite
        try:
            training_loss = self._passes.train(closure, params).loss
            if record.wants.training_slope:
                training_slope, training_norm = parts.slope(params)
            else:
                training_slope, training_norm = None, norm(gradients_of(params))
            loss, gain = self._held_out_loss(record, validation_closure)
            validation_slope, validation_norm = (None, training_norm) if loss is None else parts.slope(params)
        except BaseException:
            if parts.tangent is not None:
                parts.tangent.expire()  # Z belongs to weights that are undone
            parts.guard.settle(parts.base, ~finite, params, parts.weights)
            raise
        usable = finite if record.moved is None else finite & record.moved
        if loss is not None:
            record.held_out = all_finite([loss, validation_norm])
            parts.radius.update(
                Evidence(
                    *(record.step, record.lr, record.peak_lr, training_loss, loss),
                    validation_slope=validation_slope,
                    training_slope=training_slope,
                    usable=usable & record.held_out,
                    gain=gain,
                    label_noise=record.wants.label_noise,
                )
            )
        if parts.tangent is not None:
            parts.tangent.expire()
        record.finite = finite & all_finite([training_loss, training_norm])
        parts.guard.settle(parts.base, record.finite | ~finite, params, parts.weights)

    def _held_out_loss(self, record: StepRecord, closure: Closure) -> tuple[Tensor | None, Tensor | None]:
        """The loss of the validation pass, None if its batch is to be skipped, and its gain with random labels."""
        try:
            return self._passes.validate(closure, record.params, record.step, record.wants)
        except SkipStep:
            return None, None

    def _check_finite(self, record: StepRecord, gradients: list[Tensor]) -> None:
        """Check that all passes were finite. If the radius wants the growth, ||g_rho|| serves for both."""
        if record.climbs and record.norm_before is not None:
            sizes = [norm(gradients)]
            record.growth = sizes[0] - record.norm_before
        else:
            sizes = lengths(gradients)
        if record.tangent is None:
            record.finite = all_finite([*record.seen, *sizes])
        else:
            record.finite_at_weights, record.finite = finite_from([*record.seen, *sizes], record.first)

    def report_overflow(self, record: StepRecord) -> None:
        """Report to a learned radius whether the step was finite at the weights and not after the perturbation.

        With a gradient scaler, gradients may overflow because of the scale, which then decreases. So the losses decide,
        unless the scale is 1 or less.
        """
        if record.finite_at_weights is None:
            return
        overflow, scale = record.finite_at_weights > record.finite, self._passes.scale
        if scale is not None:
            overflow = overflow & (~all_finite(record.perturbed) | (scale <= 1))
        seen = record.step, record.lr, record.peak_lr, record.loss
        self._parts.radius.update(Evidence(*seen, overflow=overflow.to(record.rho.dtype)))

    def _report_ascent(self, record: StepRecord) -> None:
        """Report to the radius how far the perturbation reached and how much the gradient norm grew."""
        if record.reach is not None:
            seen = record.step, record.lr, record.peak_lr, record.loss
            self._parts.radius.update(Evidence(*seen, reach=record.reach, climbs=record.moved, growth=record.growth))

    def _step_base(self, record: StepRecord, decoupled: Tensors | None) -> None:
        """The base optimizer's step and the decoupled term; undone if the step was not finite."""
        params, parts, base = record.params, self._parts, self._parts.base
        fresh = set[Tensor]() if record.tangent is None else without_state(base)
        self._passes.conclude(record.finite)
        if not parts.guard.save(base, record.finite, params, later=record.wants.validation == "after"):
            return
        try:
            base.step()
            if record.tangent is not None:
                record.tangent.step(base, params, record.weights, fresh)
            if decoupled is not None:
                descend_decoupled(base, params, params, decoupled)
            parts.guard.settle(base, record.finite, params, parts.weights)
        except BaseException as error:
            error.add_note(f"This was raised in the step of the base optimizer, {type(base).__name__}.")
            parts.guard.interrupt(base, params, parts.weights)
            raise
        parts.guard.judge(base)
