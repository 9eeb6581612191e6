"""The ascent: from the weights theta to the gradient at the perturbed weights.

    the whole batch                             each micro-batch separately (m-SAM)

    pass at theta              g_0, L           pass of each at theta, if the gradient of the whole batch is needed
    radius                     rho              radius
    theta + rho eps_hat(g_0)                    for each: pass at theta, its own ascent, pass at its perturbed weights,
    pass there                 g_rho            back to theta; the gradients of these passes add up to g_rho

A perturbation with k ascents moves by rho / k in each of them, along the gradient at the current point.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import compress
from typing import Any

import torch
from torch import Tensor

from ..closures import Closure, Returned, SkipStep, ascent_of, outputs_of, parts_of
from ..perturbations import Perturbation
from ..perturbations.units import in_units
from ..radius import Ascent, Evidence
from ..tensors import add_consuming_, cast_factor, gradients_of, norm, zero_
from .kept_cotangents import KeptCotangents
from .parts import Parts
from .passes import Passes
from .record import GradientNorms, StepRecord


class AscentPhase:
    """From the weights theta to the gradient g_rho at theta + rho eps_hat.

    Args:
        parts: perturbation, radius and tangent.
        passes: runs the closures.
    """

    def __init__(self, parts: Parts, passes: Passes) -> None:
        self._parts, self._passes, self._ranks = parts, passes, passes.ranks
        self._cotangents = KeptCotangents()

    # --- at the weights ---------------------------------------------------------------------------------------------

    def batches(self, closure: Closure, record: StepRecord) -> tuple[Closure, ...]:
        """The closures that climb along their own gradients: one per micro-batch with m-SAM, else the whole batch."""
        perturbation = self._parts.perturbation
        apart = self._ranks.m_sharpness or perturbation.sub_batches > 1
        if not (apart and record.climbs):
            return (closure,)
        if ascent_of(closure) is not None:
            raise ValueError("`closure` must not climb with a part of the batch for `m_sharpness`, got one that does")
        batches = parts_of(closure)
        if len(batches) > 1 and type(perturbation).commit is not Perturbation.commit:
            raise ValueError(
                f"`m_sharpness` over micro-batches needs a perturbation that remembers nothing, as each of the "
                f"{len(batches)} would be taken for a step, got {type(perturbation).__name__}"
            )
        return batches

    def validate(self, record: StepRecord, closure: Closure | None) -> Evidence | None:
        """The validation pass at the beginning of a step, at the weights that the previous step produced."""
        if record.wants.validation != "before":
            return None
        assert closure is not None
        parts = self._parts
        try:
            loss, gain = self._passes.validate(closure, record.params, record.step, record.wants)
        except SkipStep:
            return None
        slope, length = parts.slope(record.params, parts.weights)
        usable = record.held_out = torch.hypot(loss.to(length.device), length) < torch.inf
        if parts.tangent is not None:
            usable = usable & parts.tangent.usable
        return Evidence(
            *(record.step, 1.0, 1.0),
            validation_loss=loss,
            validation_slope=slope,
            usable=usable,
            gain=gain,
            label_noise=record.wants.label_noise,
        )

    def first_pass(self, record: StepRecord, closure: Closure, batches: Sequence[Closure]) -> None:
        """The pass at the weights, if the perturbation or the radius of this step needs it; sets loss and norms.

        Without the pass, `record.loss` stays None. Micro-batches that climb separately make passes of their own later;
        the gradient of the whole batch is then needed only by a perturbation that descends with it.
        """
        params, apart, perturbation = record.params, len(batches) > 1, self._parts.perturbation
        needed = perturbation.keeps_ascent_gradient if apart else perturbation.follows_gradient
        if record.climbs and not (needed or record.wants.first_pass):
            for param in params:
                param.grad = torch.zeros_like(param)  # eps_hat will be written here
        elif apart:
            passes = [(first, norms) for _, first, norms in self._one_by_one(params, batches)]
            seen = [(first.loss, norms.whole, norms.climbed) for first, norms in passes]
            loss, whole, climbed = (torch.stack(values).sum() for values in zip(*seen, strict=True))
            record.loss, record.norms = loss, GradientNorms(self._parts.moves(params), whole, climbed)
            record.outputs = outputs_of([first.outputs for first, _ in passes])
            return
        else:
            with self._passes.along_own_gradient(record.climbs):
                record.loss, record.outputs = self._first(self._for_ascent(record, closure), params)
            self._passes.replay.keep()
        record.norms = self.norms(params)

    def _for_ascent(self, record: StepRecord, closure: Closure) -> Closure:
        """The closure of the first pass: on a part of the batch, if it has one and nothing else needs the whole."""
        part, perturbation, wants = ascent_of(closure), self._parts.perturbation, record.wants
        if part is None or not record.climbs:
            return closure
        if perturbation.keeps_ascent_gradient or perturbation.keeps_cotangents:
            raise ValueError(
                "`closure` must not climb with a part of the batch, as with letsam.subset_ascent, for a "
                f"{type(perturbation).__name__}, which uses the first gradient for the descent, too"
            )
        compares = wants.training_slope and wants.validation is not None
        return closure if wants.tangent or wants.growth or compares else part

    def norms(self, params: list[Tensor]) -> GradientNorms:
        """Which weights are perturbed, and the norms of the gradients at the weights."""
        moves = self._parts.moves(params)
        moved, present = list(compress(params, moves)), gradients_of(params)
        if not moved:
            raise ValueError("there must be gradients in weights that are perturbed, got them in `perturb=False` only")
        whole = norm(present)
        return GradientNorms(moves, whole, whole if len(moved) == len(present) else norm(gradients_of(moved)))

    def set_radius(self, record: StepRecord, evidence: Evidence | None, batches: int) -> None:
        """Determine the radius from the pass at the weights, then copy the weights for the way back.

        Args:
            record: of the step.
            evidence: of the validation pass of this step, without the training loss; None if there was none.
            batches: number of batches that climb separately.
        """
        parts, norms, average = self._parts, record.norms, self._ranks.ascent_average
        self._ranks.check_agreement(norms.whole)
        record.gradient_norm = self._ranks.ascent_mean(norms.whole)
        record.seen.append(record.gradient_norm)
        if record.loss is not None:
            record.seen.append(record.loss)
        parts.follow_lr(record)
        length = record.gradient_norm if norms.climbed is norms.whole else self._ranks.ascent_mean(norms.climbed)
        if record.wants.growth and record.loss is not None and average is None:
            # a sum of the norms of several batches is not the norm of their sum
            record.norm_before = record.gradient_norm if batches == 1 else norm(gradients_of(record.params))
        record.first = len(record.seen)
        if evidence is not None:
            self._update_radius(record, evidence)
        if parts.tangent is not None:
            parts.tangent.expire()
        if record.tangent is not None:
            record.tangent.begin(record.params, average)
        if record.active:
            ascent = Ascent(record.step, record.lr, record.peak_lr, record.loss, length, len(record.params))
            record.rho = parts.radius.at(ascent)
        else:
            record.rho = torch.zeros_like(parts.radius.rho)
        if record.wants.climbs:
            parts.perturbation.begin(record.turn, parts.base)
        record.weights = parts.weights.copy_of(record.params)
        self._hold_gradients(record)

    def _hold_gradients(self, record: StepRecord) -> None:
        """Copy g_0 for a perturbation that descends with it."""
        if not (record.climbs and self._parts.perturbation.keeps_ascent_gradient):
            return
        params, average = record.params, self._ranks.ascent_average
        held = self._parts.ascent_gradients.copy_of(gradients_of(params))
        if average is not None:
            average(held)
        record.ascent_gradients = dict(zip((p for p in params if p.grad is not None), held, strict=True))

    def _first(self, closure: Closure, params: list[Tensor]) -> Returned:
        """A pass at the weights; Functional SAM keeps its gradient at the outputs."""
        kept = self._cotangents if self._parts.perturbation.keeps_cotangents else None
        returned = self._passes.train(closure, params, None if kept is None else kept.keeping)
        if kept is not None and not kept.keeping.found:
            name = type(self._parts.perturbation).__name__
            raise ValueError(f"`closure` must call a module with parameters, whose outputs {name} needs, got none")
        return returned

    def _perturbed(self, closure: Closure, params: list[Tensor]) -> Returned:
        """A pass at perturbed weights; that of Functional SAM has the gradient at the outputs of the first pass."""
        reuses = self._parts.perturbation.keeps_cotangents
        return self._passes.train(closure, params, self._cotangents.reusing if reuses else None)

    # --- to the perturbed weights -----------------------------------------------------------------------------------

    def climb(self, record: StepRecord, closure: Closure, batches: Sequence[Closure]) -> None:
        """From g_0 at the weights to g_rho at the perturbed weights."""
        if len(batches) > 1:
            self._climb_apart(record, batches)
            return
        perturbed = self._climb_once(record, record.norms, closure, 1)
        if record.loss is None:
            record.loss, record.outputs = perturbed
            record.gradient_norm = norm(gradients_of(record.params))
            self._ranks.check_agreement(record.gradient_norm)
            self._passes.replay.keep()

    def move(self, record: StepRecord, norms: GradientNorms, batches: int = 1) -> None:
        """Perturb the weights along the current gradients, which are overwritten; each of k ascents goes rho / k."""
        params, rho, perturbation = record.params, record.rho, self._parts.perturbation
        zero_(gradients_of([p for p, moving in zip(params, norms.moves, strict=True) if not moving]))  # eps_hat
        moved = list(compress(params, norms.moves))
        gradients = gradients_of(moved)
        given = perturbation.direction(moved, gradients, norms.climbed)
        factor, reach = in_units(
            self._parts.radius.units,
            list(compress(record.weights, norms.moves)),
            gradients,
            given,
            lambda: perturbation.reach(gradients, given, norms.climbed),
        )
        if rho.ndim:
            rho = torch.stack(list(compress(rho.unbind(), norms.moves)))
        if perturbation.ascents == 1:
            self._measure_direction(record, factor, reach, batches)
        else:
            factor = factor / perturbation.ascents
            for param, gradient in zip(moved, gradients, strict=True):
                part = gradient * cast_factor(factor, gradient.dtype)
                record.eps_hat[param] = record.eps_hat[param].add_(part) if param in record.eps_hat else part
        add_consuming_(moved, gradients, rho * factor)

    def _climb_apart(self, record: StepRecord, batches: Sequence[Closure]) -> None:
        """Climb with each batch separately, from theta along its own gradient; the gradients found there add up."""
        seen: list[tuple[Tensor, Tensor]] = []
        outputs: list[Any] = []
        for batch, first, norms in self._one_by_one(record.params, batches):
            seen.append((first.loss, norms.whole))
            outputs.append(first.outputs)
            self._climb_once(record, norms, batch, len(batches))
            record.restore()
        loss, length = (torch.stack(values).sum() for values in zip(*seen, strict=True))
        if record.loss is None:
            record.loss, record.gradient_norm = loss, self._ranks.ascent_mean(length)
            record.outputs = outputs_of(outputs)
        record.seen += [record.loss, record.gradient_norm]

    def _climb_once(self, record: StepRecord, norms: GradientNorms, closure: Closure, batches: int) -> Returned:
        """One climb along the current gradients, with all its passes; returns the one at the perturbed weights."""
        self.move(record, norms, batches)
        self._further_ascents(record, closure, batches)
        if record.tangent is not None:
            record.tangent.probe(record.params, record.weights, record.rho, lambda: self._probe(closure, record))
        perturbed = self._perturbed(closure, record.params)
        record.seen.append(perturbed.loss)
        record.perturbed.append(perturbed.loss)
        return perturbed

    def _further_ascents(self, record: StepRecord, closure: Closure, batches: int) -> None:
        """The ascents after the first one, each along the gradient at the current point."""
        if self._parts.perturbation.ascents == 1:
            return
        for _ in range(1, self._parts.perturbation.ascents):
            with self._passes.along_own_gradient():
                record.seen.append(self._perturbed(closure, record.params).loss)
            self.move(record, self.norms(record.params), batches)
        for param in record.params:
            param.grad = record.eps_hat.pop(param, None)
        whole = gradients_of(record.params)
        self._measure_direction(record, torch.ones_like(record.gradient_norm), lambda: norm(whole), batches)

    def _one_by_one(
        self, params: list[Tensor], batches: Sequence[Closure]
    ) -> Iterator[tuple[Closure, Returned, GradientNorms]]:
        """Run a pass for each batch and yield it with its norms; at the end, the gradients of all batches are summed.

        The sum is of the gradients in place when the caller asks for the next batch, not of those of this pass.
        """
        total = self._parts.sum
        total.clear()
        for batch in batches:
            with self._passes.along_own_gradient():
                first = self._first(batch, params)
            self._passes.replay.keep()
            yield batch, first, self.norms(params)
            total.add(params)
            self._passes.replay.next_part()
        self._passes.replay.whole_batch()
        total.put(params)

    # --- what the radius and the tangent are given ------------------------------------------------------------------

    def _update_radius(self, record: StepRecord, evidence: Evidence) -> None:
        """Update the radius: the first training pass adds what the validation pass could not measure."""
        slope = None
        if record.wants.training_slope:
            slope, _ = self._parts.slope(record.params, self._parts.weights, self._ranks.ascent_average)
        self._parts.radius.update(
            replace(evidence, lr=record.lr, peak_lr=record.peak_lr, training_loss=record.loss, training_slope=slope)
        )

    def _measure_direction(self, record: StepRecord, factor: Tensor, reach: Callable[[], Tensor], batches: int) -> None:
        """Measure the reach of the perturbation and pass eps_hat to the tangent; the gradients are eps_hat / factor."""
        if record.tangent is None and not record.measures_reach:
            return
        moved = factor != 0
        record.moved = moved if record.moved is None else record.moved | moved
        if record.measures_reach:
            last = self._parts.radius.reach
            found = torch.where(moved, reach().to(last.dtype), last)
            if self._ranks.ascent_average is not None:
                self._ranks.average([found])
            if batches > 1:
                found = found / batches
            record.reach = found if record.reach is None else record.reach + found
        if record.tangent is not None:
            record.tangent.climb(record.params, factor, batches)

    def _probe(self, closure: Closure, record: StepRecord) -> Tensor:
        """A further training pass at perturbed weights, for estimators that probe."""
        loss = self._perturbed(closure, record.params).loss
        record.seen += [loss, norm(gradients_of(record.params))]
        return loss
