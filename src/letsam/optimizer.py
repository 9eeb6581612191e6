"""SharpnessAware: combines perturbation, radius and base optimizer, and runs a step.

    sharpness-aware optimizer  =  perturbation  x  radius  x  base optimizer

- a *perturbation* determines the direction of the ascent and the gradient of the descent (`letsam.perturbations`);
- a *radius* determines the length of the ascent: fixed, scheduled or learned (`letsam.radius`);
- the *base optimizer* is any `torch.optim.Optimizer`. It is wrapped, and shares its `param_groups` and `state`.

Three examples:

    SAM              SharpnessAware(SGD(...), SAMPerturbation(), 0.05)
    ASAM, AdamW      SharpnessAware(AdamW(...), ASAMPerturbation(), CosineRadius(0.5, 0.1, steps=1000))
    LETS-SAM         SharpnessAware(SGD(...), SAMPerturbation(), LearnedRadius(0.05))

A step climbs from the weights theta to theta + rho eps_hat (`letsam.step.ascent`) and computes the gradient there. It
then restores theta, and the base optimizer descends with that gradient (`letsam.step.descent`). For a learned radius,
the step also builds the tangent Z = d theta' / d rho (`letsam.tangent`); the radius is given scalars only. All training
passes of a step use the same dropout masks, and only the first one changes the state of modules and random generators
(`letsam.step.replay`). The host reads no value during a step: the radius, the losses and the decision to skip a step
that is not finite stay on the device.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from . import checks
from .closures import Closure, SkipStep, checked_closure, require_gradients
from .docs.explaining import explained
from .perturbations import Perturbation
from .radius import Radius
from .step import precision
from .step.activity import Active, checked_active
from .step.ascent import AscentPhase
from .step.descent import DescentPhase
from .step.parts import Parts
from .step.passes import Passes
from .step.ranks import Group, Ranks
from .step.record import StepRecord
from .step.snapshot import checked_model
from .step.wrapper import Wrapper
from .tangent import Tangent

__all__ = ["Closure", "SharpnessAware"]


# Dynamo drops attributes that an optimizer sets on itself, so a traced step would not restore the unperturbed weights.
# (torch's optimizers use the same decorator; the public `torch.compiler.disable` would import the compiler.)
not_traced = torch._disable_dynamo  # pyright: ignore[reportPrivateUsage, reportPrivateImportUsage]


class SharpnessAware(Wrapper):
    """theta <- base(theta, g_rho) with g_rho = grad L(theta + rho eps_hat), the gradient at the perturbed weights.

    Args:
        base_optimizer: any `torch.optim.Optimizer` whose step needs no closure, made from the model's parameters. Its
            param groups with `perturb=False` are trained but not perturbed (see `letsam.param_groups`). Or a list of
            optimizers of different weights, which step together and are perturbed as one (`letsam.SAM([muon, adamw])`);
            the learning rate that radii follow is that of the first group.
        perturbation: direction and descent rule, a `letsam.perturbations.Perturbation`.
        rho: a number > 0 (0 gives the base optimizer's own steps), a schedule or a `LearnedRadius`; copied.
        validation_closure: used by `step` if it is not given one.
        model: the network, wrapped (DDP, Fabric, `torch.compile`) or not. What passes change on its modules (buffers,
            such as BatchNorm's running statistics, plain attributes, frozen parameters) then counts once per step, in
            the first training pass, and modes are put back (docs/how-to/state-of-modules.md). In a skipped step the
            tensors among it do not change. None: it changes in every pass, including validation passes.
        max_grad_norm: > 0, clips the total norm of the gradient that the base optimizer descends with, as
            `torch.nn.utils.clip_grad_norm_` does (the ascent needs no clipping: its length is rho); None: no clipping.
        process_group: the processes over which losses are averaged: "default", torch's default group if
            torch.distributed is initialized; a `ProcessGroup`; or None, for runs that are independent of each other.
        m_sharpness: each process climbs along the gradient of its own batch, and each micro-batch of a closure from
            `letsam.accumulated` along its own gradient (m-SAM). With several processes, `model` must be or contain a
            DDP. The radius is the same for all. Micro-batches cannot be combined with perturbations that keep state
            from step to step.
        active: the steps that may perturb the weights: a `range` of step numbers (from 0), or a function that returns
            True or False for a step number. In the others the base optimizer steps alone, in one pass, and radius and
            perturbation rest: they count active steps only. None: all steps.

    Attributes:
        base_optimizer: the wrapped optimizer; of a list, one optimizer with the attribute `optimizers`. Its attributes
            that this class lacks can be read here, too: `opt.train()` and `opt.eval()` of a schedule-free optimizer.
        radius: this optimizer's own copy of the radius.
        metrics: 0-dim tensors of the last step: training_loss, rho, gradient_norm and skipped_steps; with a learned
            radius also validation_loss, generalization_gap and hypergradient (d upper / d rho) of the last update. With
            several radii, rho and hypergradient have one value per radius.
        outputs: what the first call of the last step's closure returned besides the loss (tensors are detached), until
            the next step; a list, one entry per micro-batch, with `letsam.accumulated`; None if there was nothing.
        validation_closure: as given; may be set at any time; not part of `state_dict` or of a pickle.
        max_grad_norm: as given; may be set at any time; not part of `state_dict`.
        active: as given; may be set at any time; not part of `state_dict`.
        model: as given; may be set at any time; not part of `state_dict` or of a pickle. A deep copy refers to the
            copied model if the model was copied in the same call, before the optimizer.

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

    @explained
    def __init__(
        self,
        base_optimizer: Optimizer | Sequence[Optimizer],
        perturbation: Perturbation,
        rho: float | Radius,
        *,
        validation_closure: Closure | None = None,
        model: nn.Module | None = None,
        max_grad_norm: float | None = None,
        process_group: Group = "default",
        m_sharpness: bool = False,
        active: Active | None = None,
    ) -> None:
        super().__init__(base_optimizer)
        self._parts = Parts(self.base_optimizer, perturbation, rho)
        self.active = active
        if perturbation.perturbs != "all" and model is None:
            raise ValueError(
                f'`model` must be given for a {type(perturbation).__name__}, which perturbs "{perturbation.perturbs}" '
                "alone, got None"
            )
        ranks = Ranks(process_group, m_sharpness or (perturbation.sub_batches > 1 and process_group is not None))
        self._assemble(ranks)
        self.model = model
        ranks.check(model, self._parts.params())
        self.max_grad_norm = max_grad_norm
        self.validation_closure = validation_closure

    def _assemble(self, ranks: Ranks) -> None:
        """Make the objects that run a step: the passes and the two phases."""
        self._passes = Passes(self, ranks)
        self._ascent = AscentPhase(self._parts, self._passes)
        self._descent = DescentPhase(self._parts, self._passes)
        self._passes.leftovers.note(self._parts.params())
        self._record: StepRecord | None = None  # of the step whose weights are perturbed now
        self.outputs: Any = None

    # --- its parts ------------------------------------------------------------------------------------------------

    @property
    def perturbation(self) -> Perturbation:
        """Determines the direction of the ascent and the gradient of the descent."""
        return self._parts.perturbation

    @property
    def radius(self) -> Radius:
        """Determines the length of the ascent; this optimizer's own copy of the radius."""
        return self._parts.radius

    @property
    def tangent(self) -> Tangent | None:
        """Z of the last step; None unless the radius learns."""
        return self._parts.tangent

    @property
    def rho(self) -> Tensor:
        """The current radius, on the device of the weights: 0-dim, or one value per radius if there are several."""
        return self._parts.radius.rho

    @property
    def metrics(self) -> dict[str, Tensor]:
        """Measurements of the last step, see the class (0-dim tensors, on the device)."""
        return self._parts.metrics

    @property
    def model(self) -> nn.Module | None:
        """The network whose state changes once per step."""
        return self._passes.model

    @model.setter
    def model(self, model: nn.Module | None) -> None:
        self._passes.handle_state_of(model if model is None else checked_model(model, self._parts.params()))
        self._parts.spare(model)

    @property
    def max_grad_norm(self) -> float | None:
        """The largest total norm of the gradient that the base optimizer descends with; None: no clipping."""
        return self._max_grad_norm

    @max_grad_norm.setter
    def max_grad_norm(self, value: float | None) -> None:
        self._max_grad_norm = value if value is None else checks.positive("max_grad_norm", value)

    @property
    def active(self) -> Active | None:
        """The steps that may perturb the weights; None: all."""
        return self._parts.active

    @active.setter
    def active(self, value: Active | None) -> None:
        self._parts.active = checked_active(value)

    # --- a step ---------------------------------------------------------------------------------------------------

    @not_traced
    @explained
    @torch.no_grad()
    def step(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        closure: Closure | None = None,
        validation_closure: Closure | None = None,
        *,
        grad_scaler: torch.amp.GradScaler | None = None,
    ) -> Tensor:
        """One step: all passes, the perturbation, the base optimizer's step and the update of a learned radius.

        Args:
            closure: clears the gradients, computes the loss on the training batch, calls `backward()` and returns
                the loss, as for `torch.optim.LBFGS`, or a pair (loss, outputs). Called twice; some variants and radii
                need further passes. It may raise `letsam.SkipStep`.
            validation_closure: the same on a batch that the model is not trained on; for a learned radius.
                Defaults to `self.validation_closure`.
            grad_scaler: both closures then call `grad_scaler.scale(loss).backward()` and return the unscaled loss; the
                step unscales the gradients of every pass. Call `grad_scaler.update()` afterwards.

        Returns:
            The loss of the first call of `closure` (0-dim, detached); NaN if it raised `letsam.SkipStep`. The outputs
            of that call are in `self.outputs`.

        Raises:
            ValueError: no closure, a closure that leaves no gradients, does not scale them or returns a loss that is
                not a scalar, a learned radius without a validation closure, or gradients that were accumulated before
                the step. Nothing has changed then, with one exception: after a failed pass at perturbed weights, a
                learned radius skips its next update.
            TypeError: a closure that does not return a tensor; `grad_scaler` is not a gradient scaler.
            RuntimeError: called within a closure, or a closure has raised StopIteration. Nothing has changed then.
        """
        self._refuse_in_closure("step()")
        validation_closure = self.validation_closure if validation_closure is None else validation_closure
        closure = checked_closure(closure)
        if validation_closure is not None:
            checked_closure(validation_closure, "validation_closure")
        self._parts.check_closures(validation_closure)
        params = self._parts.trainable()
        self._passes.ranks.check(self.model, params)
        if self._record is None:  # else a loop by hand was interrupted, and its gradients are of no use
            self._passes.leftovers.check(params)
        self._passes.scale_by(grad_scaler)
        self._abort()
        self._parts.place()
        record = self._parts.record(params)
        batches = self._ascent.batches(closure, record)
        self.outputs = None  # so that those of the step before do not use memory during this one
        try:
            self._under_way = True
            self._passes.begin(record.params)
            evidence = self._ascent.validate(record, validation_closure)
            self._ascent.first_pass(record, closure, batches)
            self._ascent.set_radius(record, evidence, len(batches))
            self._record = record
            if record.climbs:
                self._ascent.climb(record, closure, batches)
            self._restore()
            self._descent.descend(record, self.max_grad_norm)
            if record.wants.validation == "after":
                assert validation_closure is not None
                self._descent.evaluate_update(record, closure, validation_closure)
        except SkipStep:
            self._abort()
            self._passes.skip()
            self._passes.leftovers.step_ended(params)
            return self.rho.new_full((), torch.nan)
        except BaseException:
            self._abort()
            self._passes.leftovers.step_ended(params)
            raise
        finally:
            self._under_way = False
        self._finish(record)
        assert record.loss is not None  # a step of one pass climbs
        return record.loss

    @not_traced
    @explained
    @torch.no_grad()
    def ascent_step(self, *, grad_scaler: torch.amp.GradScaler | None = None) -> None:
        """Climb: perturb the weights by rho eps_hat along the current gradients, and clear the gradients.

        For training loops without closures; fixed and scheduled radii only. With `model`, the state of its modules
        stays as the first pass left it. For equal dropout masks in both passes, use `letsam.ReplayedRandomness`.

        Args:
            grad_scaler: the scaler of the loss, with which the gradients are unscaled. Pass it to `descent_step` too.

        Raises:
            ValueError: there are no gradients; or the radius is learned, or the perturbation has several ascents or
                is Functional SAM, which takes passes that only `step` can make.
            RuntimeError: the weights are already perturbed, or this is called within a closure of `step`.
        """
        self._refuse_in_closure("ascent_step()")
        if self.radius.learns or self._parts.wants().validation:
            raise ValueError(
                "`rho` must be fixed or scheduled for ascent_step(); a learned radius needs step(closure, ...)"
            )
        if self.perturbation.ascents > 1:
            raise ValueError(
                f"`perturbation` must have one ascent for ascent_step(), got {self.perturbation.ascents}: it needs "
                "step(closure)"
            )
        if self.perturbation.keeps_cotangents:
            raise ValueError(
                f"`perturbation` is {self.perturbation.kind}, which needs step(closure), got ascent_step()"
            )
        if self._record is not None and self._record.overwritten:
            self._abort()  # the step was interrupted, and a checkpoint has been loaded since
        if self._record is not None:
            raise RuntimeError("ascent_step() was called twice: call descent_step() after the second backward()")
        passes, parts = self._passes, self._parts
        passes.ranks.check(self.model, parts.params())
        parts.place()
        record = parts.record(parts.trainable())
        require_gradients(record.params, "the backward() before ascent_step()")
        precision.unscale_(checks.checked_scaler(grad_scaler), self, record.params)
        passes.scale_by(grad_scaler)  # after unscaling: it may update the scale
        passes.replay.begin((), record.params)
        record.norms = self._ascent.norms(record.params)
        self._ascent.set_radius(record, None, 1)
        self._record = record
        if record.climbs:
            self._ascent.move(record, record.norms)
        record.versions = [param._version for param in record.params]
        self.zero_grad()
        torch.clear_autocast_cache()

    @not_traced
    @explained
    @torch.no_grad()
    def descent_step(self, *, grad_scaler: torch.amp.GradScaler | None = None) -> None:
        """Descend: restore the weights and take the base optimizer's step with the current gradients.

        Args:
            grad_scaler: the same as for `ascent_step`. Call `grad_scaler.update()` afterwards.

        Raises:
            RuntimeError: there was no `ascent_step()` before.
            ValueError: a different `grad_scaler`, or there are no gradients; in the latter case the weights have been
                restored.
        """
        self._refuse_in_closure("descent_step()")
        record = self._record
        if record is None:
            raise RuntimeError("descent_step() needs an ascent_step() before it")
        if checks.checked_scaler(grad_scaler) is not self._passes.scaler:
            raise ValueError(f"`grad_scaler` must be the one of ascent_step(), got {checks.shown(grad_scaler)}")
        try:
            require_gradients(record.params, "the backward() before descent_step()")
            self._passes.unscale_(record.params)
        except ValueError:
            self._abort()
            raise
        self._restore()
        self._descent.descend(record, self.max_grad_norm)
        self._finish(record)

    @not_traced
    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clear the gradients (see `torch.optim.Optimizer.zero_grad`)."""
        if set_to_none and not torch.autograd.profiler._is_profiler_enabled:  # pyright: ignore[reportPrivateUsage]
            for group in self.param_groups:  # torch's own makes an entry for profiles, which takes longer than this
                for param in group["params"]:
                    param.grad = None
            return
        super().zero_grad(set_to_none)
        if not set_to_none:
            self._passes.leftovers.note(self._parts.params())

    def _finish(self, record: StepRecord) -> None:
        """Count the step and publish its metrics."""
        self._descent.report_overflow(record)
        self._passes.end(record.finite, record.held_out)
        self._passes.leftovers.step_ended(record.params)
        self._parts.commit(record)
        self.outputs = record.outputs
        self._opt_called = True  # torch's schedulers read it to warn of a wrong order of calls
        metrics = {"rho": record.rho, "gradient_norm": record.gradient_norm, "skipped_steps": self._parts.skipped}
        if record.loss is not None:
            metrics["training_loss"] = record.loss
        self._parts.metrics = metrics | self.radius.metrics() | ({} if record.active else {"rho": record.rho})

    def _restore(self) -> None:
        """Restore the unperturbed weights, then forget the step: in this order, so that an interrupt loses nothing."""
        if self._record is not None:
            self._record.restore()
            self._record = None

    def _abort(self) -> None:
        """Undo a step that has not ended: a pass has raised, or the loop did not call `descent_step`."""
        if self._record is not None and self._record.overwritten:
            self._record = None
            self._passes.replay.forget()
        self._restore()
        self._parts.discard()
        self._passes.replay.abort()

    # --- copies and files -----------------------------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        return {
            "base_optimizer": self.base_optimizer,
            "_parts": self._parts,
            "_max_grad_norm": self.max_grad_norm,
            "_ranks": self._passes.ranks,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        ranks, parts = state.pop("_ranks"), copy.copy(state.pop("_parts"))  # so that a shallow copy has its own parts
        super().__setstate__(state)
        self._parts = parts
        self.validation_closure = None
        self._assemble(ranks)

    def __deepcopy__(self, memo: dict[int, Any]) -> SharpnessAware:
        twin = type(self).__new__(type(self))
        memo[id(self)] = twin
        twin.__setstate__(copy.deepcopy(self.__getstate__(), memo))
        twin.model = memo.get(id(self.model))
        return twin

    def _group_added(self) -> None:
        self._parts.group_added()
        self._passes.leftovers.note(self._parts.params())
        self.model = self.model  # determines again which weights are perturbed

    def _own_state(self) -> dict[str, Any]:
        return self._parts.state_dict()

    def _check_own_state(self, own: dict[str, Any]) -> None:
        self._refuse_in_closure("load_state_dict()")
        self._parts.check_state(own)

    def _check_groups(self, groups: list[dict[str, Any]]) -> None:
        self._parts.check_groups(groups)

    def _load_own_state(self, own: dict[str, Any]) -> None:
        self._abort()
        self._parts.reset_scratch()
        self._parts.load_state_dict(own)
