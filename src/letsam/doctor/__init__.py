"""Find mistakes in a training loop before training: `letsam.check`, and `letsam doctor` on the command line.

`findings` has one function per kind of mistake; `sandbox` runs the closures and restores all state afterwards.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from torch import nn

from .. import checks
from ..closures.closure import Closure, checked_closure
from ..closures.selection import Selected
from ..optimizer import SharpnessAware
from ..step.calibration import OutputCalibration
from ..step.snapshot import checked_model
from . import findings
from .findings import Finding
from .sandbox import Sandbox, UnusableClosure

__all__ = ["Finding", "check"]

PAGES = {
    "buffers-move-in-each-pass": "how-to/batchnorm-and-dropout",
    "loss-without-zero": "how-to/radii",
    "no-outputs": "how-to/radii",
    "no-validation-closure": "how-to/plain-loop",
    "radius-never-updated": "how-to/radii",
    "radius-too-large": "how-to/radii",
    "radius-vanishes": "how-to/mixed-precision",
    "same-batch": "how-to/validation-data",
    "sparse-gradients": "limitations",
    "state-moves-in-each-pass": "how-to/state-of-modules",
    "subclass-without-rule": "base-optimizers",
}
"""The page that explains a finding, where it is not that of the doctor."""


def check(
    optimizer: SharpnessAware,
    closure: Closure,
    validation_closure: Closure | None = None,
    model: nn.Module | None = None,
    *,
    scheduler: object = None,
) -> list[Finding]:
    """Find mistakes in a training loop that raise no error, or raise one far from their cause.

    The closures run a few times, at the current weights and near them. No step is taken. Weights, gradients, moments,
    buffers, attributes and modes of modules, radius, metrics and random generators are restored afterwards. What a
    closure consumes, such as batches of an iterator, stays consumed.

    Args:
        optimizer: a letsam optimizer.
        closure: as for `step`.
        validation_closure: as for `step`; None: `optimizer.validation_closure`.
        model: the network whose weights the optimizer should hold; None: `optimizer.model`.
        scheduler: a learning rate scheduler of `torch.optim.lr_scheduler`, or an object with its attribute `optimizer`.

    Returns:
        The findings, errors first; an empty list if nothing is wrong.

    Raises:
        TypeError: an argument of the wrong type.
        ValueError: no closure, or a model without any of the optimizer's weights.

    Example:
        >>> import torch, letsam
        >>> model = torch.nn.Linear(2, 1)
        >>> opt = letsam.SAM(torch.optim.SGD(model.parameters(), lr=0.1))
        >>> def closure():
        ...     loss = model(torch.ones(4, 2)).square().mean()
        ...     loss.backward()
        ...     return loss
        >>> for finding in letsam.check(opt, closure):
        ...     print(finding.severity, finding.code)
        warning gradients-not-cleared
    """
    if not isinstance(optimizer, SharpnessAware):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"`optimizer` must be a letsam optimizer, got {checks.shown(optimizer)}")
    checked_closure(closure)
    validation_closure = validation_closure or optimizer.validation_closure
    if validation_closure is not None and not callable(validation_closure):
        raise TypeError(f"`validation_closure` must be a function or None, got {checks.shown(validation_closure)}")
    model = optimizer.model if model is None else model
    if model is not None:
        checked_model(model, [p for group in optimizer.param_groups for p in group["params"]])
    if scheduler is not None and not hasattr(scheduler, "optimizer"):
        raise TypeError(f"`scheduler` must be a learning rate scheduler or None, got {checks.shown(scheduler)}")

    if isinstance(closure, Selected):
        closure = closure.on_all  # `letsam.selected`: the same batch in every pass, and the closure stays as new
    with Sandbox(optimizer, model) as sandbox:
        examined = _examine(sandbox, closure, validation_closure, scheduler)
        found = [dataclasses.replace(one, page=PAGES.get(one.code, one.page)) for one in examined]
    return sorted(found, key=lambda finding: finding.severity)  # "error" sorts before "warning"


def _examine(
    sandbox: Sandbox, closure: Closure, validation_closure: Closure | None, scheduler: object
) -> Iterator[Finding]:
    optimizer = sandbox.optimizer
    yield from findings.no_validation_closure(optimizer, validation_closure)
    yield from findings.weights_not_held(optimizer, sandbox.model)
    yield from findings.stale_scheduler(optimizer, scheduler)
    yield from findings.radius_never_updated(optimizer)
    yield from findings.subclass_without_rule(optimizer)
    yield from findings.doubtful_radius(optimizer)
    try:
        here = sandbox.run(closure, "closure")
        yield from findings.not_finite(here)
        yield from findings.loss_without_zero(optimizer, here)
        yield from findings.weights_without_gradient(here, sandbox.weight_names)
        yield from findings.moving_state(here, optimizer)
        yield from findings.moving_weights(here)
        yield from findings.changed_modes(here, optimizer)
        yield from findings.not_deterministic(here, sandbox.run(closure, "closure"))
        yield from findings.not_recomputed(here, sandbox.run_nearby(closure, here))
        yield from findings.gradients_not_cleared(here, sandbox.run(closure, "closure", gradients=here.gradients))
        if validation_closure is not None:
            held_out = sandbox.run(validation_closure, "validation_closure")
            yield from findings.moving_state(held_out, optimizer, here)
            yield from findings.moving_weights(held_out)
            yield from findings.changed_modes(held_out, optimizer)
            yield from findings.not_finite(held_out)
            yield from findings.not_recomputed(held_out, sandbox.run_nearby(validation_closure, held_out))
            yield from findings.same_batch(here, held_out)
            if optimizer.radius.wants(0).calibrates:
                with OutputCalibration() as calibration:
                    sandbox.run(validation_closure, "validation_closure")
                yield from findings.no_outputs(calibration.found)
        elif optimizer.radius.learns:
            return
        yield from findings.radius_out_of_proportion(optimizer, here, sandbox.climb(closure, validation_closure))
    except UnusableClosure as unusable:
        yield unusable.finding
