"""One function per kind of mistake; each yields a finding, or nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..closures.closure import Closure
from ..joint import optimizers_in
from ..optimizer import SharpnessAware
from ..radius import LearnedRadius, LogAdam, LossBudgetRadius, radius_warning
from ..step.activity import is_active
from ..tangent.registered_rules import BUILT_IN, is_differentiated
from ..tensors import norm

# Relative difference. Two passes over the same batch with the same random numbers differ by the order of summation, up
# to 1e-3 of the gradient in bf16; passes over different or differently augmented batches differ far more.
DIFFERENT = 1e-2
# Relative difference. Losses and gradients of two different batches never agree this closely, even for large batches.
EQUAL = 1e-4
# A perturbation with half the norm of the weights yields a different network. Usual ones are below a tenth.
LARGEST_SHARE = 0.5
# Fraction of the entries with a gradient. If more than half do not move, the second pass nearly repeats the first.
LARGEST_UNMOVED = 0.5
STEPS_AHEAD = 1000  # in which `active` is looked at
# Relative to the first-order change of the loss by the perturbation: 1 to 1,000 in training, more on a plateau.
LARGEST_LOSS = 1e5
SHOWN_NAMES = 3


@dataclass(frozen=True)
class Finding:
    """A mistake, or likely mistake, in a training loop.

    Attributes:
        code: the kind of mistake, in one hyphenated word; stable across versions.
        message: what is wrong, and what to change.
        severity: "error" (the method does not work, or training is wrong) or "warning" (it may be intended).
        page: of the documentation, which explains it; `letsam docs PAGE` shows it.

    Example:
        >>> print(Finding("no-return", "`closure` returns nothing: end it with `return loss`"))
        error: `closure` returns nothing: end it with `return loss` [no-return; letsam docs how-to/doctor]
    """

    code: str
    message: str
    severity: Literal["error", "warning"] = "error"
    page: str = "how-to/doctor"

    def __str__(self) -> str:
        return f"{self.severity}: {self.message} [{self.code}; letsam docs {self.page}]"


@dataclass(frozen=True)
class Pass:
    """The results of one call of a closure.

    Attributes:
        name: name of the closure.
        loss: 0-dim.
        weights: the values of the optimizer's trainable parameters before any pass.
        gradients: one per weight; None for a weight without one.
        moved: names of the buffers, attributes and frozen parameters that the call has changed, and their modules.
        modes: names of the modules whose training modes it has changed.
        drew: names of the generators outside torch that the call has drawn from.
        touched: names of attributes that it has changed and that a step cannot put back.
        renormed: names of the weights that it has changed itself.
    """

    name: str
    loss: Tensor
    weights: Sequence[Tensor]
    gradients: Sequence[Tensor | None]
    moved: Sequence[tuple[str, nn.Module]] = ()
    modes: Sequence[str] = ()
    drew: Sequence[str] = ()
    touched: Sequence[str] = ()
    renormed: Sequence[str] = ()

    @property
    def present(self) -> list[Tensor]:
        """The gradients that exist."""
        return [g for g in self.gradients if g is not None]

    def finite(self) -> bool:
        """Whether the loss and all gradients are finite."""
        return bool(self.loss.isfinite() & norm(self.present).isfinite())

    def distance(self, other: Pass, factor: float = 1.0) -> float:
        """Relative distance of the gradients from `factor` times those of another pass."""
        pairs = [
            (torch.zeros_like(w) if g is None else g, torch.zeros_like(w) if h is None else factor * h)
            for w, g, h in zip(self.weights, self.gradients, other.gradients, strict=True)
        ]
        length = norm([h for _, h in pairs])
        return float(norm([g - h for g, h in pairs]) / length) if length > 0 else 0.0

    def loss_distance(self, other: Pass) -> float:
        """Relative distance of the loss from that of another pass."""
        return float((self.loss - other.loss).abs() / other.loss.abs().clamp(min=torch.finfo(other.loss.dtype).tiny))


# --- one closure ----------------------------------------------------------------------------------------------------


def not_finite(here: Pass) -> Iterator[Finding]:
    """The loss or a gradient is not finite, so every step, or every update of the radius, would be skipped."""
    if not here.finite():
        what = "a gradient" if here.loss.isfinite() else f"the loss ({float(here.loss)})"
        skipped = "whole step" if here.name == "closure" else "update of the radius"
        yield Finding(
            "not-finite",
            f"`{here.name}`: {what} is not finite, so the {skipped} would be skipped: look for a division by zero, "
            "a logarithm of zero or an overflow in the data, the weights or the loss",
        )


def not_recomputed(here: Pass, there: Pass | None) -> Iterator[Finding]:
    """The closure returns stored results, so the second pass would not see the perturbed weights."""
    if there is None or not here.finite():
        return
    same_loss = torch.equal(here.loss, there.loss)
    same_gradients = all(
        g is h or (g is not None and h is not None and torch.equal(g, h))
        for g, h in zip(here.gradients, there.gradients, strict=True)
    )
    if same_loss and same_gradients:
        yield stale(here.name, "it returns the same loss and gradients at other weights")
    elif same_loss:
        yield stale(here.name, "it returns the same loss at other weights, with different gradients", "warning")
    elif same_gradients:
        what = "its gradients are the same at other weights (correct only if the loss is linear in the weights)"
        yield stale(here.name, what, "warning")


def stale(name: str, what: str, severity: Literal["error", "warning"] = "error") -> Finding:
    """The finding for a closure that reuses earlier results."""
    return Finding(
        "not-recomputed",
        f"`{name}` must recompute the loss at every call, but {what}: move the model's forward pass and backward() "
        "into it",
        severity,
    )


def not_deterministic(here: Pass, again: Pass) -> Iterator[Finding]:
    """Two passes at the same weights differ; all training passes of a step must be the same function of the weights."""
    if not here.finite() or max(again.distance(here), again.loss_distance(here)) <= DIFFERENT:
        return
    cause = f" (it draws from {' and '.join(here.drew)})" if here.drew else ""
    if here.touched:
        cause += (
            f" (it changes {listed(here.touched)}, which is not put back before the next pass because it is not a "
            "number, a tensor, or a list or dict of these)"
        )
    yield Finding(
        "not-deterministic",
        f"`{here.name}` gives a different loss when it is called again at the same weights{cause}: all passes of a "
        "step must see the same batch. Draw and augment it before the step; only torch's global generators are "
        "replayed",
    )


def gradients_not_cleared(here: Pass, onto: Pass) -> Iterator[Finding]:
    """A warning: the closure does not clear the gradients. `step` does, manual loops and other optimizers do not."""
    if here.finite() and norm(here.present) > 0 and onto.distance(here, 2.0) <= DIFFERENT:
        yield Finding(
            "gradients-not-cleared",
            f"`{here.name}` adds its gradients to existing ones: begin it with optimizer.zero_grad(). `step` clears "
            "them itself, but ascent_step(), torch's own optimizers and other callers do not",
            "warning",
        )


def weights_without_gradient(here: Pass, names: Sequence[str]) -> Iterator[Finding]:
    """A warning: weights get no gradient, which is legitimate for unused heads."""
    without = [name for name, g in zip(names, here.gradients, strict=True) if g is None]
    if without:
        yield Finding(
            "weights-without-gradient",
            f"`{here.name}` leaves no gradient in {listed(without)}: they are never trained. Construct the optimizer "
            "with the parameters of the model that the closure uses, or freeze them with requires_grad_(False)",
            "warning",
        )


def moving_state(here: Pass, optimizer: SharpnessAware, reported: Pass | None = None) -> Iterator[Finding]:
    """A warning: buffers, attributes or frozen parameters change in every pass, also at perturbed weights.

    What a pass that has been `reported` changes as well is left out.
    """
    handled = set(optimizer.model.modules()) if optimizer.model is not None else set[nn.Module]()
    known = dict(() if reported is None else reported.moved)
    left = {name: module for name, module in here.moved if module not in handled and name not in known}
    buffers = [name for name, module in left.items() if name.rpartition(".")[2] in module._buffers]
    others = [name for name in left if name not in buffers]
    advice = (
        "the network that was given to the optimizer as `model` does not contain them: give it one that does, such as "
        "torch.nn.ModuleList([network, other])"
        if handled
        else "give the network to the optimizer, as `model=model` or optimizer.model = model"
    )
    for names, code in ((buffers, "buffers-move-in-each-pass"), (others, "state-moves-in-each-pass")):
        if names:
            yield Finding(
                code,
                f"{listed(names)} change in every pass of a step, including those at perturbed weights: {advice}",
                "warning",
            )


def changed_modes(here: Pass, optimizer: SharpnessAware) -> Iterator[Finding]:
    """The closure leaves modules in another mode, in which the next pass begins; a warning if `step` puts it back."""
    if not here.modes:
        return
    handled = optimizer.model is not None
    consequence = (
        "`step` puts them back, other callers do not" if handled else "the next pass of the step runs in these modes"
    )
    yield Finding(
        "modes-changed",
        f"`{here.name}` leaves {listed(here.modes)} in another mode (training or evaluation) than before: "
        f"{consequence}. End it with the modes that it began with, or do not call train() and eval() in it",
        "warning" if handled else "error",
    )


def moving_weights(here: Pass) -> Iterator[Finding]:
    """The closure changes trained weights itself, in every pass, also where the weights are perturbed."""
    if here.renormed:
        yield Finding(
            "weights-move-in-each-pass",
            f"`{here.name}` changes {listed(here.renormed)} itself, as Embedding(max_norm=...) does, and so does every "
            "pass of a step, also at perturbed weights and on validation data: change them after `step` instead",
            "warning",
        )


# --- both closures --------------------------------------------------------------------------------------------------


def no_validation_closure(optimizer: SharpnessAware, validation_closure: Closure | None) -> Iterator[Finding]:
    """A learned radius without a validation closure; `step` would raise."""
    if optimizer.radius.learns and validation_closure is None:
        yield Finding(
            "no-validation-closure",
            "a learned radius needs a validation closure: hold out some of the training data, and pass step() a "
            "closure on a batch of it, or set optimizer.validation_closure",
        )


def no_outputs(found: bool) -> Iterator[Finding]:
    """A calibrated objective without outputs to calibrate is the plain validation loss."""
    if not found:
        yield Finding(
            "no-outputs",
            "`CalibratedLoss` finds no outputs in `validation_closure`, so it is `ValidationLoss`: call the network as "
            "a module, or the result of torch.compile(model), within the closure",
            "warning",
        )


def same_batch(here: Pass, held_out: Pass) -> Iterator[Finding]:
    """Both closures use the same batch, from which a radius learns nothing about generalization."""
    if here.finite() and max(held_out.distance(here), held_out.loss_distance(here)) <= EQUAL:
        yield Finding(
            "same-batch",
            "`validation_closure` gives the same loss and gradients as `closure`: it must run on a batch that the "
            "model is not trained on. A common cause is closures made in a loop that capture the loop variable",
        )


# --- the optimizer --------------------------------------------------------------------------------------------------


def weights_not_held(optimizer: SharpnessAware, model: nn.Module | None) -> Iterator[Finding]:
    """A warning: the optimizer does not hold all trainable weights, which may be intended."""
    held = {p for group in optimizer.param_groups for p in group["params"]}
    named = model.named_parameters() if model is not None else ()
    left_out = [name for name, p in named if p.requires_grad and p not in held]
    if left_out:
        yield Finding(
            "weights-not-held",
            f"the optimizer does not hold {listed(left_out)}: they are neither perturbed nor trained. Add them with "
            "add_param_group(), or freeze them with requires_grad_(False)",
            "warning",
        )


def stale_scheduler(optimizer: SharpnessAware, scheduler: Any) -> Iterator[Finding]:
    """The scheduler was made with another optimizer, or before a param group was added."""
    if scheduler is None:
        return
    groups = scheduler.optimizer.param_groups
    if [id(group) for group in groups] != [id(group) for group in optimizer.param_groups]:
        yield Finding(
            "stale-scheduler",
            f"`scheduler` sets the learning rate of another {type(scheduler.optimizer).__name__}: construct it with "
            "this optimizer or its base_optimizer, after these have been constructed for the last time",
        )
    elif len(groups) != len(getattr(scheduler, "base_lrs", groups)):
        yield Finding(
            "stale-scheduler",
            f"`scheduler` knows {len(scheduler.base_lrs)} of the optimizer's {len(groups)} param groups: construct it "
            "after the last add_param_group()",
        )
    for part in getattr(scheduler, "_schedulers", ()):  # of SequentialLR and ChainedScheduler
        yield from stale_scheduler(optimizer, part)


def loss_without_zero(optimizer: SharpnessAware, here: Pass) -> Iterator[Finding]:
    """A warning: a loss budget, or the curvature limit of a learned radius's prior, is relative to a loss without 0."""
    radius = optimizer.radius
    if isinstance(radius, LossBudgetRadius) and radius.relative and here.loss < 0:
        what = f"the loss of `{here.name}` is negative, so a radius relative to it is 0: use relative=False"
        yield Finding("loss-without-zero", what, "warning")
    rule = radius.rule if isinstance(radius, LearnedRadius) else None
    prior = rule.prior if isinstance(rule, LogAdam) else None
    if prior is None or prior.rise is None or not here.finite():
        return
    loss, rise = float(here.loss), prior.reach * float(norm(here.present))  # by the slope alone
    if loss >= 0 and (rise == 0 or loss <= LARGEST_LOSS * rise):
        return
    what = "is negative" if loss < 0 else f"is {loss / rise:.1g} times what the perturbation changes to first order"
    yield Finding(
        "loss-without-zero",
        f"the loss of `{here.name}` {what}, so the curvature limit of the prior, which is relative to the loss, cannot "
        "act, and a constant in the loss changes the learned radius: drop the constant, or use "
        "rule=LogAdam(prior=Prior(rise=None))",
        "warning",
    )


def radius_never_updated(optimizer: SharpnessAware) -> Iterator[Finding]:
    """A warning: the updates of a learned radius need two active steps in a row, which `active` never gives."""
    radius, active = optimizer.radius, optimizer.active
    if not isinstance(radius, LearnedRadius) or active is None or radius.objective.training_batch == "same":
        return
    now = optimizer._parts.steps
    ahead = [is_active(active, step) for step in range(now, now + STEPS_AHEAD)]
    if any(ahead) and not any(one and other for one, other in pairwise(ahead)):
        yield Finding(
            "radius-never-updated",
            "`active` has no two steps in a row, so the learned radius is never updated: each update uses the step "
            'just before it. Use SquaredGap(training_batch="same") or ValidationLoss(training_batch="same") as its '
            "objective, or longer runs of active steps",
            "warning",
        )


def doubtful_radius(optimizer: SharpnessAware) -> Iterator[Finding]:
    """What the steps so far have shown about the learned radius."""
    if (text := radius_warning(optimizer)) is not None:
        yield Finding("doubtful-radius", text, "warning")


def subclass_without_rule(optimizer: SharpnessAware) -> Iterator[Finding]:
    """A subclass of an optimizer whose update rule is known: it is not assumed to have the same update."""
    if not optimizer.radius.learns:
        return
    for base in optimizers_in(optimizer.base_optimizer):
        parents = [kind.__name__ for kind in type(base).__mro__[1:] if kind in BUILT_IN]
        if parents and not is_differentiated(base):
            name = type(base).__name__
            yield Finding(
                "subclass-without-rule",
                f"the learned radius takes the update of {name} for theta - lr * gradient, as a subclass may have "
                f"another update than its parent: if it is the same, call letsam.register_update_rule({name}, "
                f"torch.optim.{parents[0]}), else register a rule",
                "warning",
            )


def radius_out_of_proportion(
    optimizer: SharpnessAware, here: Pass, perturbed: Sequence[tuple[Tensor, Tensor] | None]
) -> Iterator[Finding]:
    """The perturbation is too large compared with the weights, or too small to change them in their dtype."""
    climbed = [(w, *there) for w, there in zip(here.weights, perturbed, strict=False) if there is not None]
    if not climbed or not here.finite() or bool((optimizer.rho == 0).all()):
        return
    radii = sorted(optimizer.rho.reshape(-1).tolist())
    rho = f"{radii[0]:.2g}" if len(radii) == 1 else f"{radii[0]:.2g} to {radii[-1]:.2g}"
    length = float(norm([w for w, _, _ in climbed]))
    share = float(norm([p - w for w, p, _ in climbed])) / length if length > 0 else 0.0  # 0: all weights are 0
    if share > LARGEST_SHARE:
        yield Finding(
            "radius-too-large",
            f"a radius of {rho} moves the weights by {share:.0%} of their norm: make rho smaller (SAM: 0.01 to 0.5 for "
            "networks from scratch, ASAM: 0.1 to 2, relative radii: 0.002 to 0.05)",
            "warning",
        )
    # Not counted: entries with direction 0, which the perturbation may have masked, and weights of 0, which any
    # addition changes and which a layerwise radius does not perturb.
    movable = [aimed & (w != 0) for w, _, aimed in climbed]
    count = sum(int(mask.sum()) for mask in movable)
    unmoved = sum(int((mask & (w == p)).sum()) for mask, (w, p, _) in zip(movable, climbed, strict=True))
    if unmoved > LARGEST_UNMOVED * count:
        dtypes = " and ".join(sorted({str(w.dtype).removeprefix("torch.") for w, _, _ in climbed}))
        yield Finding(
            "radius-vanishes",
            f"a radius of {rho} leaves {unmoved / count:.0%} of the weights unchanged, because the precision of "
            f"{dtypes} is too low for it: keep the weights in float32 (and compute under autocast), or make rho larger",
            "warning",
        )


def listed(names: Sequence[str]) -> str:
    """The first few names, and how many more there are."""
    more = len(names) - SHOWN_NAMES
    return ", ".join(f"`{name}`" for name in names[:SHOWN_NAMES]) + (f" and {more} more" if more > 0 else "")
